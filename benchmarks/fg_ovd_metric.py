"""Times `evaluate_fg_ovd` against the official way: torchvision's NMS, torchmetrics' mAP.

The input has the numbers of FG-OVD's `3_attributes.json` (853 images, 971 vocabularies, 1,299
boxes) or of `1_attributes.json` (`--subset hard`), with made-up boxes. Ours includes checking the
input, suppression and ranks; torchmetrics' time is its `update` and `compute` alone, after a
suppression that is not counted. Results are compared first; where they differ no ratio is printed.

    pip install --no-deps torchmetrics lightning-utilities
    python benchmarks/fg_ovd_metric.py
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import statistics
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torchvision.ops import batched_nms

from benchmarks import report, timing
from fgclip_det.evaluation import evaluate_fg_ovd, sweep_fg_ovd

ROOT = Path(__file__).resolve().parents[1]
# Images, vocabularies, boxes of ground truth.
SUBSETS = {"easy": (853, 971, 1299), "hard": (1707, 2349, 3545), "quick": (20, 24, 30)}
KEYS = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large", "mar_1", "mar_10")
TOLERANCE = 1e-5
Prediction = tuple[int, np.ndarray, np.ndarray]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    timing.add_common_arguments(parser)
    parser.add_argument("--subset", choices=("easy", "hard"), default="easy")
    parser.add_argument("--n-negatives", type=int, default=5)
    parser.add_argument("--boxes", type=int, default=25, help="boxes of a vocabulary")
    parser.add_argument(
        "--ours-only", action="store_true", help="no torchmetrics: only how long ours takes"
    )
    return parser.parse_args(argv)


def make_subset(
    sizes: tuple[int, int, int], n_negatives: int, boxes: int, seed: int
) -> tuple[dict[str, Any], list[Prediction]]:
    """An annotation file of a subset's size and what a middling detector would say to it.

    Args:
        sizes: Images, vocabularies and annotations.
        n_negatives: Negatives of each.
        boxes: Boxes of a vocabulary: some near the true ones, some anywhere.
        seed: Of everything.
    """
    random = np.random.default_rng(seed)
    num_images, num_vocabularies, num_boxes = sizes
    width = 1 + n_negatives
    # Each image has a vocabulary and each vocabulary a box; the others fall anywhere.
    extra = random.integers(num_images, size=num_vocabularies - num_images)
    image_of = np.concatenate([np.arange(num_images), extra])
    owner = random.integers(num_vocabularies, size=num_boxes - num_vocabularies)
    owners = np.concatenate([np.arange(num_vocabularies), owner])
    corners = _random_boxes(random, num_boxes)
    annotations = [
        {
            "id": index,
            "image_id": int(image_of[own]),
            "category_id": int(own) * width,
            "neg_category_ids": list(range(int(own) * width + 1, int(own) * width + width)),
            "bbox": [
                *corners[index, :2].tolist(),
                *np.ptp(corners[index].reshape(2, 2), 0).tolist(),
            ],
        }
        for index, own in enumerate(owners)
    ]
    data = {
        "images": [{"id": i, "file_name": f"val2017/{i:012}.jpg"} for i in range(num_images)],
        "annotations": annotations,
        "categories": [{"id": i, "name": f"{i}"} for i in range(num_vocabularies * width)],
    }
    predictions = []
    for index in range(num_vocabularies):
        near = corners[random.choice(np.flatnonzero(image_of[owners] == image_of[index]), boxes)]
        near = np.where(random.random((boxes, 1)) < 0.7, near, _random_boxes(random, boxes))
        moved = near + random.normal(0, 6, (boxes, 4))
        moved = np.concatenate([moved[:, :2], np.maximum(moved[:, :2] + 1, moved[:, 2:])], axis=1)
        scores = random.random((boxes, width))
        scores[:, 0] += 0.3
        predictions.append((index, moved.astype(np.float32), (scores / 1.4).astype(np.float32)))
    return data, predictions


def _random_boxes(random: np.random.Generator, number: int) -> np.ndarray:
    """(number, 4) xyxy in a 640 x 480 image, with sides from a few px to half of it."""
    sides = np.exp(random.uniform(np.log(12), np.log(240), (number, 2)))
    start = random.random((number, 2)) * (np.array([640, 480]) - sides)
    return np.round(np.concatenate([start, start + sides], axis=1), 2)


def official_input(
    data: dict[str, Any], predictions: list[Prediction]
) -> tuple[list[dict[str, torch.Tensor]], list[dict[str, torch.Tensor]]]:
    """Predictions after suppression and ground truth of each image, as torchmetrics takes them."""
    found: dict[int, list[tuple[torch.Tensor, ...]]] = {}
    owners = {one["id"]: one for one in data["annotations"]}
    for number, boxes, scores in predictions:
        one = owners[number]
        captions = torch.tensor([one["category_id"], *one["neg_category_ids"]], dtype=torch.int)
        best, label = torch.from_numpy(scores).max(dim=1)
        corners = torch.from_numpy(boxes)
        keep = batched_nms(corners, best, torch.zeros(len(best)), 0.5).sort().values
        kept = (corners[keep], best[keep], captions[label[keep]])
        found.setdefault(one["image_id"], []).append(kept)
    truth: dict[int, list[tuple[list[float], int]]] = {}
    for one in data["annotations"]:
        x, y, width, height = one["bbox"]
        row = ([x, y, x + width, y + height], one["category_id"])
        truth.setdefault(one["image_id"], []).append(row)
    names = ("boxes", "scores", "labels")
    detections, targets = [], []
    for image, parts in found.items():
        columns = zip(*parts, strict=True)
        detections.append({n: torch.cat(c) for n, c in zip(names, columns, strict=True)})
        boxes_of, labels = zip(*truth[image], strict=True)
        target = {"boxes": torch.tensor(boxes_of), "labels": torch.tensor(labels, dtype=torch.int)}
        targets.append(target)
    return detections, targets


def torchmetrics_call(
    data: dict[str, Any], predictions: list[Prediction]
) -> Callable[[], dict[str, float]]:
    """A call of torchmetrics' metric.

    Raises:
        ValueError: torchmetrics is not installed.
    """
    try:
        metric_class = importlib.import_module("torchmetrics.detection").MeanAveragePrecision
    except ImportError as error:
        raise ValueError(
            f"torchmetrics cannot be imported ({error}): pip install --no-deps torchmetrics "
            "lightning-utilities, or give --ours-only"
        ) from error
    detections, targets = official_input(data, predictions)

    def call() -> dict[str, float]:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            metric = metric_class()
            metric.update(detections, targets)
            return {key: float(value) for key, value in metric.compute().items() if key in KEYS}

    return call


def versions() -> dict[str, str | None]:
    """Versions of what takes part; None for what is not installed."""
    found: dict[str, str | None] = {}
    for package in ("numpy", "pycocotools", "torchmetrics"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measures; gives what JSON holds of it."""
    sizes = SUBSETS["quick" if args.quick else args.subset]
    data, predictions = make_subset(sizes, args.n_negatives, args.boxes, args.seed)
    calls: dict[str, Callable[[], Any]] = {
        "ours": lambda: evaluate_fg_ovd(data, predictions, args.n_negatives)
    }
    difference = None
    if not args.ours_only:
        calls["torchmetrics"] = torchmetrics_call(data, predictions)
        theirs, ours = calls["torchmetrics"](), calls["ours"]()
        difference = max(abs(theirs[key] - ours[key]) for key in KEYS)
    calls["sweep"] = lambda: sweep_fg_ovd(data, predictions, args.n_negatives)
    # A call of torchmetrics takes long enough to be timed alone.
    times = timing.interleave(calls, args.rounds, "cpu", seed=args.seed, min_seconds=0)
    same = difference is not None and difference <= TOLERANCE
    return {
        "images": sizes[0],
        "vocabularies": sizes[1],
        "boxes": sizes[2],
        "n_negatives": args.n_negatives,
        "boxes_per_vocabulary": args.boxes,
        "difference": difference,
        "seconds": times,
        "ratio": timing.ratio_of(times["torchmetrics"], times["ours"]) if same else None,
    }


def markdown(settings: dict[str, Any], result: dict[str, Any]) -> str:
    """The page that goes beside the JSON."""
    names = {
        "ours": "`evaluate_fg_ovd`: checks, suppression, mAP and ranks",
        "torchmetrics": "torchmetrics: mAP alone",
        "sweep": f"`sweep_fg_ovd`: ours for N = 0 to {result['n_negatives']}",
    }
    rows = [
        [names[name], report.number(statistics.median(values))]
        for name, values in result["seconds"].items()
    ]
    size = (
        f"{result['images']} images, {result['vocabularies']} vocabularies of "
        f"{1 + result['n_negatives']} captions, {result['boxes_per_vocabulary']} boxes each, "
        f"{result['boxes']} boxes of ground truth."
    )
    parts = ["# FG-OVD's metric: speed", "## Settings", report.settings_list(settings)]
    parts += ["## Result", size, report.table(["", "seconds, median of the rounds"], rows)]
    if result["ratio"] is not None:
        low, middle, high = (
            report.number(result["ratio"][key]) for key in ("min", "median", "max")
        )
        parts.append(
            f"torchmetrics' time / ours: **{middle}x** ({low} to {high}), with a largest "
            f"difference of {result['difference']:.0e}."
        )
    return "\n\n".join(parts) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark.

    Returns:
        The exit code; 1: results differ, 2: the user can mend it.
    """
    args = parse_args(argv)
    stem = "fg_ovd_metric" + "_hard" * (args.subset == "hard") + "_quick" * args.quick
    out = Path(args.out or ROOT / "benchmarks" / "results" / f"{stem}.json")
    try:
        if args.device != "cpu":
            raise ValueError("--device cuda: the metric runs on the CPU; leave it out")
        if args.n_negatives < 0 or args.boxes < 1:
            raise ValueError("--n-negatives must be at least 0, and --boxes at least 1")
        if out.suffix != ".json":
            raise ValueError(f"--out is the JSON, e.g. {out.with_suffix('.json')}, not {out}")
        timing.check_common_arguments(args)
        out.parent.mkdir(parents=True, exist_ok=True)
        settings = {**timing.describe_settings(args), **versions()}
        print(report.settings_list(settings), flush=True)
        if warning := timing.busy_warning(settings):
            print(warning, file=sys.stderr)
        result = run(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    page = markdown(settings, result)
    report.write_json(out, {"settings": settings, "result": result})
    out.with_suffix(".md").write_text(page, encoding="utf-8")
    print("\n" + page.partition("## Result")[2].strip())
    print("\nwritten:", out, out.with_suffix(".md"))
    if not args.ours_only and result["ratio"] is None:
        print(f"error: results differ by {result['difference']}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
