"""What tiles cost and find: a mosaic of Shapes pictures, against the same pictures one by one.

The mosaic is looked at in tiles, and its objects are compared with those of the pictures: recall (a
detection of the right name, IoU 0.5 or more), and doubles: pairs of detections of one name of which
one holds most of the other, in the picture or at seams. Pairs whose larger box fits into no tile
are counted by themselves, as "around": it is the whole picture's, such as one of a crowd, and not
the same object seen twice. On the bundled weights.

    python benchmarks/tiles.py --side 16
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.apis.detections import Detections
from fgclip_det.datasets.shapes.generator import generate
from fgclip_det.io import read_image, write_text

CELL = 128
Found = list[tuple[str, torch.Tensor]]


def shapes(folder: Path, count: int, seed: int) -> tuple[list[np.ndarray], list[Found], list[str]]:
    """So many pictures, what is in them, and all names."""
    generate(folder, {"val": count}, seed=seed)
    truth = json.loads((folder / "annotations" / "val.json").read_text(encoding="utf-8"))
    names = {entry["id"]: entry["name"] for entry in truth["categories"]}
    pictures = [read_image(folder / "val" / entry["file_name"]) for entry in truth["images"]]
    objects: list[Found] = [[] for _ in pictures]
    for entry in truth["annotations"]:
        left, top, width, height = entry["bbox"]
        box = torch.tensor([left, top, left + width, top + height])
        objects[entry["image_id"] - 1].append((names[entry["category_id"]], box))
    return pictures, objects, list(names.values())


def mosaic(pictures: list[np.ndarray], side: int) -> np.ndarray:
    """`side` rows of as many pictures."""
    rows = [np.concatenate(pictures[row * side :][:side], axis=1) for row in range(side)]
    return np.concatenate(rows)


def as_found(answer: Detections, left: int = 0, top: int = 0) -> Found:
    """Names and boxes, shifted."""
    shift = torch.tensor([left, top, left, top])
    return list(zip(answer.names, answer.boxes + shift, strict=True))


def hits(found: Found, truth: Found) -> int:
    """Objects of which there is a detection."""
    return sum(
        any(name == own and box_iou(box[None], true[None]) >= 0.5 for own, box in found)
        for name, true in truth
    )


def doubles(found: Found, tile: int) -> tuple[int, int]:
    """Pairs of one name of which one holds at least 0.7 of the other.

    Args:
        found: Detections.
        tile: In pixels.

    Returns:
        How many such pairs fit into a tile, and how many do not.
    """
    fitting = [own for own in found if (own[1][2:] - own[1][:2]).max() <= tile]
    inside = _nested(fitting)
    return inside, _nested(found) - inside


def _nested(found: Found) -> int:
    count = 0
    for name in {name for name, _ in found}:
        boxes = torch.stack([box for own, box in found if own == name])
        shared = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
        shared = (shared - torch.maximum(boxes[:, None, :2], boxes[None, :, :2])).clamp(min=0)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
        inside = shared.prod(dim=2) / torch.minimum(area[:, None], area[None]) >= 0.7
        count += int(inside.triu(diagonal=1).sum())
    return count


def measure(detect: OpenVocabInferencer, args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Both ways, by name."""
    side = args.side
    with tempfile.TemporaryDirectory() as folder:
        pictures, objects, names = shapes(Path(folder), side * side, args.seed)
    asked = {"score_thr": args.score_thr, "batch_size": 8, "progress": True}
    results = {}
    truth = [
        (name, box + torch.tensor([n % side, n // side] * 2) * CELL)
        for n, own in enumerate(objects)
        for name, box in own
    ]
    picture = mosaic(pictures, side)
    for way in ("one by one", "tiles", "no tiles"):
        start = time.perf_counter()
        if way == "one by one":
            answers = detect(pictures, names, **asked)
            places = [(CELL * (n % side), CELL * (n // side)) for n in range(len(answers))]
            found = [one for pair in zip(answers, places, strict=True) for one in flat(*pair)]
            recalled = sum(map(hits, map(as_found, answers), objects))
        else:
            tile = args.tile if way == "tiles" else None
            found = as_found(detect(picture, names, tile=tile, overlap=args.overlap, **asked)[0])
            recalled = hits(found, truth)
        seconds = time.perf_counter() - start
        twice, around = doubles(found, args.tile)
        results[way] = {
            "objects": len(truth),
            "recall": recalled / len(truth),
            "detections": len(found),
            "doubles": twice,
            "around": around,
            "seconds": seconds,
        }
    return results


def flat(answer: Detections, place: tuple[int, int]) -> Found:
    """`as_found` at a place."""
    return as_found(answer, *place)


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code (1: tiles find fewer by more than a point)."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--side", type=int, default=16, help="pictures of 128 px in a row")
    parser.add_argument("--tile", type=int, default=CELL, help="in pixels")
    parser.add_argument("--overlap", type=float, default=0.5, help="share of a tile")
    parser.add_argument("--score-thr", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/tiles_cpu.md")
    args = parser.parse_args(argv)
    # Shares: the threshold is of those.
    detector = OpenVocabInferencer(device="cpu", calibration=None)
    detector.set_negatives(None)
    results = measure(detector, args)
    rows = [
        [
            way,
            f"{100 * own['recall']:.2f}",
            str(own["detections"]),
            str(own["doubles"]),
            str(own["around"]),
            f"{own['seconds']:.1f}",
        ]
        for way, own in results.items()
    ]
    told = report.table(["way", "recall %", "detections", "doubles", "around", "seconds"], rows)
    settings = {key: value for key, value in vars(args).items() if key != "out"}
    page = f"# Tiles\n\n{report.settings_list(settings)}\n- objects: "
    page += f"{results['tiles']['objects']}\n\n{told}\n"
    write_text(args.out, page)
    print(page)
    lost = results["one by one"]["recall"] - results["tiles"]["recall"]
    return int(lost > 0.01)


if __name__ == "__main__":
    sys.exit(main())
