"""Shared parts of the benchmarks: settings, interleaved timing and ratios.

A machine is never quiet: its clock, its caches and its other users change while a benchmark runs.
So the implementations take turns, in a random order in each round, and a ratio is taken within a
round, between neighbours in time. Reported are the median of the rounds' ratios and their range.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import math
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import fgclip_det
from fgclip_det.compat.mmcv_ext import has_compiled_ops
from fgclip_det.ops import backend

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
MAX_REPEATS = 1000


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that every benchmark understands alike."""
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, help="CPU threads; as many as torch takes if left")
    parser.add_argument("--rounds", type=int, help="rounds of a case: 7, with --quick 2")
    parser.add_argument("--dtype", default="float32", choices=tuple(DTYPES))
    parser.add_argument("--seed", type=int, default=0, help="of inputs and of the order in rounds")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--out", help="JSON to write; the Markdown goes beside it")


def check_common_arguments(args: argparse.Namespace) -> None:
    """Completes `args` in place (rounds, threads) and sets torch's threads.

    Raises:
        ValueError: A device that is not there, or a number that makes no sense.
    """
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda, but torch sees no CUDA device here; use --device cpu")
    if args.rounds is None:
        args.rounds = 2 if args.quick else 7
    if args.threads is None:
        args.threads = torch.get_num_threads()
    for name in ("rounds", "threads"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} must be at least 1, not {getattr(args, name)}")
    torch.set_num_threads(args.threads)


def _version(*packages: str) -> str | None:
    """Version of the first of some distributions that is installed."""
    for package in packages:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def processor(device: str) -> str:
    """Name of the GPU, or of the CPU with its number of cores and the instructions torch uses."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"


def mmcv_state() -> str:
    """Version of mmcv, and whether its own operators are compiled."""
    version = _version("mmcv", "onedl-mmcv", "mmcv-lite")
    if has_compiled_ops():
        return f"{version}, compiled"
    found = f"{version}, not compiled" if version else "not installed"
    return f"{found}: torchvision's operator stands for mmcv's"


def describe_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Everything about machine and run that a reader needs to repeat it, ready for JSON."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "date": now.strftime("%Y-%m-%d %H:%M UTC"),
        "device": args.device,
        "processor": processor(args.device),
        "threads": args.threads,
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "dtype": args.dtype,
        "rounds": args.rounds,
        "seed": args.seed,
        "quick": args.quick,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if args.device == "cuda" else None,
        "torchvision": _version("torchvision"),
        "mmcv": mmcv_state(),
        "fgclip_det": fgclip_det.__version__,
        "fgclip_det_kernels": backend()[args.device],
    }


def busy_warning(settings: Mapping[str, Any]) -> str | None:
    """A line about other work on the machine, or None where there is room for the threads."""
    load, cores = settings["load_average"], os.cpu_count()
    if settings["device"] == "cuda" or load is None or not cores:
        return None
    if load + settings["threads"] <= cores + 0.5:
        return None
    return (
        f"warning: a load of {load} and {settings['threads']} threads on {cores} cores: threads "
        "wait for each other, and the times of operators that use several are too long"
    )


def seconds_of(
    call: Callable[[], Any],
    repeats: int,
    device: str,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Mean time of `repeats` calls in a row; on CUDA the device's own time, by events."""
    if device == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        for _ in range(repeats):
            call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000 / repeats
    begin_time = clock()
    for _ in range(repeats):
        call()
    return (clock() - begin_time) / repeats


def interleave(
    calls: Mapping[str, Callable[[], Any]],
    rounds: int,
    device: str,
    *,
    seed: int,
    min_seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Times calls in turns.

    Args:
        calls: What to time, by name. Each is called twice before it counts.
        rounds: How often each has its turn; the order is drawn anew in each round.
        device: "cpu" or "cuda".
        seed: Of the order.
        min_seconds: A turn repeats its call until it lasts about as long.
        clock: Seconds on the CPU; `time.process_time` leaves out what other processes take.

    Returns:
        Seconds of one call, by name, one figure for each round.
    """
    order = random.Random(seed)
    repeats = {}
    for name, call in calls.items():
        seconds_of(call, 1, device, clock)
        once = max(seconds_of(call, 1, device, clock), 1e-7)
        repeats[name] = min(max(1, math.ceil(min_seconds / once)), MAX_REPEATS)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        names = list(calls)
        order.shuffle(names)
        for name in names:
            times[name].append(seconds_of(calls[name], repeats[name], device, clock))
    return times


def ratio_of(peer: Sequence[float], ours: Sequence[float]) -> dict[str, float]:
    """Median, min and max of the rounds' ratios: how many times faster `ours` is than `peer`."""
    ratios = [theirs / mine for theirs, mine in zip(peer, ours, strict=True)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
