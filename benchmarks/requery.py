"""Times asking a picture again: `classify` on regions that are there, against the whole pass.

Cases: the detector of Shapes on the bundled weights, and FG-CLIP-B on one picture of 640 x 640 with
random weights and 1,000 proposals. Each call asks for other texts. Encoding texts is timed by
itself, since it costs the same whether the picture is new or not; so is reading regions from a
file. First makes sure that all ways give the same detections; where they do not, no share is
printed.

    python benchmarks/requery.py --threads 2
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report, timing
from benchmarks.detector_calls import random_texts
from benchmarks.detector_cases import Case, Workbench
from benchmarks.publishing import announce, publish
from benchmarks.recipe_comparison import TOLERANCE, difference, parse_args, prepare
from fgclip_det.models import Regions
from fgclip_det.vocabulary import Vocabulary

NAMES, QUICK_NAMES = (1, 10, 100, 1000), (1, 10)
PARTS = ("pass", "again", "file", "encode")
MIN_SECONDS = 1.0
# New texts of each number of names that are made beforehand; turns take them in a circle.
_QUESTIONS = 8
NOTE = (
    "A pass is `propose` and `classify`, from pixels; *again* is `classify` of the regions of an "
    "earlier pass, and *file* reads these from the file that `Regions.save` wrote before. What is "
    "looked for changes from call to call, and its embeddings are there; *encode* makes the "
    "embeddings of as many new names with the text tower. The share is the time of *again* over "
    "that of the pass within a round: median (min to max)."
)
Record = dict[str, Any]


def new_names(count: int) -> Iterator[Vocabulary]:
    """So many names that were not seen before, again and again."""
    for number in itertools.count():
        yield Vocabulary.parse([f"thing {number} of kind {index}" for index in range(count)])


class Questions:
    """The ways to an answer, on one detector and one batch.

    Args:
        bench: Where the detector and the batch come from.
        dtype: float32, or bfloat16 for mixed precision.
    """

    def __init__(self, bench: Workbench, dtype: torch.dtype) -> None:
        self.bench, self.dtype = bench, dtype
        self.detector = bench.build("ours").eval()
        self.detector.text_cache_dir = None
        self.data = self.detector.data_preprocessor(bench.batch(training=False), False)
        self.regions = self.propose()
        self.files = [bench.folder / f"{number}.safetensors" for number in range(len(self.regions))]
        for image, path in zip(self.regions, self.files, strict=True):
            image.save(path)

    def propose(self) -> list[Regions]:
        """The part of a pass that knows no words."""
        with torch.autocast(self.bench.device, self.dtype, enabled=self.dtype != torch.float32):
            return self.detector.propose(self.data["inputs"], self.data["data_samples"])

    def load(self) -> list[Regions]:
        """Regions that an earlier pass has written."""
        return [Regions.load(path).to(self.bench.device) for path in self.files]

    def calls(self, count: int) -> dict[str, Callable[[], Any]]:
        """The timed calls, by name; each call gets other names."""
        embeddings = [
            random_texts(self.detector, count, self.bench.seed + number)
            for number in range(_QUESTIONS)
        ]
        texts, names = itertools.cycle(embeddings), new_names(count)
        classify = self.detector.classify
        return {
            "pass": lambda: classify(self.propose(), next(texts)),
            "again": lambda: classify(self.regions, next(texts)),
            "file": lambda: classify(self.load(), next(texts)),
            "encode": lambda: self.detector.encode_vocabulary(next(names)),
        }

    def difference(self, count: int) -> float:
        """Largest difference between the scores of a pass and of the other ways."""
        texts = random_texts(self.detector, count, self.bench.seed)
        ways = (self.propose(), self.regions, self.load())
        found = [(way, self.detector.classify(way, texts)) for way in ways]
        return max(difference("inference", found[0], other) for other in found[1:])


def measure(bench: Workbench, args: argparse.Namespace, rounds: int) -> Record:
    """Times every way for rising numbers of names."""
    ask = Questions(bench, timing.DTYPES[args.dtype])
    entries = []
    for count in QUICK_NAMES if args.quick else NAMES:
        worst = ask.difference(count)
        seconds = timing.interleave(
            ask.calls(count),
            rounds,
            args.device,
            seed=args.seed,
            min_seconds=0 if args.quick else MIN_SECONDS,
        )
        same = worst <= TOLERANCE["inference"][args.dtype]
        share = timing.ratio_of(seconds["again"], seconds["pass"]) if same else None
        entry = {"names": count, "difference": worst, "seconds": seconds, "share": share}
        entries.append(entry)
    return {
        "regions": [len(image) for image in ask.regions],
        "file_bytes": sum(path.stat().st_size for path in ask.files),
        "names": entries,
    }


def run(args: argparse.Namespace, cases: list[Case]) -> list[Record]:
    """Measures every case behind a progress bar."""
    records = []
    for case in tqdm(cases, unit="case", disable=None):
        rounds = min(args.rounds, case.rounds or args.rounds)
        bench = Workbench(case, args.device, args.seed)
        about = {"name": case.name, "label": case.label, "config": case.config}
        try:
            measured = measure(bench, args, rounds)
        finally:
            bench.close()
        records.append({**about, "images": case.images, "rounds": rounds, **measured})
    return records


def share_text(share: dict[str, float] | None) -> str:
    """Median (min to max) in percent, or that there is none."""
    if share is None:
        return "results differ"
    low, middle, high = (f"{100 * share[key]:.2f}" for key in ("min", "median", "max"))
    return f"**{middle} %** ({low} to {high})"


def page(records: list[Record]) -> str:
    """A table for each case."""
    parts = []
    for record in records:
        rows = []
        for entry in record["names"]:
            times = {key: statistics.median(entry["seconds"][key]) * 1000 for key in PARTS}
            first = [f"{entry['names']:,}", report.number(times.pop("pass"))]
            again = [report.number(times.pop("again")), share_text(entry["share"])]
            rows.append([*first, *again, *map(report.number, times.values())])
        head = ["names", "pass ms", "again ms", "share of a pass", "file ms", "encode ms"]
        found = f"{sum(record['regions']):,} regions, {record['file_bytes'] / 1e6:.1f} MB in files."
        parts += [f"### {record['label']}", found, report.table(head, rows)]
    return "\n\n".join([*parts, NOTE])


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code (1: results differ, 2: the user can mend it)."""
    args = parse_args(argv, __doc__, with_memory=False)
    try:
        cases, out = prepare(args, "inference", "requery")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    settings = announce(args)
    records = run(args, cases)
    entries = [(record["label"], entry) for record in records for entry in record["names"]]
    differing = [label for label, entry in entries if entry["share"] is None]
    return publish(out, "Asking again", settings, records, page(records), differing)


if __name__ == "__main__":
    sys.exit(main())
