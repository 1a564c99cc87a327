"""Hostile inputs for all commands and tools, each in a fork with limits.

    python tests/hostile/run.py [-k PART] [--jobs N] [--keep FOLDER]

A command must end by itself, with the exit code for what happened and one line that says it; what
it wrote is whole, what it read is as it was, and nothing in a file was executed. The exit code is 1
if a case failed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# Before any import that would start threads: a fork takes along only the one that forks.
os.environ.update(
    dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    MPLBACKEND="agg",
)
# In place of this folder, whose files are no modules of their own.
sys.path[0] = str(Path(__file__).resolve().parents[2])


# `compat` first: MMDetection cannot be imported before it.
MODULES = (
    *("fgclip_det.compat", "fgclip_det.apis.doctor", "fgclip_det.apis.fg_ovd"),
    *("fgclip_det.apis.inferencer", "fgclip_det.apis.drawing.visualization", "fgclip_det.cli"),
    *("fgclip_det.datasets.prepare", "fgclip_det.datasets.shapes", "fgclip_det.engine"),
    *("fgclip_det.evaluation.region_accuracy", "fgclip_det.fg_ovd", "fgclip_det.pretrain"),
    *("mmdet.datasets", "mmdet.evaluation", "mmdet.models", "mmengine.runner"),
    *("pycocotools.cocoeval", "transformers", "PIL.Image"),
)

KINDS = (
    *("pictures", "vocabularies", "encoders", "detectors", "coco_files", "fg_ovd_files"),
    *("measuring", "calibrating", "arguments", "moments"),
)


def import_everything() -> None:
    """All that the commands import, so that a fork has it at once; computes nothing."""
    import cv2
    import torch

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    cv2.setNumThreads(0)
    for name in MODULES:
        importlib.import_module(name)
    sys.modules["PIL.Image"].init()


def threads() -> int:
    """Of this process."""
    return len(os.listdir("/proc/self/task"))


def in_fork(work, *arguments) -> None:
    """Calls a function where threads that it starts do no harm.

    Raises:
        RuntimeError: It failed.
    """
    child = os.fork()
    if not child:
        code = 1
        try:
            work(*arguments)
            code = 0
        finally:
            if code:
                import traceback

                traceback.print_exc()
            os._exit(code)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("the good files could not be made")


def run(cases: list, root: Path, jobs: int, limits) -> Iterator[tuple]:
    """Yields (case, seconds, complaints) as the cases end."""
    from tests.hostile.case import Room
    from tests.hostile.fork import clean_up, end, start
    from tests.hostile.shared_data import Data, build
    from tests.hostile.verdict import complaints

    data = Data(root / "data")
    in_fork(build, data.root)
    # Cases may write nothing but their own folders, and so not its list of the machine's fonts.
    in_fork(importlib.import_module, "matplotlib.font_manager")
    waiting = list(enumerate(cases))[::-1]
    running: dict[int, tuple] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            number, case = waiting.pop()
            room = Room(root / f"{number:04}")
            running[start(case, room, data, limits)] = case, room, time.monotonic()
        for child, (case, room, started) in list(running.items()):
            status = end(child, started, limits)
            if status is not None:
                del running[child]
                left = clean_up(child)
                yield case, time.monotonic() - started, complaints(case, room, status, left), room
        time.sleep(0.005)


def remove(folder: Path) -> None:
    """Also what a case forbade to be changed."""
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                os.chmod(path, stat.S_IRWXU)
    shutil.rmtree(folder, ignore_errors=True)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-k", default="", help="only cases whose id holds this")
    parser.add_argument("--every", type=int, default=1, help="only one case in so many")
    parser.add_argument("--first", type=int, default=0, help="of those, from which on")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--cpu", type=int, default=60, help="seconds of CPU for a case")
    parser.add_argument("--wall", type=float, default=180, help="seconds by the clock for a case")
    parser.add_argument("--keep", type=Path, help="folder to work in, which is left there")
    parser.add_argument("--verbose", action="store_true", help="a line for cases that passed too")
    return parser.parse_args(argv)


def all_cases() -> Iterator:
    """Of every kind; those that lie side by side are alike."""
    for name in KINDS:
        yield from importlib.import_module(f"tests.hostile.{name}").cases()


def tell(case, seconds: float, wrong: list[str], said: str) -> None:
    """Prints how a case ended."""
    print(f"{'FAILED' if wrong else 'passed'} {case.id} ({seconds:.1f} s)")
    for line in wrong:
        print(f"    {line}")
    if wrong:
        print(f"    said: {(said.strip().splitlines() or [''])[-1][-200:]!r}", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Runs the cases and prints those that failed."""
    args = parse_args(argv)
    import_everything()
    from tests.hostile.fork import Limits

    cases = [case for case in all_cases() if args.k in case.id][args.first :: args.every]
    if threads() != 1:
        raise RuntimeError(f"{threads()} threads: a fork of this process would not be sound")
    if args.keep:
        args.keep.mkdir(parents=True)
    root = args.keep or Path(tempfile.mkdtemp(prefix="hostile-"))
    failed, started = 0, time.monotonic()
    limits = Limits(cpu=args.cpu, wall=args.wall)
    try:
        for case, seconds, wrong, room in run(cases, root.resolve(), args.jobs, limits):
            failed += bool(wrong)
            if wrong or args.verbose:
                tell(case, seconds, wrong, room.said("stderr"))
            if not args.keep:
                remove(room.path)
    finally:
        if not args.keep:
            with contextlib.suppress(OSError):
                remove(root)
    print(f"{len(cases)} cases, {failed} failed, {time.monotonic() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
