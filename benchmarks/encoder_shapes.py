"""Runs the kinds of FG-CLIP's own evaluation on Shapes: retrieval, classification, boxes.

The data are those of ``tools/prepare_shapes.py``: pictures of ``pretrain_val`` with their captions,
pictures of ``val`` with one object, and the boxes of ``val``, both told among all 192 names.

    python benchmarks/encoder_shapes.py data/shapes fgclip_det/assets/shapes/encoder
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from fgclip_det.encoders import load_encoder
from fgclip_det.evaluation.encoder import EncoderRules, Population, Protocol
from fgclip_det.evaluation.encoder.data_sets import Classification, Retrieval, read_coco_boxes
from fgclip_det.evaluation.encoder.data_sets.box_files import read_boxes
from fgclip_det.evaluation.encoder.features import Features
from fgclip_det.evaluation.encoder.scoring import score
from fgclip_det.exit_codes import run_tool
from fgclip_det.io import read_json_lines

KINDS = {
    "short captions": Protocol("shapes", "retrieval", read_coco_boxes, ks=(1, 5)),
    "long captions": Protocol("shapes", "retrieval", read_coco_boxes, "long", ks=(1, 5)),
    "one object": Protocol("shapes", "classification", read_coco_boxes, templates=("a {}",)),
    "boxes": Protocol("shapes", "boxes", read_coco_boxes, "box", templates=("a {}",)),
}


def records(root: Path) -> dict[str, Any]:
    """The record of each kind."""
    lines = [line for _, line in read_json_lines(root / "annotations" / "pretrain_val.jsonl")]
    pictures = [root / "pretrain_val" / line["file_name"] for line in lines]
    boxes = read_boxes(root / "annotations" / "val.json", root / "val")
    count = Counter(boxes.owners)
    alone = [n for n, owner in enumerate(boxes.owners) if count[owner] == 1]
    return {
        "short captions": Retrieval(
            pictures, [line["short_caption"] for line in lines], range(len(lines))
        ),
        "long captions": Retrieval(
            pictures, [line["long_caption"] for line in lines], range(len(lines))
        ),
        "one object": Classification(
            [boxes.pictures[boxes.owners[n]] for n in alone],
            [boxes.labels[n] for n in alone],
            boxes.names,
        ),
        "boxes": boxes,
    }


def evaluate(encoder: str, data: dict[str, Any]) -> dict[str, Population]:
    """Numbers of an encoder, by kind."""
    loaded = load_encoder(encoder)
    found = {}
    for kind, protocol in KINDS.items():
        features = Features(EncoderRules(loaded, protocol.texts), progress=True)
        found[kind] = score(protocol, data[kind], features).whole_population
    return found


def page(results: dict[str, dict[str, Population]]) -> str:
    """A table of percentages, an encoder a column; several pictures may share a short caption."""
    first = next(iter(results.values()))
    rows = []
    for kind, population in first.items():
        counts = ", ".join(f"{count} {what}" for what, count in population.counts.items())
        for metric in population.metrics:
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
        print(table)
        if args.out:
            head = "# FG-CLIP's own evaluation on Shapes, in percent, ties at random"
            args.out.write_text(f"{head}\n\n{table}\n", encoding="utf-8")

    return run_tool(run)


if __name__ == "__main__":
    sys.exit(main())
