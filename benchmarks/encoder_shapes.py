"""Runs the kinds of FG-CLIP's own evaluation on Shapes: retrieval, classification, boxes.

The data are those of ``tools/prepare_shapes.py``: pictures of ``pretrain_val`` with captions, those
of ``val`` with one object, and the boxes of ``val``, both told among all 192 names. What of a name
is right stands there by attribute, and of pictures with one object also for its box; and how far
retrieval comes that sees colours and patterns and no shapes.

    python benchmarks/encoder_shapes.py data/shapes fgclip_det/assets/shapes/encoder
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from fgclip_det.encoders import load_encoder
from fgclip_det.evaluation.encoder import EncoderRules, Population, Protocol
from fgclip_det.evaluation.encoder.data_sets import (
    Boxes,
    Classification,
    Retrieval,
    read_coco_boxes,
)
from fgclip_det.evaluation.encoder.data_sets.box_files import read_boxes
from fgclip_det.evaluation.encoder.features import Features
from fgclip_det.evaluation.encoder.scoring import score
from fgclip_det.exit_codes import run_tool
from fgclip_det.io import read_json_lines

# Pictures of a batch in configs/shapes/pretrain_fgclip_tiny.py.
BATCH = 32
# As the short captions of a training say it.
WORDINGS = ("a {}", "a picture of a {}", "one shape: a {}")
KINDS = {
    "short captions": Protocol("shapes", "retrieval", read_coco_boxes, ks=(1, 5)),
    "long captions": Protocol("shapes", "retrieval", read_coco_boxes, "long", ks=(1, 5)),
    "one object": Protocol("shapes", "classification", read_coco_boxes, templates=("a {}",)),
    "one object in three wordings": Protocol(
        "shapes", "classification", read_coco_boxes, templates=WORDINGS
    ),
    "its box": Protocol("shapes", "boxes", read_coco_boxes, "box", templates=("a {}",)),
    "boxes": Protocol("shapes", "boxes", read_coco_boxes, "box", templates=("a {}",)),
}


def records(root: Path) -> dict[str, Any]:
    """The record of each kind."""
    lines = [line for _, line in read_json_lines(root / "annotations" / "pretrain_val.jsonl")]
    pictures = [root / "pretrain_val" / line["file_name"] for line in lines]
    boxes = read_boxes(root / "annotations" / "val.json", root / "val")
    count = Counter(boxes.owners)
    alone = [n for n, owner in enumerate(boxes.owners) if count[owner] == 1]
    one_object = Classification(
        [boxes.pictures[boxes.owners[n]] for n in alone],
        [boxes.labels[n] for n in alone],
        boxes.names,
    )
    return {
        "short captions": Retrieval(
            pictures, [line["short_caption"] for line in lines], range(len(lines))
        ),
        "long captions": Retrieval(
            pictures, [line["long_caption"] for line in lines], range(len(lines))
        ),
        "one object": one_object,
        "one object in three wordings": one_object,
        "its box": replace(
            boxes,
            owners=[boxes.owners[n] for n in alone],
            corners=boxes.corners[alone],
            labels=[boxes.labels[n] for n in alone],
            annotation_ids=[boxes.annotation_ids[n] for n in alone],
        ),
        "boxes": boxes,
    }


def evaluate(encoder: str, data: dict[str, Any]) -> dict[str, Population]:
    """Numbers of an encoder, by kind."""
    loaded = load_encoder(encoder)
    found = {}
    for kind, protocol in KINDS.items():
        features = Features(EncoderRules(loaded, protocol.texts), progress=True)
        scored = score(protocol, data[kind], features)
        found[kind] = scored.whole_population
        if "top5" in scored.arrays:
            found[kind].expected.update(by_attribute(data[kind], scored.arrays))
    return found


def by_attribute(record: Classification | Boxes, arrays: dict[str, Any]) -> dict[str, float]:
    """How often the first name has the right colour, pattern and shape."""
    words = np.array([name.split() for name in record.names])
    right = words[np.asarray(arrays["top5"])[:, 0]] == words[np.asarray(arrays["labels"])]
    return dict(zip(("colour", "pattern", "shape"), right.mean(axis=0).tolist(), strict=True))


def without_shapes(root: Path) -> tuple[float, float]:
    """Retrieval by somebody who sees colours and patterns of all objects and no shapes.

    Returns:
        R@1 among the captions of ``pretrain_val``, ties at random, and the share of pictures that
        no other picture of a training's batch ties with.
    """
    lines = [line for _, line in read_json_lines(root / "annotations" / "pretrain_val.jsonl")]
    # Of "a red striped circle" the two words in the middle.
    seen = [tuple(sorted(r["caption"].split()[1:3] for r in line["regions"])) for line in lines]
    keys = np.array([str(one) for one in seen])
    count = Counter(keys.tolist())
    rng = np.random.default_rng(0)
    alone = [
        np.unique(keys[rng.permutation(len(keys))[:BATCH]], return_counts=True)[1]
        for _ in range(1000)
    ]
    share = np.mean([(own == 1).sum() / BATCH for own in alone])
    return float(np.mean([1 / count[key] for key in keys.tolist()])), float(share)


def page(results: dict[str, dict[str, Population]]) -> str:
    """A table of percentages, an encoder a column; several pictures may share a short caption."""
    first = next(iter(results.values()))
    rows = []
    for kind, population in first.items():
        counts = ", ".join(f"{count} {what}" for what, count in population.counts.items())
        for metric in population.expected:
            values = [f"{100 * own[kind].expected[metric]:.1f}" for own in results.values()]
            rows.append([f"{kind} ({counts}), {metric}", *values])
    return report.table(["", *results], rows)


def main(argv: list[str] | None = None) -> int:
    """Prints the table; returns the exit code (2: the user can mend it)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of Shapes")
    parser.add_argument("encoders", nargs="+", help="directories, a column each")
    parser.add_argument("--out", type=Path, help="Markdown to write")
    args = parser.parse_args(argv)

    def run() -> None:
        data = records(args.folder)
        table = page({name: evaluate(name, data) for name in args.encoders})
        recall, alone = without_shapes(args.folder)
        table += (
            f"\n\nWhoever sees colours and patterns and no shapes has an r1 of {100 * recall:.1f}; "
            f"in a batch of {BATCH} that tells {100 * alone:.1f} % of pictures from all others."
        )
        print(table)
        if args.out:
            head = "# FG-CLIP's own evaluation on Shapes, in percent, ties at random"
            args.out.write_text(f"{head}\n\n{table}\n", encoding="utf-8")

    return run_tool(run)


if __name__ == "__main__":
    sys.exit(main())
