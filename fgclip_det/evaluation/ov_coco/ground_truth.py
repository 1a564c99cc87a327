"""Ground truth in COCO's format, read and indexed for pycocotools."""

from __future__ import annotations

import contextlib
import io
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.fileio import get_local_path
from pycocotools.coco import COCO

from fgclip_det.io import listed, read_json

_ANNOTATION_KEYS = ("image_id", "category_id", "bbox", "iscrowd")


def read_ground_truth(path: str, backend_args: dict[str, Any] | None = None) -> COCO:
    """Read an annotation file in COCO's detection format.

    Annotations are numbered anew, from 1: pycocotools takes a box with the id 0 for one that is
    never found, and mixes up boxes of the same id. One without an ``area``
    gets that of its box.

    Args:
        path: JSON file, or an URL that MMEngine reads. A file without annotations will do.
        backend_args: Of mmengine, to read it.

    Raises:
        ValueError: The file is missing, no complete JSON or no such file, or an entry lacks a
            field.
    """
    if "://" not in path and not Path(path).is_file():
        raise ValueError(
            f"no annotation file {path!r}: check val_evaluator.ann_file, or make it first "
            "(tools/prepare_shapes.py for Shapes, prepare_ov_coco.py for OV-COCO)"
        )
    with get_local_path(path, backend_args=backend_args) as local_path:
        values = read_json(local_path, "annotation file", max_bytes=None)
    problem = _problem(values)
    if problem:
        raise ValueError(f"annotation file {path!r} is not in COCO's detection format: {problem}")
    annotations = values.get("annotations") or []
    ground_truth = COCO()
    ground_truth.dataset = {
        **values,
        "annotations": [
            {"area": one["bbox"][2] * one["bbox"][3], **one, "id": k}
            for k, one in enumerate(annotations, 1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth.createIndex()
    return ground_truth


def category_ids(ground_truth: COCO, names: Sequence[str]) -> list[int]:
    """Ids of categories, in the order of their names.

    Args:
        ground_truth: From `read_ground_truth`.
        names: Names of categories.

    Raises:
        ValueError: A name is missing from the file, or several categories bear it.
    """
    categories = ground_truth.dataset["categories"]
    counts = Counter(category["name"] for category in categories)
    missing = [name for name in names if name not in counts]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(names)} classes are no category of the annotation file, "
            f"the first: {listed(list(map(repr, missing)), 'unknown classes')}: use the "
            "vocabulary that belongs to the file"
        )
    repeated = [name for name in names if counts[name] > 1]
    if repeated:
        raise ValueError(
            f"{counts[repeated[0]]} categories of the annotation file are named {repeated[0]!r}: "
            "give each category its own name"
        )
    ids = {category["name"]: category["id"] for category in categories}
    return [ids[name] for name in names]


def _problem(values: Any) -> str | None:
    if not isinstance(values, dict):
        return f"it holds a {type(values).__name__}, not an object"
    for key in ("images", "categories", "annotations"):
        entries = values.get(key) or ([] if key == "annotations" else None)
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            return f"it has no list of objects {key!r}"
    for key, needed in (
        ("images", ("id",)),
        ("categories", ("id", "name")),
        ("annotations", _ANNOTATION_KEYS),
    ):
        for number, entry in enumerate(values.get(key) or []):
            lacking = [name for name in needed if name not in entry]
            if lacking:
                return f"{key}[{number}] has no {lacking[0]!r}"
            if "bbox" in needed and not _is_box(entry["bbox"]):
                return f"{key}[{number}] has the bbox {entry['bbox']!r}: four numbers are needed"
    return None


def _is_box(box: Any) -> bool:
    if not isinstance(box, list) or len(box) != 4:
        return False
    return all(isinstance(value, int | float) and math.isfinite(value) for value in box)
