"""Precision of one class over all its images, by COCO's rules."""

from __future__ import annotations

import contextlib
import gc
import io
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pycocotools.coco import COCO
from pycocotools.mask import area

from fgclip_det.evaluation.coco_style.libraries import Library

# Of a data set of one class.
_CATEGORY = 1


@dataclass(frozen=True)
class Detections:
    """K detections of all classes and images, in the order in which equal scores rank.

    Arrays, for a million detections as the dictionaries that libraries take are a gigabyte: these
    are made for one class at a time.

    Attributes:
        images: (K,) ids of images.
        categories: (K,) ids of categories.
        scores: (K,) float.
        boxes: (K, 4) float, xywh, in pixels of the image; None where there are masks.
        masks: K run lengths as pycocotools gives them; None where there are boxes.
    """

    images: np.ndarray
    categories: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray | None = None
    masks: Sequence[dict[str, Any]] | None = None

    def rows_of(self, categories: Sequence[Any]) -> list[np.ndarray]:
        """Indices of the detections of each category, ascending."""
        order = np.argsort(self.categories, kind="stable")
        ordered = self.categories[order]
        starts, ends = (np.searchsorted(ordered, categories, side) for side in ("left", "right"))
        return [order[start:end] for start, end in zip(starts, ends, strict=True)]

    def sizes(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """(k,) float64 areas in square pixels of some detections, or of all."""
        if self.boxes is not None:
            sides = self.boxes[rows, 2:].astype(np.float64)
            return sides[:, 0] * sides[:, 1]
        chosen = self.masks[rows] if isinstance(rows, slice) else [self.masks[row] for row in rows]
        # One by one: pycocotools 2.0.11 counts in uint8, and fails on more than 255 masks at once.
        return np.array([float(area(mask)) for mask in chosen])

    def places(self, rows: np.ndarray) -> tuple[str, list[Any], list[float]]:
        """Where some detections are, by its key in COCO's results, and their areas."""
        sizes = self.sizes(rows).tolist()
        if self.boxes is not None:
            return "bbox", self.boxes[rows].astype(np.float64).tolist(), sizes
        return "segmentation", [self.masks[row] for row in rows], sizes


def annotations_by_category(ground_truth: COCO) -> dict[Any, list[dict[str, Any]]]:
    """Annotations of each category; those of images that the file does not list are left out."""
    found = defaultdict(list)
    for one in ground_truth.dataset["annotations"]:
        if one["image_id"] in ground_truth.imgs:
            found[one["category_id"]].append(one)
    return dict(found)


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """A million dictionaries without a circle among them would be searched again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_without_collector()
def class_precision(
    library: Library,
    truth: Sequence[Mapping[str, Any]],
    images: Mapping[Any, Mapping[str, Any]],
    detections: Detections,
    rows: np.ndarray,
    max_detections: int,
    kind: Literal["bbox", "segm"] = "bbox",
    not_exhaustive: Collection[Any] = (),
) -> np.ndarray:
    """Precision of a class at IoU 0.50, 0.55, ..., 0.95 and at 101 points of recall.

    What both libraries do, for shapes of every size: detections of an image take their turns by
    score, each takes the free object that it overlaps most (arXiv 1405.0312; the rules are those of
    https://cocodataset.org/#detection-eval).

    Args:
        library: Which one counts.
        truth: Annotations of the class in COCO's format, crowds included.
        images: By id, all entries of the file; masks need ``height`` and ``width``. Equal scores
            rank by the order of the ids.
        detections: Of all classes.
        rows: Which of them are of this class, ascending.
        max_detections: So many of the best detections of an image count.
        kind: What is compared.
        not_exhaustive: Ids of images in which objects may lack annotations: detections there that
            find nothing are not false.

    Returns:
        (10, 101) float64 in 0..1; -1 throughout where no object is to be found; crowds are none.
    """
    used = sorted({one["image_id"] for one in truth} | set(detections.images[rows].tolist()))
    # Ids of a file may be text; and those of libraries are numbers.
    number = {image: index for index, image in enumerate(used, 1)}
    entries = [{**images[image], "id": index} for image, index in number.items()]
    wanted = [
        {**one, "id": index, "image_id": number[one["image_id"]], "category_id": _CATEGORY}
        for index, one in enumerate(truth, 1)
    ]
    place_key, *places = detections.places(rows)
    columns = detections.images[rows].tolist(), detections.scores[rows].tolist(), *places
    # Each at once: there may be a million of them.
    found = [
        {
            "id": index,
            "image_id": number[image],
            "category_id": _CATEGORY,
            "score": score,
            "iscrowd": 0,
            "lvis_mark": image in not_exhaustive,
            place_key: place,
            "area": size,
        }
        for index, (image, score, place, size) in enumerate(zip(*columns, strict=True), 1)
    ]
    return _evaluate(library, entries, wanted, found, max_detections, kind)


def _evaluate(
    library: Library,
    images: list[dict[str, Any]],
    truth: list[dict[str, Any]],
    detections: list[dict[str, Any]],
    max_detections: int,
    kind: str,
) -> np.ndarray:
    # pycocotools prints, and has no switch for it.
    with contextlib.redirect_stdout(io.StringIO()):
        sides = []
        for annotations in (truth, detections):
            side = library.index()
            side.dataset = {
                "images": images,
                "categories": [{"id": _CATEGORY}],
                "annotations": annotations,
            }
            side.createIndex()
            sides.append(side)
        evaluation = library.evaluation(*sides, kind)
        params = evaluation.params
        # Sizes and shorter lists of detections are not asked for: a quarter of the work.
        params.areaRng, params.areaRngLbl = params.areaRng[:1], params.areaRngLbl[:1]
        params.maxDets = [max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
    # (IoU, recall, class, size, detections)
    return np.asarray(evaluation.eval["precision"])[:, :, 0, 0, 0]
