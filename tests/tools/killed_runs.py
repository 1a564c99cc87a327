"""Runs of tools/train.py one after the other, some of which are killed.

``killed_runs.py FILE``, where FILE holds a JSON list of runs, ``{"arguments": [...], "kill": K,
"processes": N}``. K is null or ``[point, count, rank]``: the process of that rank ends itself with
SIGKILL when it comes to the point for the count-th time; the others are killed then, as torchrun
does. Prints a JSON list of exit codes, of the process that was to be killed or else the first that
is not 0, negative ones those of signals.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist
from mmengine.fileio import LocalBackend
from mmengine.optim import OptimWrapper
from mmengine.runner import ValLoop

import fgclip_det.datasets
import fgclip_det.engine
import fgclip_det.evaluation
import fgclip_det.models
import fgclip_det.pretrain  # noqa: F401  (imported once, for all runs)

ROOT = Path(__file__).resolve().parents[2]


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _at(count: int, owner: object, name: str, before: Callable) -> None:
    """Make `owner.name` call `before(*its arguments)` when it is called for the count-th time."""
    original, calls = getattr(owner, name), []

    def counted(*args, **kwargs):
        calls.append(name)
        if len(calls) == count:
            before(*args, **kwargs)
        return original(*args, **kwargs)

    setattr(owner, name, counted)


def _write_half(backend: LocalBackend, content: bytes, path: str) -> None:
    Path(path).write_bytes(content[: len(content) // 2])
    _kill()


def arm(point: str, count: int) -> None:
    """Kill this process when it comes to `point` for the count-th time.

    Args:
        point: "step", between the gradients of an iteration and the update; "writing", with half
            of a checkpoint on disk; "naming", with all of it there under another name;
            "recording", with the checkpoint saved and `last_checkpoint` still the former one;
            "validating".
        count: From 1.
    """
    if point == "step":
        _at(count, OptimWrapper, "_clip_grad", lambda *_: _kill())
    elif point == "writing":
        _at(count, LocalBackend, "put", _write_half)
    elif point in ("naming", "recording"):
        # Each checkpoint is renamed, and then `last_checkpoint`.
        call = 2 * count - (point == "naming")
        _at(call, os, "replace", lambda *_: _kill())
    elif point == "validating":
        _at(count, ValLoop, "run", lambda *_: _kill())
    else:
        raise ValueError(point)


def fork(arguments: list[str], kill: tuple[str, int] | None, environment: dict[str, str]) -> int:
    """The id of a fork of this process that trains."""
    child = os.fork()
    if child:
        return child
    os.dup2(2, 1)
    os.environ.update(environment)
    if kill:
        arm(*kill)
    spec = importlib.util.spec_from_file_location("train", ROOT / "tools" / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    code = 1
    try:
        code = module.main(arguments)
    finally:
        sys.stderr.flush()
        os._exit(code)


def place(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun tells a process by its environment; it keeps the store."""
    told = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=count)
    told |= dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    told |= dict(TORCHELASTIC_USE_AGENT_STORE=True, TORCHELASTIC_RESTART_COUNT=0)
    return {name: str(value) for name, value in told.items()}


def run(arguments: list[str], kill: tuple[str, int, int] | None, processes: int) -> int:
    """Train in forks of this process; the exit code of the one to be killed, or the first not 0."""
    environments = [{}]
    if processes > 1:
        arguments = [*arguments, "--launcher", "pytorch"]
        # Kept here, as by torchrun: its port is nobody else's meanwhile.
        store = dist.TCPStore("127.0.0.1", 0, processes, is_master=True, wait_for_workers=False)
        environments = [place(rank, processes, store.port) for rank in range(processes)]
    children = {
        fork(arguments, kill[:2] if kill and kill[2] == rank else None, environment): rank
        for rank, environment in enumerate(environments)
    }
    codes = {}
    while children:
        child, status = os.wait()
        codes[children.pop(child)] = os.waitstatus_to_exitcode(status)
        if os.WIFSIGNALED(status):
            for other in children:
                os.kill(other, signal.SIGKILL)
    # Others may end because the killed one did, and be seen to end before it.
    return codes[kill[2]] if kill else next((codes[r] for r in sorted(codes) if codes[r]), 0)


if __name__ == "__main__":
    runs = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps([run(one["arguments"], one["kill"], one["processes"]) for one in runs]))
