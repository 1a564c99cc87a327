"""Predictions for FG-OVD: what they must be like, and a file for those of any detector.

The file is JSON, gzipped where its name ends in ``.gz``::

    {"format": "fgclip_det/fg_ovd_predictions", "version": 1, "n_negatives": 10,
     "predictions": [{"annotation_id": 3,
                      "boxes": [[x1, y1, x2, y2], ...],
                      "scores": [[right caption, first negative, ...], ...],
                      "labels": [column of scores, ...]}, ...]}

One entry for each distinct caption (category) of the annotation file, named by the first annotation
that bears it; in any order. Boxes are corners in pixels of the picture as stored. Each has a score
for the right caption and for each of the first ``n_negatives`` negatives, in the order of
``neg_category_ids``; where an annotation has fewer, for those. All boxes are given, before any
suppression among captions; an entry without boxes says that the detector ran and found nothing.

A box counts for its label with that label's score. ``labels`` may be left out of any entry: then
each box has the first of its highest scores. They matter where scores tie.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as short
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from fgclip_det.fg_ovd.files import FGOVDFile, check_n_negatives
from fgclip_det.io import read_json, replaced_text

FORMAT, VERSION = "fgclip_det/fg_ovd_predictions", 1
_ENTRY_KEYS = ("annotation_id", "boxes", "scores")


class FGOVDPrediction(NamedTuple):
    """A detector's boxes and scores for one vocabulary.

    Attributes:
        annotation_id: Of the vocabulary.
        boxes: (B, 4) float32, xyxy, in pixels of the picture as stored.
        scores: (B, 1 + N) float32, the right caption first, then its negatives.
        labels: (B,) int64, the column of `scores` that each box counts for; None for the first of
            its highest ones, which `to_prediction` puts there.
    """

    annotation_id: int
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray | None = None


@dataclass(frozen=True)
class FGOVDPredictions:
    """Predictions from a file.

    Attributes:
        n_negatives: Negatives that the detector was asked for.
        items: One for each vocabulary.
        has_all_scores: Whether each caption's score is known, or the best one's only; ranks and
            fewer negatives need all.
    """

    n_negatives: int
    items: tuple[FGOVDPrediction, ...]
    has_all_scores: bool = True


def to_prediction(
    annotation_id: Any, boxes: Any, scores: Any, labels: Any = None
) -> FGOVDPrediction:
    """Check the prediction for one vocabulary.

    Args:
        annotation_id: A whole number.
        boxes: (B, 4) numbers, xyxy, as an array, a tensor on the CPU or lists.
        scores: (B, M) numbers, M from 1.
        labels: (B,) whole numbers below M; None for the first highest score of each box.

    Raises:
        ValueError: Another shape, NaN or an infinity, boxes that are no corners, or labels that are
            no columns of the scores.
    """
    try:
        number = operator.index(None if isinstance(annotation_id, bool) else annotation_id)
    except TypeError:
        raise ValueError(
            f"a prediction has the annotation id {short(annotation_id)}: no int"
        ) from None
    boxes = _numbers(boxes, f"boxes of annotation {number}")
    scores = _numbers(scores, f"scores of annotation {number}")
    if not boxes.size and boxes.shape[0] == 0:
        boxes = boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(
            f"boxes of annotation {number} have the shape {boxes.shape}: (B, 4) is needed"
        )
    if not len(boxes) and scores.ndim < 2:
        scores = scores.reshape(len(scores), -1 if len(scores) else 0)
    if scores.ndim != 2 or len(scores) != len(boxes) or (len(boxes) and not scores.shape[1]):
        raise ValueError(
            f"scores of annotation {number} have the shape {scores.shape} for {len(boxes)} boxes: "
            "one row a box is needed, the right caption's score and then its negatives'"
        )
    if not np.isfinite(scores).all():
        raise ValueError(
            f"scores of annotation {number} are not all finite (NaN or inf): the detector diverged "
            "or divided by 0; mend it there"
        )
    if not np.isfinite(boxes).all():
        raise ValueError(f"boxes of annotation {number} are not all finite (NaN or inf)")
    reversed_boxes = np.flatnonzero((boxes[:, :2] > boxes[:, 2:]).any(axis=1))
    if len(reversed_boxes):
        raise ValueError(
            f"box {boxes[reversed_boxes[0]].tolist()} of annotation {number} ends before it "
            "begins: corners x1, y1, x2, y2 are needed; these look like x, y, width, height"
        )
    return FGOVDPrediction(number, boxes, scores, _labels(labels, scores, number))


def label_scores(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(B,) the score of each box's label, of (B, M) scores and (B,) columns."""
    return np.take_along_axis(scores, labels[:, None], axis=1)[:, 0]


def to_entry(prediction: FGOVDPrediction) -> dict[str, Any]:
    """A prediction as the file has it; ``to_prediction(**entry)`` gives the same one back."""
    entry = {
        "annotation_id": prediction.annotation_id,
        "boxes": _shortest(prediction.boxes),
        "scores": _shortest(prediction.scores),
    }
    labels = prediction.labels
    if labels is not None and (labels != first_highest(prediction.scores)).any():
        entry["labels"] = labels.tolist()
    return entry


def first_highest(scores: np.ndarray) -> np.ndarray:
    """(B,) int64, the first of the highest of (B, M) scores; B may be 0, and M with it."""
    return scores.argmax(axis=1) if len(scores) else np.zeros(0, np.int64)


def check_predictions(file: FGOVDFile, predictions: Iterable[tuple]) -> dict[int, FGOVDPrediction]:
    """Check predictions against the annotations that they are for.

    Args:
        file: Ground truth.
        predictions: (annotation_id, boxes, scores) or, with labels, four values, in any order; see
            `to_prediction`.

    Returns:
        By annotation id.

    Raises:
        ValueError: An id is unknown or comes twice, or an entry is malformed.
    """
    known = {annotation["id"] for annotation in file.annotations}
    found: dict[int, FGOVDPrediction] = {}
    for item in predictions:
        prediction = to_prediction(*_parts(item))
        number = prediction.annotation_id
        if number not in known:
            raise ValueError(
                f"a prediction is for annotation {number}, which {file.source} does not have: use "
                "the annotation file that the detector ran on"
            )
        if number in found:
            raise ValueError(f"two predictions are for annotation {number}: keep one")
        found[number] = prediction
    return found


def write_predictions(path: str | Path, predictions: Iterable[tuple], n_negatives: int) -> None:
    """Write the file that this module describes, or nothing.

    Args:
        path: ``.json`` or ``.json.gz``; its folder is made.
        predictions: (annotation_id, boxes, scores) or, with labels, four values; see
            `to_prediction`. Taken one at a time.
        n_negatives: Negatives that the detector was asked for.

    Raises:
        ValueError: A prediction is malformed, has too many scores or comes twice.
        OSError: The file cannot be written.
    """
    check_n_negatives(n_negatives)
    head = {"format": FORMAT, "version": VERSION, "n_negatives": int(n_negatives)}
    seen: set[int] = set()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_text(path) as stream:
        stream.write(json.dumps(head)[:-1] + ', "predictions": [')
        for index, item in enumerate(predictions):
            prediction = to_prediction(*_parts(item))
            _check_entry(prediction, n_negatives, seen, repr(str(path)))
            stream.write((",\n" if index else "\n") + json.dumps(to_entry(prediction)))
        stream.write("\n]}\n")


def read_predictions(path: str | Path) -> FGOVDPredictions:
    """Read the file that this module describes.

    Raises:
        ValueError: The file is missing, truncated, of another format or version, or an entry is
            malformed.
    """
    where = repr(str(path))
    values = read_json(path, max_bytes=None)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else type(values).__name__
        raise ValueError(f"{where} is of the format {short(found)}: {FORMAT!r} is needed")
    if values.get("version") != VERSION:
        raise ValueError(
            f"{where} is of version {short(values.get('version'))}: this is for version {VERSION}"
        )
    n_negatives, entries = values.get("n_negatives"), values.get("predictions")
    try:
        check_n_negatives(n_negatives)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if not isinstance(entries, list):
        raise ValueError(f"{where} has no list 'predictions'")
    seen: set[int] = set()
    items = []
    for index, entry in enumerate(tqdm(entries, desc="predictions", disable=None, leave=False)):
        lacking = [key for key in _ENTRY_KEYS if not isinstance(entry, dict) or key not in entry]
        if lacking:
            raise ValueError(f"{where}: prediction number {index} has no {lacking[0]!r}")
        try:
            values = (entry[key] for key in _ENTRY_KEYS)
            prediction = to_prediction(*values, entry.get("labels"))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        _check_entry(prediction, n_negatives, seen, where)
        items.append(prediction)
    return FGOVDPredictions(n_negatives, tuple(items))


def _parts(item: Any) -> tuple[Any, Any, Any, Any]:
    try:
        annotation_id, boxes, scores, *labels = item
        (labels,) = labels or [None]
    except (TypeError, ValueError):
        raise ValueError(
            f"a prediction is {type(item).__name__}: give (annotation_id, boxes, scores), and "
            "labels if you like"
        ) from None
    return annotation_id, boxes, scores, labels


def _labels(values: Any, scores: np.ndarray, number: int) -> np.ndarray:
    if values is None:
        return first_highest(scores)
    try:
        labels = np.asarray(values)
    except (TypeError, ValueError, RuntimeError):
        labels = np.asarray(None)
    if labels.shape != (len(scores),) or (labels.size and labels.dtype.kind not in "iu"):
        raise ValueError(
            f"labels of annotation {number} are no list of {len(scores)} whole numbers, one a box"
        )
    wrong = labels[(labels < 0) | (labels >= scores.shape[1])]
    if wrong.size:
        raise ValueError(
            f"label {wrong[0]} of annotation {number} is no column of its scores: from 0, the "
            f"right caption, to {scores.shape[1] - 1}"
        )
    return labels.astype(np.int64)


def _check_entry(prediction: FGOVDPrediction, n_negatives: int, seen: set[int], where: str) -> None:
    number, width = prediction.annotation_id, prediction.scores.shape[1]
    if width > 1 + n_negatives:
        raise ValueError(
            f"{where}: scores of annotation {number} have {width} columns, but with n_negatives "
            f"{n_negatives} there are {1 + n_negatives} captions"
        )
    if number in seen:
        raise ValueError(f"{where}: two predictions are for annotation {number}: keep one")
    seen.add(number)


def _numbers(values: Any, what: str) -> np.ndarray:
    """Any array of numbers as float32, in which the official script computes."""
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what} are no array of numbers ({error})") from None
    if array.ndim == 0 or array.dtype.kind not in "iuf":
        raise ValueError(f"{what} are no array of numbers, but of {array.dtype}")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _shortest(array: np.ndarray) -> list[list[float]]:
    # numpy writes the shortest text that reads back as the same float32.
    return array.astype(str).astype(np.float64).tolist()
