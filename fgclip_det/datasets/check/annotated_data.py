"""Annotation files of either format as arrays, for checks of all their entries at once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fgclip_det.datasets.annotation_files import image_file_name, read_annotations
from fgclip_det.io import read_json_lines


@dataclass(frozen=True)
class AnnotatedData:
    """I pictures with B boxes, in the order of the file.

    Attributes:
        path: The annotation file.
        names: Pictures, relative to the folder of the pictures.
        sizes: (I, 2) float64, annotated width and height; NaN where there are none.
        image: (B,) int, the picture of each box.
        boxes: (B, 4) float64, xywh, in pixels.
        is_crowd: (B,) bool.
        ids: What each box is called in a message.
        categories: Id and name of each category.
    """

    path: Path
    names: list[str]
    sizes: np.ndarray
    image: np.ndarray
    boxes: np.ndarray
    is_crowd: np.ndarray
    ids: list[Any]
    categories: list[tuple[int, str]]


def read_data(path: str | os.PathLike) -> AnnotatedData:
    """Read COCO-style JSON or, where the name ends in ``.jsonl``, lines of `RegionCaptionDataset`.

    Raises:
        ValueError: The file is missing or no such file, or an entry is broken; it is named.
    """
    path = Path(path)
    return _from_lines(path) if path.suffix == ".jsonl" else _from_coco(path)


def _from_coco(path: Path) -> AnnotatedData:
    file = read_annotations(path, None, unlabelled=True, sized=False)
    places = {image["id"]: place for place, image in enumerate(file.images)}
    return _data(
        path,
        [image_file_name(image) for image in file.images],
        [(image.get("width"), image.get("height")) for image in file.images],
        [(places[one["image_id"]], one["bbox"], one["id"]) for one in file.annotations],
        [bool(one.get("iscrowd", 0)) for one in file.annotations],
        [(category["id"], category["name"]) for category in file.categories],
    )


def _from_lines(path: Path) -> AnnotatedData:
    names, sizes, rows = [], [], []
    for place, (where, line) in enumerate(read_json_lines(path)):
        try:
            names.append(os.fspath(line["file_name"]))
            sizes.append((line.get("width"), line.get("height")))
            for number, region in enumerate(line["regions"]):
                x1, y1, x2, y2 = region["bbox"]
                rows.append(
                    (place, (x1, y1, x2 - x1, y2 - y1), f"region {number} of line {place + 1}")
                )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            detail = f"{type(error).__name__}: {error}"
            raise ValueError(f"{where} is not a caption record ({detail}): mend the line") from None
    return _data(path, names, sizes, rows, [False] * len(rows), [])


def _data(
    path: Path,
    names: list[str],
    sizes: list[tuple[Any, Any]],
    rows: list[tuple[int, Any, Any]],
    is_crowd: list[bool],
    categories: list[tuple[int, str]],
) -> AnnotatedData:
    return AnnotatedData(
        path,
        names,
        np.array(sizes, dtype=np.float64).reshape(-1, 2),  # None becomes NaN
        np.array([row[0] for row in rows], dtype=np.int64),
        np.array([row[1] for row in rows], dtype=np.float64).reshape(-1, 4),
        np.array(is_crowd, dtype=bool),
        [row[2] for row in rows],
        categories,
    )
