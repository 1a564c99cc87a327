"""Boxes that another detector found, from its results file, checked against the pictures.

* JSON, COCO's and LVIS's results: a list of ``{"image_id", "category_id", "bbox", "score"}``, the
  box as x, y, width and height; perhaps with a ``segmentation`` each, polygons or run lengths.
* ``.pkl``, what MMDetection's `DumpDetResults` writes (``tools/test.py --out``): for each picture
  ``img_id``, ``ori_shape`` and ``pred_instances`` with ``bboxes`` (xyxy), ``scores``, ``labels``
  and perhaps ``masks`` (run lengths).

All boxes and masks are in pixels of the pictures as the annotation file gives their sizes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fgclip_det.compat import decode_tensor
from fgclip_det.io import is_id, read_json, read_pickle

_KEYS = ("image_id", "bbox", "score")
_PICKLES = (".pkl", ".pickle")
# What pycocotools writes run lengths with.
_RUN_LENGTHS = re.compile(r"[0-o]+")
# Boxes may overhang by rounding; if more of them overhang by more, they are of other pictures.
_OVERHANG, _FEW = 1.0, 0.02
# Of a whole file, no box of a picture in pixels is within its first one.
_SHARE_OF_PICTURE = 1.5
# Of so many boxes, one comes near to the right or the lower end of its picture.
_MANY, _WHOLE = 100, 0.75


@dataclass(frozen=True, eq=False)
class ImageProposals:
    """Boxes of one picture.

    Attributes:
        boxes: (K, 4) float64, xyxy, in pixels of the picture, clipped to it.
        scores: (K,) float32 in [0, 1], how sure the detector is of the box.
        category_ids: (K,) int64, what the detector took it for; -1 where the file does not tell.
        segmentations: Of each box its mask as COCO's results have it, polygons or run lengths, not
            clipped; None where the file has none.
    """

    boxes: np.ndarray
    scores: np.ndarray
    category_ids: np.ndarray
    segmentations: tuple[list | dict | None, ...]

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True, eq=False)
class Proposals:
    """Boxes of many pictures.

    Attributes:
        by_image: Those of each image id that has any.
        notes: What was odd and was mended, in sentences.
    """

    by_image: dict[int, ImageProposals]
    notes: tuple[str, ...] = ()


def read_proposals(
    path: str | Path, images: Sequence[Mapping[str, Any]], trust_pickle: bool = False
) -> Proposals:
    """Read boxes of a detector and check every one.

    Args:
        path: See the module.
        images: ``id``, ``width`` and ``height`` of each, of the annotation file.
        trust_pickle: Whether a pickle is read, by a reader that knows numbers only.

    Raises:
        ValueError: The file is missing, broken or of another kind; an image is not listed; a box, a
            score or a mask makes no sense, or boxes are in another frame than that of the pictures.
    """
    path, where = Path(path), f"{str(path)!r}"
    sizes = {image["id"]: (image["width"], image["height"]) for image in images}
    if path.suffix.lower() in _PICKLES:
        if not trust_pickle:
            raise ValueError(
                f"{where} is a pickle, which is a program: say that you trust where it is from "
                "(--trust-pickle), or give results in JSON"
            )
        columns = _columns_of_pickle(read_pickle(path, decode_tensor), where, sizes)
    else:
        columns = _columns_of_json(read_json(path, max_bytes=None), where, sizes)
    ids, boxes, scores, categories, masks = columns
    _check_ids(ids, sizes, where)
    _check_numbers(boxes, scores, where)
    limits = np.array([sizes[i] for i in ids.tolist()], dtype=np.float64).reshape(-1, 2)
    boxes, kept, notes = _fitted(boxes, limits, where)
    ids, scores, categories, masks = ids[kept], scores[kept], categories[kept], masks[kept]
    order = np.argsort(ids, kind="stable")
    distinct, starts = np.unique(ids[order], return_index=True)
    groups = np.split(order, starts[1:]) if len(order) else []
    by_image = {
        int(image): ImageProposals(
            boxes[rows],
            scores[rows].astype(np.float32),
            categories[rows],
            tuple(masks[rows]),
        )
        for image, rows in zip(distinct, groups, strict=True)
    }
    return Proposals(by_image, notes)


def _columns_of_json(
    entries: Any, where: str, sizes: Mapping[int, tuple[float, float]]
) -> tuple[np.ndarray, ...]:
    """Image ids (N,), xyxy boxes (N, 4), scores, category ids and masks (N,)."""
    if not isinstance(entries, list):
        raise ValueError(
            f"{where} holds a {type(entries).__name__}, not a list of results: give the file that "
            "the detector was evaluated with, not the annotations"
        )
    shown = tqdm(entries, desc="check results", disable=None, leave=False)
    for number, entry in enumerate(shown):
        problem = _problem(entry) or _mask_problem(
            entry.get("segmentation"), sizes.get(entry["image_id"])
        )
        if problem:
            shown.close()
            raise ValueError(f"{where}: result number {number} {problem}")
    boxes = np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4)
    negative = np.nonzero((boxes[:, 2:] < 0).any(axis=1))[0]
    if len(negative):
        raise ValueError(
            f"{where}: result number {negative[0]} has the bbox {entries[negative[0]]['bbox']}, "
            "whose width or height is negative: x, y, width and height are needed"
        )
    with np.errstate(over="ignore"):  # what is infinite then is named with the other numbers
        boxes[:, 2:] += boxes[:, :2]
    return (
        np.array([entry["image_id"] for entry in entries], dtype=np.int64),
        boxes,
        np.array([entry["score"] for entry in entries], dtype=np.float64),
        np.array([entry.get("category_id", -1) for entry in entries], dtype=np.int64),
        _objects([entry.get("segmentation") or None for entry in entries]),
    )


def _objects(values: list) -> np.ndarray:
    """(N,) of Python's objects, which NumPy would take for rows where they are lists."""
    return np.fromiter(values, dtype=object, count=len(values))


def _problem(entry: Any) -> str | None:
    lacking = [key for key in _KEYS if not isinstance(entry, dict) or key not in entry]
    if lacking:
        return f"has no {lacking[0]!r}"
    for key in ("image_id", "category_id"):
        if not is_id(entry.get(key, 0)):
            return f"has the {key} {entry[key]!r}: a whole number of 64 bits is needed"
    box = entry["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return f"has the bbox {box!r}: four numbers are needed, x, y, width and height"
    if not _is_number(entry["score"]):
        return f"has the score {entry['score']!r}: a number is needed"
    return None


def _mask_problem(mask: Any, size: tuple[float, float] | None) -> str | None:
    """What is wrong with a ``segmentation`` in a picture of a width and a height, if any."""
    if mask is None or mask == []:
        return None
    if isinstance(mask, list) and all(map(_is_polygon, mask)):
        return None
    if isinstance(mask, dict) and isinstance(mask.get("size"), list):
        if size is not None and mask["size"] != [size[1], size[0]]:
            return (
                f"has a mask of (height, width) {mask['size']!r}, and its picture is "
                f"{[size[1], size[0]]}: give masks in pixels of the pictures"
            )
        counts = mask.get("counts")
        if isinstance(counts, str) and _RUN_LENGTHS.fullmatch(counts):
            return None
        if isinstance(counts, list) and all(is_id(run) and run >= 0 for run in counts):
            total = sum(counts)
            if size is None or total == size[0] * size[1]:
                return None
            return f"has a mask whose runs are {total} pixels long together, not those of the size"
    shown = repr(mask)
    return (
        f"has the segmentation {shown if len(shown) <= 80 else shown[:80] + '...'}: polygons, each "
        'a list of x, y, x, y, x, y, ..., or {"size": [height, width], "counts": run lengths} are '
        "needed"
    )


def _is_polygon(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) >= 6
        and len(value) % 2 == 0
        and all(map(_is_number, value))
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _columns_of_pickle(
    samples: Any, where: str, sizes: Mapping[int, tuple[float, float]]
) -> tuple[np.ndarray, ...]:
    """As of `_columns_of_json`; labels are places in a list that the file does not hold."""
    if not isinstance(samples, list):
        raise ValueError(f"{where} holds a {type(samples).__name__}, not a list of predictions")
    ids, boxes, scores = [np.zeros(0, np.int64)], [np.zeros((0, 4))], [np.zeros(0)]
    masks: list[dict | None] = []
    for number, sample in enumerate(samples):
        try:
            image, found = sample["img_id"], sample["pred_instances"]
            if not is_id(image):
                raise ValueError(f"the img_id {image!r} is no whole number of 64 bits")
            own = np.asarray(found["bboxes"], dtype=np.float64).reshape(-1, 4)
            sure = np.asarray(found["scores"], dtype=np.float64).reshape(len(own))
            drawn = [_as_text(mask) for mask in found.get("masks", [None] * len(own))]
            height, width = sample.get("ori_shape", (0, 0))[:2]
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(
                f"{where}: prediction number {number} is not as DumpDetResults writes it "
                f"({type(error).__name__}: {error})"
            ) from None
        if height and image in sizes and sizes[image] != (width, height):
            raise ValueError(
                f"{where}: image {image!r} was {width} x {height} pixels there, and is "
                f"{sizes[image][0]} x {sizes[image][1]} in the annotation file: its boxes are in "
                "another frame"
            )
        problems = filter(None, (_mask_problem(mask, sizes.get(image)) for mask in drawn))
        problem = next(problems, None)
        if len(drawn) != len(own):
            problem = f"has {len(own)} boxes and {len(drawn)} masks"
        if problem:
            raise ValueError(f"{where}: prediction number {number} {problem}")
        ids.append(np.full(len(own), image, dtype=np.int64))
        boxes.append(own)
        scores.append(sure)
        masks += drawn
    columns = (np.concatenate(parts) for parts in (ids, boxes, scores))
    return (*columns, np.full(len(masks), -1), _objects(masks))


def _as_text(mask: Any) -> Any:
    """Run lengths as JSON has them; pycocotools gives bytes."""
    if mask is None:
        return None
    counts = mask["counts"]
    return {
        "size": [int(side) for side in mask["size"]],
        "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
    }


def _check_ids(ids: np.ndarray, sizes: Mapping[int, Any], where: str) -> None:
    unknown = [int(image) for image in np.unique(ids) if int(image) not in sizes]
    if unknown:
        count = int(np.isin(ids, unknown).sum())
        raise ValueError(
            f"{count} of {len(ids)} boxes in {where} are of images that the annotation file does "
            f"not list, the first has the image_id {unknown[0]}: give the annotation file that the "
            "detector ran on"
        )


def _check_numbers(boxes: np.ndarray, scores: np.ndarray, where: str) -> None:
    broken = np.nonzero(~(np.isfinite(boxes).all(axis=1) & np.isfinite(scores)))[0]
    if len(broken):
        raise ValueError(f"{where}: box number {broken[0]} or its score is NaN or infinite")
    wrong = np.nonzero((scores < 0) | (scores > 1))[0]
    if len(wrong):
        raise ValueError(
            f"{where}: box number {wrong[0]} has the score {scores[wrong[0]]:g}: scores must be "
            "between 0 and 1"
        )


def _fitted(
    boxes: np.ndarray, limits: np.ndarray, where: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Boxes clipped to their pictures, which are kept, and what there is to say of it.

    Args:
        boxes: (N, 4) xyxy.
        limits: (N, 2) width and height of the picture of each.
        where: The file, for messages.

    Returns:
        (M, 4) boxes, (M,) rows that were kept of those given, and notes.

    Raises:
        ValueError: So many overhang, or all are so small, that they must be of other pictures, or
            most have no area.
    """
    over = ((boxes[:, :2] < -_OVERHANG) | (boxes[:, 2:] > limits + _OVERHANG)).any(axis=1)
    if len(boxes) and boxes.max() <= _SHARE_OF_PICTURE:
        raise ValueError(f"{where}: boxes lie between 0 and 1: give them in pixels")
    if over.sum() > _FEW * len(over):
        raise ValueError(_other_frame(boxes, limits, over, where))
    clipped = boxes.copy()
    clipped[:, 0::2] = clipped[:, 0::2].clip(0, limits[:, :1])
    clipped[:, 1::2] = clipped[:, 1::2].clip(0, limits[:, 1:])
    kept = np.nonzero((clipped[:, 2:] > clipped[:, :2]).all(axis=1))[0]
    if 2 * len(kept) < len(boxes):
        raise ValueError(
            f"{len(boxes) - len(kept)} of {len(boxes)} boxes in {where} have no area: JSON holds "
            "x, y, width and height, a pickle corners, x1, y1, x2, y2"
        )
    notes = []
    reach = (boxes[:, 2:] / limits).max() if len(boxes) >= _MANY else 1.0
    if reach < _WHOLE:
        notes.append(
            f"no box reaches beyond {100 * reach:.0f} % of its picture: were they found in smaller "
            "copies of the pictures?"
        )
    if over.any():
        notes.append(f"{int(over.sum())} boxes reach out of their pictures and were clipped")
    if len(kept) < len(boxes):
        notes.append(f"{len(boxes) - len(kept)} boxes without area were left out")
    return clipped[kept], kept, tuple(notes)


def _other_frame(boxes: np.ndarray, limits: np.ndarray, over: np.ndarray, where: str) -> str:
    first = int(np.nonzero(over)[0][0])
    x1, y1, x2, y2 = (round(float(value), 1) for value in boxes[first])
    width, height = (int(side) for side in limits[first])
    # If what were corners was taken for width and height, the sums are back where they came from.
    corners = boxes.copy()
    corners[:, 2:] -= corners[:, :2]
    inside = (corners[:, 2:] >= corners[:, :2]) & (corners[:, 2:] <= limits + _OVERHANG)
    hint = "give boxes in pixels of the pictures as they are on the disk"
    if inside.all(axis=1).mean() > 1 - _FEW:
        hint = "are they corners, x1, y1, x2, y2? Results hold x, y, width and height"
    return (
        f"{int(over.sum())} of {len(over)} boxes in {where} reach out of their pictures, the first "
        f"to ({x2}, {y2}) from ({x1}, {y1}) in one of {width} x {height} pixels: {hint}"
    )
