"""Our detector against the plain recipe: measuring, tables and the command line of both scripts."""

from __future__ import annotations

import argparse
import contextlib
import math
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import memory, report, timing
from benchmarks.detector_calls import CALLS, peak_of
from benchmarks.detector_cases import CASES, RECIPES, ROOT, Case, Workbench, cases_of
from benchmarks.publishing import announce, publish

MIN_SECONDS = 1.0
MIB = 1 << 20
# The largest difference that still counts as the same result; of losses, what boxes of equal
# scores do by changing places, and with them which ones are drawn, has room.
TOLERANCE = {
    "train_step": {"float32": 1e-2, "bfloat16": 1e-1},
    "inference": {"float32": 1e-3, "bfloat16": 1e-1},
}
NOTE = (
    "The plain recipe is the same detector with the same weights, but the encoder's maps are "
    "copied to (N, C, h, w), boxes are pooled from such maps by torchvision's RoIAlign, and the "
    "dense map is made in training too. A ratio is the plain recipe's time over ours within a "
    "round: median (min to max). Memory is the peak above what was there before the call, result "
    "included. The difference is the largest one between the {compared} of the two."
)
COMPARED = {"train_step": "losses of the first step", "inference": "scores of the detections"}
Record = dict[str, Any]
# What a script measures beside the comparison: of a workbench, and in how many rounds.
Extra = Callable[[Workbench, argparse.Namespace, int], Record]


def parse_args(
    argv: list[str] | None, description: str, with_memory: bool = True
) -> argparse.Namespace:
    """Reads the command line; without `with_memory` no memory can be asked for."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    timing.add_common_arguments(parser)
    names = ",".join(case.name for case in CASES)
    parser.add_argument("--cases", help=f"which, with commas: {names}; with --quick shapes alone")
    parser.set_defaults(memory=None if with_memory else False)
    if with_memory:
        parser.add_argument(
            "--memory",
            action=argparse.BooleanOptionalAction,
            help="measure peak memory; left out with --quick if not asked for",
        )
    return parser.parse_args(argv)


def prepare(
    args: argparse.Namespace, which: str, stem: str | None = None
) -> tuple[list[Case], Path]:
    """Completes `args` in place; gives the cases and the JSON's path.

    Args:
        args: The command line.
        which: Of `TOLERANCE`.
        stem: What the JSON's name begins with; None takes `which`.

    Raises:
        ValueError: Something on the command line that cannot be done.
        OSError: A folder that cannot be made.
    """
    if args.cases is None:
        args.cases = ",".join(case.name for case in CASES[: 1 if args.quick else None])
    cases = cases_of(args.cases, quick=args.quick)
    if args.dtype not in TOLERANCE[which]:
        raise ValueError(
            f"--dtype is float32, or bfloat16 for mixed precision, and not {args.dtype} here"
        )
    timing.check_common_arguments(args)
    if args.memory is None:
        args.memory = not args.quick
    stem = f"{stem or which}_{args.device}" + "_quick" * args.quick
    out = Path(args.out or ROOT / "benchmarks" / "results" / f"{stem}.json")
    if out.suffix != ".json":
        raise ValueError(f"--out is the JSON, e.g. {out.with_suffix('.json')}, not {out}")
    out.parent.mkdir(parents=True, exist_ok=True)
    return cases, out


def difference(which: str, ours: Any, plain: Any) -> float:
    """Largest absolute difference between the results of two calls of `CALLS[which]`.

    A detection that only one of them gives counts with its whole score.
    """
    if which == "train_step":
        return max(abs(ours[name] - plain[name]) for name in ours if "loss" in name)
    worst = 0.0
    for mine, theirs in zip(ours[1], plain[1], strict=True):
        length = max(len(mine), len(theirs))
        padded = [d.scores.new_zeros(length) for d in (mine, theirs)]
        for row, found in zip(padded, (mine, theirs), strict=True):
            row[: len(found)] = found.scores
        if length:
            worst = max(worst, float((padded[0] - padded[1]).abs().max()))
    return worst


def compare(
    bench: Workbench,
    which: str,
    args: argparse.Namespace,
    rounds: int,
    executor: ProcessPoolExecutor | None,
) -> Record:
    """Times both recipes and asks another process for their peak memory, where there is one."""
    dtype = timing.DTYPES[args.dtype]
    calls = {recipe: CALLS[which](bench, recipe, dtype) for recipe in RECIPES}
    worst = difference(which, *(call() for call in calls.values()))
    times = timing.interleave(
        calls,
        rounds,
        args.device,
        seed=args.seed,
        min_seconds=0 if args.quick else MIN_SECONDS,
    )
    same = worst <= TOLERANCE[which][args.dtype]
    peaks = None
    if executor is not None:
        job = (dtype, args.device, args.seed)
        peaks = {
            recipe: executor.submit(peak_of, which, bench.case, recipe, *job).result()
            for recipe in RECIPES
        }
    return {
        "difference": worst if math.isfinite(worst) else None,
        "seconds": times,
        "images_per_second": {
            recipe: bench.case.images / statistics.median(values)
            for recipe, values in times.items()
        },
        "ratio": timing.ratio_of(times["plain"], times["ours"]) if same else None,
        "peak_bytes": peaks,
    }


def run(
    args: argparse.Namespace, cases: list[Case], which: str, extra: Extra | None
) -> list[Record]:
    """Measures every case behind a progress bar."""
    records = []
    with contextlib.ExitStack() as stack:
        executor = (
            stack.enter_context(memory.measuring_process(args.threads)) if args.memory else None
        )
        for case in tqdm(cases, unit="case", disable=None):
            rounds = min(args.rounds, case.rounds or args.rounds)
            bench = Workbench(case, args.device, args.seed)
            try:
                record = {
                    "name": case.name,
                    "label": case.label,
                    "config": case.config,
                    "images": case.images,
                    "rounds": rounds,
                    **compare(bench, which, args, rounds, executor),
                }
                if extra is not None:
                    record |= extra(bench, args, rounds)
            finally:
                bench.close()
            records.append(record)
    return records


def ratio_text(ratio: dict[str, float] | None) -> str:
    """Median (min to max), or that there is none."""
    if ratio is None:
        return "results differ"
    low, middle, high = (f"{ratio[key]:.2f}" for key in ("min", "median", "max"))
    return f"**{middle}x** ({low} to {high})"


def _mib(peaks: dict[str, int | None] | None, recipe: str) -> str:
    value = (peaks or {}).get(recipe)
    return "n/a" if value is None else f"{value / MIB:.0f}"


def comparison_table(records: list[Record]) -> str:
    """One line for each case."""
    head = ["Case", "ours images/s", "plain images/s", "ratio", "ours MiB", "plain MiB"]
    rows = []
    for record in records:
        speeds, worst = record["images_per_second"], record["difference"]
        row = [record["label"], *(report.number(speeds[recipe]) for recipe in RECIPES)]
        row += [ratio_text(record["ratio"]), *(_mib(record["peak_bytes"], r) for r in RECIPES)]
        rows.append([*row, "not finite" if worst is None else f"{worst:.0e}"])
    return report.table([*head, "difference"], rows)


def main(
    argv: list[str] | None,
    *,
    which: str,
    title: str,
    description: str,
    extra: Extra | None = None,
    extra_page: Callable[[list[Record]], str] | None = None,
) -> int:
    """Runs a benchmark.

    Args:
        argv: The command line.
        which: "train_step" or "inference": what is timed, and the stem of the files.
        title: Of the page.
        description: For ``--help``.
        extra: What to measure beside the comparison; it adds to a case's record.
        extra_page: A section of the page on it, of all records.

    Returns:
        The exit code; 1: results differ somewhere, 2: the user can mend it.
    """
    args = parse_args(argv, description)
    try:
        cases, out = prepare(args, which)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    settings = announce(args)
    records = run(args, cases, which, extra)
    sections = [comparison_table(records), NOTE.format(compared=COMPARED[which])]
    if extra_page is not None:
        sections.append(extra_page(records))
    differing = [record["label"] for record in records if record["ratio"] is None]
    return publish(out, title, settings, records, "\n\n".join(sections), differing)
