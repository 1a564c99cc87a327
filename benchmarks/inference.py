"""Times detection against the plain recipe, and what it costs to look for more names.

Cases: the detector of Shapes on the bundled weights, and FG-CLIP-B on one picture of 640 x 640 with
random weights. `propose` and `classify` together; pictures are read, resized and normalised before.
First compares the scores; where they differ no ratio is printed.

    python benchmarks/inference.py --threads 2
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import recipe_comparison, report, timing
from benchmarks.detector_calls import detection, random_texts
from benchmarks.detector_cases import Workbench
from fgclip_det.models import Regions

NAMES, QUICK_NAMES = (10, 100, 1000, 10_000), (10, 100)
_TIMES = ("pass", "classify", "product")
NOTE = (
    "Our detector looks for names whose embeddings are unit vectors in random directions; none is "
    "encoded. A ratio is the time of a whole pass, `propose` and `classify`, over that of the pass "
    "of 10 names within a round: median (min to max). Products are the two that give the cosines "
    "of the detector and of the encoder, by themselves, which no exact answer can do without. The "
    "floor is the ratio of a pass whose `classify` costs that and nothing else, by the medians."
)


def products(regions: Sequence[Regions], embeddings: Tensor) -> None:
    """Cosines of regions with (C, D) texts, for the detector and for the encoder; nothing else."""
    for image in regions:
        image.detector_embeddings @ embeddings.T
        image.region_embeddings @ embeddings.T


def measure_names(bench: Workbench, args: argparse.Namespace, rounds: int) -> dict[str, Any]:
    """Times a whole pass, and `classify` alone, for rising numbers of names.

    Args:
        bench: Where the detector and the batch come from.
        args: The command line, checked.
        rounds: Turns of each number of names.

    Returns:
        "names": for each number its times, its ratio to the first, and the detections of a batch.
    """
    detector = bench.build("ours").eval()
    counts = QUICK_NAMES if args.quick else NAMES
    dtype = timing.DTYPES[args.dtype]
    texts = {count: random_texts(detector, count, args.seed) for count in counts}
    passes = {count: detection(bench, detector, texts[count], dtype) for count in counts}
    regions, _ = passes[counts[0]]()
    alone = {count: functools.partial(detector.classify, regions, texts[count]) for count in counts}
    bare = {c: functools.partial(products, regions, texts[c].embeddings) for c in counts}
    found = {count: sum(len(image) for image in call()) for count, call in alone.items()}
    settings = (rounds, args.device)
    quiet = {"seed": args.seed, "min_seconds": 0}
    pass_times = timing.interleave(passes, *settings, **quiet)
    classify_times = timing.interleave(alone, *settings, **quiet)
    product_times = timing.interleave(bare, *settings, **quiet)
    return {
        "names": [
            {
                "names": count,
                "pass_seconds": pass_times[count],
                "ratio": timing.ratio_of(pass_times[count], pass_times[counts[0]]),
                "classify_seconds": classify_times[count],
                "product_seconds": product_times[count],
                "detections": found[count],
            }
            for count in counts
        ]
    }


def median(entry: dict[str, Any], key: str) -> float:
    """Milliseconds."""
    return statistics.median(entry[f"{key}_seconds"]) * 1000


def names_page(records: list[dict[str, Any]]) -> str:
    """A table for each case: what a whole pass and `classify` alone cost by number of names."""
    parts = ["## Names"]
    for record in records:
        rows = []
        first = median(record["names"][0], "pass")
        proposing = first - median(record["names"][0], "classify")
        for entry in record["names"]:
            whole, alone, bare = (median(entry, key) for key in _TIMES)
            row = [f"{entry['names']:,}", report.number(whole)]
            row += [recipe_comparison.ratio_text(entry["ratio"])]
            row += [f"{(proposing + bare) / first:.2f}x"]
            row += [report.number(each) for each in (alone, bare)]
            rows.append([*row, str(entry["detections"])])
        head = ["names", "pass ms", "to 10 names", "floor", "`classify` ms"]
        head += ["products ms", "detections"]
        parts += [f"### {record['label']}", report.table(head, rows)]
    return "\n\n".join([*parts, NOTE])


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; see `recipe_comparison.main`."""
    return recipe_comparison.main(
        argv,
        which="inference",
        title="Detection: speed and memory",
        description=__doc__,
        extra=measure_names,
        extra_page=names_page,
    )


if __name__ == "__main__":
    sys.exit(main())
