"""Times `OVCocoMetric` and `OVLVISMetric` at full size on made-up detections, and their memory.

Each way runs in processes of its own, round by round in turns. Ours is everything that
`compute_metrics` does with stored predictions. The library's own way is what a user of it writes:
results as dictionaries, `loadRes`, `evaluate`, `accumulate`, for boxes of every size at 100
detections. Both begin with arrays, as a detector gives them. Numbers are compared first.

    python benchmarks/detection_metrics.py
    python benchmarks/detection_metrics.py --cases ov_coco --pycocotools
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from mmengine.logging import MMLogger

from benchmarks import memory, report, timing
from benchmarks.publishing import announce, publish
from fgclip_det.evaluation import OVCocoMetric, OVLVISMetric
from fgclip_det.evaluation.coco_style.libraries import counting_library
from fgclip_det.io import read_json

ROOT = Path(__file__).resolve().parents[1]
CANVAS = np.array([640, 480])
TOLERANCE = 1e-9
OURS, FASTER, SLOW = "ours", "faster-coco-eval", "pycocotools"


@dataclass(frozen=True)
class Case:
    """A data set and how much is detected on it.

    Attributes:
        name: "ov_coco" or "ov_lvis".
        images: Pictures.
        names: Classes.
        detections: Of each picture.
        objects: Of each picture, on average.
        present: Classes of each picture, at most.
    """

    name: str
    images: int
    names: int
    detections: int = 300
    objects: int = 7
    present: int = 3


CASES = (Case("ov_coco", 5000, 65), Case("ov_lvis", 20_000, 1203, objects=12, present=4))
QUICK = (Case("ov_coco", 20, 65), Case("ov_lvis", 20, 1203, objects=12, present=4))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    timing.add_common_arguments(parser)
    parser.add_argument("--cases", default="ov_coco,ov_lvis", help="which, with commas")
    parser.add_argument("--images", type=int, help="pictures, in place of 5,000 and 20,000")
    parser.add_argument("--pycocotools", action="store_true", help="its own way too, on OV-COCO")
    return parser.parse_args(argv)


class MadeUp:
    """Ground truth and detections of a case, the same for a seed.

    Args:
        case: Of which size.
        seed: Of everything.
    """

    def __init__(self, case: Case, seed: int) -> None:
        self.case = case
        self._random = np.random.default_rng(seed)
        # Names are as unequal as they are in photographs (Zipf's law).
        shares = 1 / np.arange(1, case.names + 1)
        self._shares = shares / shares.sum()
        self.names = [f"name {index}" for index in range(case.names)]
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for image in range(1, case.images + 1):
            self._make(image)

    def truth(self) -> dict[str, Any]:
        """The annotation file, of COCO or LVIS."""
        common = np.searchsorted([0.02, 0.3], np.arange(self.case.names) / self.case.names)
        categories = [
            {"id": index + 1, "name": name, "frequency": "fcr"[kind]}
            for index, (name, kind) in enumerate(zip(self.names, common, strict=True))
        ]
        return {"images": self.images, "categories": categories, "annotations": self.annotations}

    def _make(self, image: int) -> None:
        random, case = self._random, self.case
        present = random.choice(case.names, case.present, p=self._shares)
        count = 1 + random.poisson(case.objects - 1)
        labels, boxes = random.choice(present, count), self._boxes(count)
        absent = random.choice(case.names, 8, p=self._shares)
        self.images.append(
            {
                "id": image,
                "width": int(CANVAS[0]),
                "height": int(CANVAS[1]),
                "neg_category_ids": sorted({int(c) + 1 for c in absent} - set(present + 1)),
                "not_exhaustive_category_ids": [int(present[0]) + 1],
            }
        )
        crowd = random.random(count) < (0.01 if case.name == "ov_coco" else 0)
        self.annotations += [
            {
                "id": len(self.annotations) + index + 1,
                "image_id": image,
                "category_id": int(label) + 1,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": int(many),
            }
            for index, (label, box, many) in enumerate(
                zip(labels, boxes.tolist(), crowd, strict=True)
            )
        ]
        self.found.append(self._detect(labels, boxes))

    def _detect(self, labels: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, ...]:
        """Corners, scores and labels: half near an object, most of these with its name."""
        random, count = self._random, self.case.detections
        own = random.integers(len(labels), size=count)
        near = random.random(count) < 0.5
        moved = boxes[own] + random.normal(0, 8, (count, 4))
        xywh = np.where(near[:, None], moved, self._boxes(count))
        xywh[:, 2:] = np.maximum(xywh[:, 2:], 1)
        right = near & (random.random(count) < 0.7)
        named = np.where(right, labels[own], random.choice(self.case.names, count, p=self._shares))
        scores = random.beta(1 + 2 * right, 4)
        corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        return corners.astype(np.float32), scores.astype(np.float32), named

    def _boxes(self, count: int) -> np.ndarray:
        """(count, 4) xywh with sides from a few pixels to half of the picture."""
        sides = np.exp(self._random.uniform(np.log(12), np.log(240), (count, 2)))
        start = self._random.random((count, 2)) * (CANVAS - sides)
        return np.round(np.concatenate([start, sides], axis=1), 2)


def our_metric(made: MadeUp, path: Path) -> Any:
    """The metric of a case, filled with its predictions."""
    coco = made.case.name == "ov_coco"
    metric = OVCocoMetric(str(path)) if coco else OVLVISMetric(str(path))
    metric.dataset_meta = {"classes": tuple(made.names)}
    for image, (boxes, scores, labels) in zip(made.images, made.found, strict=True):
        instances = {
            "bboxes": torch.from_numpy(boxes),
            "scores": torch.from_numpy(scores),
            "labels": torch.from_numpy(labels),
        }
        shape = (image["height"], image["width"])
        sample = {"img_id": image["id"], "ori_shape": shape, "pred_instances": instances}
        metric.process(None, [sample])
    return metric


def our_call(made: MadeUp, path: Path) -> Callable[[], float]:
    """Ours; gives the mean AP in percent."""
    metric = our_metric(made, path)
    key = "AP_all" if made.case.name == "ov_coco" else "bbox_AP"
    return lambda: metric.compute_metrics(metric.results)[key]


def library_call(made: MadeUp, path: Path, name: str) -> Callable[[], float]:
    """A library's own way on OV-COCO; gives the mean AP in percent."""
    package = counting_library(name)
    truth = read_json(str(path), "annotation file", max_bytes=None)
    found = [*zip(made.images, made.found, strict=True)]

    def call() -> float:
        results = [
            {"image_id": image["id"], "category_id": label + 1, "score": score, "bbox": box}
            for image, (corners, *given) in found
            for box, score, label in zip(
                _xywh(corners), *map(np.ndarray.tolist, given), strict=True
            )
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            index = package.index()
            index.dataset = truth
            index.createIndex()
            evaluation = package.evaluation.__mro__[package.name == SLOW](
                index, index.loadRes(results), "bbox"
            )
            params = evaluation.params
            params.areaRng, params.areaRngLbl = params.areaRng[:1], params.areaRngLbl[:1]
            params.maxDets = [100]
            evaluation.evaluate()
            evaluation.accumulate()
        precision = np.asarray(evaluation.eval["precision"])
        by_class = precision[..., 0, 0].mean(axis=(0, 1))
        return 100 * float(by_class[by_class >= 0].mean())

    return call


def _xywh(corners: np.ndarray) -> list[list[float]]:
    boxes = corners.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    return boxes.tolist()


def measure(case: Case, way: str, seed: int, path: Path) -> dict[str, float]:
    """Seconds, those that the processor worked, the peak in MiB of all, and the number found."""
    MMLogger.get_instance("mmengine").setLevel("WARNING")
    made = MadeUp(case, seed)
    if not path.exists():
        report.write_json(path, made.truth())
    call = our_call(made, path) if way == OURS else library_call(made, path, way)
    # What made the data is no part of an evaluation.
    made.found.clear()
    made.annotations.clear()
    start, worked = time.perf_counter(), time.process_time()
    value = call()
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - worked,
        "peak_mib": memory.resident("VmHWM") / 2**20,
        "ap": value,
    }


def run(args: argparse.Namespace, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Measures every case."""
    records = []
    for case in cases:
        ways = [OURS]
        if case.name == "ov_coco":
            ways += [FASTER, SLOW] if args.pycocotools else [FASTER]
        found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "truth.json"
            for _ in range(args.rounds):
                for way in ways:
                    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                        job = process.submit(measure, case, way, args.seed, path)
                        found[way].append(job.result())
        values = [one["ap"] for results in found.values() for one in results]
        records.append(
            {**vars(case), "ways": found, "difference": float(np.ptp(values)), "ap": values[0]}
        )
    return records


def page(records: Sequence[dict[str, Any]]) -> str:
    """A table of all cases and ways."""
    rows = []
    for record in records:
        size = f"{record['images']} x {record['detections']} x {record['names']}"
        for way, results in record["ways"].items():
            spreads = [_spread([one[key] for one in results]) for key in ("cpu_seconds", "seconds")]
            peak = max(one["peak_mib"] for one in results)
            rows.append([f"{record['name']}, {size}", way, *spreads, f"{peak:.0f}"])
    head = ["pictures x detections x names", "way", "CPU seconds", "seconds", "peak MiB"]
    worst = max(record["difference"] for record in records)
    return f"{report.table(head, rows)}\n\nLargest difference of an AP in percent: {worst:.0e}."


def _spread(seconds: Sequence[float]) -> str:
    """Median (smallest to largest)."""
    low, *_, high = ordered = sorted([*seconds, *seconds])
    return f"{ordered[len(ordered) // 2]:.1f} ({low:.1f} to {high:.1f})"


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark.

    Returns:
        The exit code; 1: numbers differ, 2: the user can mend it.
    """
    args = parse_args(argv)
    known = {case.name: case for case in (QUICK if args.quick else CASES)}
    out = Path(
        args.out
        or ROOT / "benchmarks" / "results" / f"detection_metrics{'_quick' * args.quick}.json"
    )
    try:
        strange = [name for name in args.cases.split(",") if name not in known]
        if strange:
            raise ValueError(f"--cases has no {strange[0]!r}; choose from {','.join(known)}")
        if args.device != "cpu":
            raise ValueError("--device cuda: metrics run on the CPU; leave it out")
        if out.suffix != ".json":
            raise ValueError(f"--out is the JSON, e.g. {out.with_suffix('.json')}, not {out}")
        if args.images is not None and args.images < 1:
            raise ValueError(f"--images must be at least 1, not {args.images}")
        args.rounds = args.rounds or (1 if args.quick else 3)
        timing.check_common_arguments(args)
        counting_library(FASTER)
        out.parent.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    versions = {name: importlib.metadata.version(name) for name in ("numpy", SLOW, FASTER)}
    settings = {**announce(args), **versions}
    cases = [known[name] for name in args.cases.split(",")]
    records = run(args, [replace(case, images=args.images or case.images) for case in cases])
    differing = [one["name"] for one in records if one["difference"] > TOLERANCE]
    return publish(out, "Metrics of detections", settings, records, page(records), differing)


if __name__ == "__main__":
    sys.exit(main())
