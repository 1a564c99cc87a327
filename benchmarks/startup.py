"""Where the start of a command goes: CPU time of new processes, in turns.

*base* is `import torch, transformers, mmengine, mmcv`. Each further step does all that the one
before it does and one thing more, up to drawing a picture; *demo* is `fgclip-det demo` with its
bundled pictures. User and system time of the whole process, its end included, count.

    python benchmarks/startup.py --threads 1
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report, timing
from benchmarks.publishing import announce, publish
from fgclip_det.apis.detector_loading import BUNDLED

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = 1.5
BASE, DEMO = "base", "fgclip-det demo"
PICTURE = str(sorted((BUNDLED / "images").glob("*.png"))[0])
# What each step adds. `compat` comes first in ours, so that it can make modules of mm* late.
STEPS = {
    BASE: "import torch, transformers, mmengine, mmcv",
    "mmengine.runner, mmcv.ops": "import fgclip_det.compat, mmengine.runner, mmcv.ops",
    "mmdet.datasets, mmdet.evaluation": "import mmdet.datasets, mmdet.evaluation",
    "mmdet.models": "import mmdet.models",
    "fgclip_det.encoders": "import fgclip_det.encoders",
    "fgclip_det.models": "import fgclip_det.models",
    "the rest of the interface": "from fgclip_det.apis import OpenVocabInferencer as Detector",
    "loading the bundled model": "detector = Detector(device='cpu')",
    "proposing for one picture": f"regions = detector.propose([{PICTURE!r}], progress=False)",
    "naming what is in it": (
        "detector.set_vocabulary('a red ring')\n"
        "found = detector.classify(regions, [detector.encode()])"
    ),
    "importing the drawing": "import fgclip_det.apis.drawing.visualization",
}
NOTE = (
    "CPU time is the median of the rounds; *adds* is the median of what a step takes beyond the "
    f"one before it within a round, so steps can come out below 0 on a busy machine. `{DEMO}` does "
    "more than the steps, three pictures and their files, and less: it does not look for garbage "
    f"among what its imports made. The ratio is its time over that of *{BASE}*, within a round."
)


def commands(out_dir: str) -> dict[str, list[str]]:
    """The command line of each process by the name of its step."""
    lines = list(STEPS.values())
    made = {
        name: [sys.executable, "-c", "\n".join(lines[: at + 1])] for at, name in enumerate(STEPS)
    }
    made[DEMO] = [sys.executable, "-m", "fgclip_det.cli", "demo", "--out-dir", out_dir]
    return made


def cpu_seconds(command: list[str]) -> float:
    """User and system time of a process.

    Raises:
        ValueError: It failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise ValueError(f"{' '.join(command)} failed: {done.stderr[-500:]}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def measure(rounds: int, seed: int) -> dict[str, list[float]]:
    """Seconds of each step in each round, in a new order each time."""
    shuffled = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        each = commands(folder)
        # The first of each compiles what Python has not compiled yet.
        cpu_seconds(each[DEMO])
        seconds: dict[str, list[float]] = {name: [] for name in each}
        for _ in tqdm(range(rounds), unit="round", disable=None):
            for name in shuffled.sample(list(each), len(each)):
                seconds[name].append(cpu_seconds(each[name]))
    return seconds


def page(record: dict[str, Any]) -> str:
    """The figures as Markdown."""
    seconds, rows, before = record["seconds"], [], None
    for name, times in seconds.items():
        adds = [now - then for now, then in zip(times, before or times, strict=True)]
        told = f"{statistics.median(adds):+.2f}" if before and name != DEMO else ""
        rows.append([name, f"{statistics.median(times):.2f}", told])
        before = times
    ratio = {key: f"{record['ratio'][key]:.2f}" for key in ("median", "min", "max")}
    words = f"`{DEMO}` over *{BASE}*: **{ratio['median']}** ({ratio['min']} to {ratio['max']})"
    table = report.table(["up to", "CPU s", "adds"], rows)
    return "\n\n".join([f"{words}; at most {ALLOWED} is the aim.", table, NOTE])


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code (2: the user can mend it)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    timing.add_common_arguments(parser)
    args = parser.parse_args(argv)
    out = Path(args.out or ROOT / "benchmarks/results" / f"startup_cpu{'_quick' * args.quick}.json")
    try:
        if args.device != "cpu":
            raise ValueError("this benchmark is of the CPU: leave --device out")
        timing.check_common_arguments(args)
        out.parent.mkdir(parents=True, exist_ok=True)
        os.environ["OMP_NUM_THREADS"] = str(args.threads)
        settings = announce(args)
        seconds = measure(args.rounds, args.seed)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    ratio = timing.ratio_of(seconds[DEMO], seconds[BASE])
    record = {"name": "startup", "seconds": seconds, "ratio": ratio}
    return publish(out, "The start of a command", settings, [record], page(record), [])


if __name__ == "__main__":
    sys.exit(main())
