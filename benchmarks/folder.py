"""A folder of many pictures: what writing results costs beside detection, and whether memory grows.

The bundled pictures under many names, the detector of Shapes. *alone* is `propose` and `classify`
of a part of them; *command* is what `fgclip-det detect --no-save-vis` does with the same, files and
`results.jsonl` included, once the detector is loaded. Memory is the resident memory of a process
that does the whole folder, looked at every hundred pictures.

    python benchmarks/folder.py --threads 2
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import memory, report, timing
from benchmarks.publishing import announce, publish
from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.apis.detector_loading import BUNDLED
from fgclip_det.apis.inputs.picture_lists import named_images
from fgclip_det.cli.detect import look_into
from fgclip_det.cli.report import Report
from fgclip_det.cli.results import Results, about_run

ROOT = Path(__file__).resolve().parents[1]
PICTURES, PART, STEP = 2000, 20, 100
QUICK_PICTURES, QUICK_PART, QUICK_STEP = 12, 4, 2
THRESHOLD = 0.3
NOTE = (
    "The share is the throughput of the command over that of `propose` and `classify` alone, "
    "within a round. Growth is the median slope of the resident memory behind the first quarter "
    "of the folder."
)


def make_folder(folder: Path, count: int) -> None:
    """Put the bundled pictures into a folder, under as many names as asked for."""
    pictures = sorted((BUNDLED / "images").glob("*.png"))
    for number in range(count):
        shutil.copy(pictures[number % len(pictures)], folder / f"{number:06}.png")


class Work:
    """A detector that was asked for words, and the ways to look into pictures with it."""

    def __init__(self) -> None:
        # Shares: the threshold is of those.
        self.detector = OpenVocabInferencer(device="cpu", calibration=None)
        self.detector.set_negatives(None)
        self.detector.set_vocabulary(BUNDLED / "vocabulary.json")

    def alone(self, names: dict[str, str]) -> int:
        """Detect and keep nothing; returns the number of detections."""
        texts = self.detector.encode()
        found = 0
        for path in names:
            regions = self.detector.propose(path, progress=False)
            found += sum(map(len, self.detector.classify(regions, [texts], THRESHOLD)))
        return found

    def command(self, names: dict[str, str], out: Path, told: Report | None = None) -> int:
        """Detect and write what the command writes; returns the number of detections."""
        told = told or Report(is_quiet=True)
        settings = argparse.Namespace(
            score_thr=THRESHOLD, conf_thr=None, one_name=False, batch_size=1
        )
        results = Results(out, with_drawings=False, with_lines=True)
        results.about = partial(about_run, self.detector, "shapes", THRESHOLD)
        with results:
            look_into(self.detector, names, settings, results, told, progress=False)
        if told.failures:
            raise ValueError(told.failures[0])
        return told.rows


class _Watched(Report):
    """Looks at the resident memory once in a while."""

    def __init__(self, step: int, total: int) -> None:
        super().__init__()
        self.step, self.resident = step, []
        self._bar = tqdm(total=total, unit="picture", disable=None)

    def add(self, *picture: Any) -> None:
        super().add(*picture)
        self._bar.update()
        if self.done % self.step == 0:
            self.resident.append((self.done, memory.resident("VmRSS")))


def growth(resident: list[tuple[int, int]]) -> float:
    """Bytes a picture behind the first quarter, while caches and pools still fill.

    The median of the slopes between all pairs of looks, which a single odd look does not turn.
    """
    kept = resident[len(resident) // 4 :]
    slopes = [(b - a) / (i - h) for (h, a), (i, b) in itertools.combinations(kept, 2)]
    return statistics.median(slopes)


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Time both ways in turns, then look at the memory of the whole folder."""
    count, part, step = (
        (QUICK_PICTURES, QUICK_PART, QUICK_STEP) if args.quick else (PICTURES, PART, STEP)
    )
    (folder / "in").mkdir()
    make_folder(folder / "in", count)
    names = named_images([folder / "in"])
    few = dict(list(names.items())[:part])
    work, out = Work(), folder / "out"
    found = {"alone": work.alone(few), "command": work.command(few, out)}
    calls = {"alone": lambda: work.alone(few), "command": lambda: work.command(few, out)}
    seconds = timing.interleave(calls, args.rounds, "cpu", seed=args.seed, min_seconds=0)
    watched = _Watched(step, count)
    work.command(names, folder / "whole", watched)
    return {
        "name": "shapes",
        "pictures": count,
        "part": part,
        "detections": found,
        "seconds": seconds,
        "share": timing.ratio_of(seconds["alone"], seconds["command"]),
        "resident": watched.resident,
        "growth_bytes": growth(watched.resident),
    }


def page(record: dict[str, Any]) -> str:
    """The figures as Markdown."""
    each = {name: 1000 * min(times) / record["part"] for name, times in record["seconds"].items()}
    share = {key: f"{record['share'][key]:.3f}" for key in ("median", "min", "max")}
    sizes = [size for _, size in record["resident"]]
    rows = [
        ["alone, ms a picture (least)", report.number(each["alone"])],
        ["command, ms a picture (least)", report.number(each["command"])],
        ["share of throughput", f"**{share['median']}** ({share['min']} to {share['max']})"],
        ["pictures of the folder", f"{record['pictures']:,}"],
        ["memory grows by, bytes a picture", f"**{record['growth_bytes']:.0f}**"],
        ["resident, MB, first to last look", f"{sizes[0] / 1e6:.1f} to {sizes[-1] / 1e6:.1f}"],
    ]
    return "\n\n".join([report.table(["what", "figure"], rows), NOTE])


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code (1: results differ, 2: the user can mend it)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    timing.add_common_arguments(parser)
    args = parser.parse_args(argv)
    stem = "folder_cpu" + "_quick" * args.quick
    out = Path(args.out or ROOT / "benchmarks" / "results" / f"{stem}.json")
    try:
        if args.device != "cpu":
            raise ValueError("this benchmark is of the CPU: leave --device out")
        timing.check_common_arguments(args)
        out.parent.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    settings = announce(args)
    with tempfile.TemporaryDirectory() as folder:
        record = measure(args, Path(folder))
    found = record["detections"]
    differing = [] if found["alone"] == found["command"] else [record["name"]]
    return publish(out, "A folder of pictures", settings, [record], page(record), differing)


if __name__ == "__main__":
    sys.exit(main())
