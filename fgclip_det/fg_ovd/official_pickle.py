"""Predictions in the layout of FG-OVD's own inference scripts, read without running anything.

Those scripts pickle a list of dicts, one for each vocabulary: ``category_id`` (the right caption),
``boxes`` (B xyxy), ``labels`` (B category ids), ``scores`` (B) and mostly ``total_scores`` (B rows,
one column for each caption); others are not read. See `read_pickle`.

Labels are kept, as the official evaluation keeps them: of scores that tie a script may take any.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fgclip_det.fg_ovd.files import FGOVDFile, FGOVDVocabulary, check_n_negatives
from fgclip_det.fg_ovd.predictions import (
    FGOVDPrediction,
    FGOVDPredictions,
    to_prediction,
)
from fgclip_det.io import read_pickle
from fgclip_det.io.pickles import DecodeTensor

_KEYS = ("category_id", "boxes", "labels", "scores")
# How far a score may be off the one of its label in `total_scores`.
_TOLERANCE = 1e-4


def read_official_predictions(
    path: str | Path,
    ground_truth: FGOVDFile,
    n_negatives: int | None = None,
    *,
    decode_tensor: DecodeTensor | None = None,
) -> FGOVDPredictions:
    """Read predictions that FG-OVD's inference scripts wrote.

    A box counts for its label with the score of that, even where another caption scores higher, as
    the official evaluation has it. Where ``total_scores`` are missing, or ``scores`` are not those
    that they have for the labels, only the label's score is known: the others get lower ones, which
    leaves the mean average precision as it is and the ranks meaningless.

    Args:
        path: The pickle.
        ground_truth: The annotation file that the detector ran on.
        n_negatives: Negatives that it was asked for; None where ``total_scores`` tell.
        decode_tensor: Of `read_pickle`, for pickles of PyTorch's tensors.

    Raises:
        ValueError: The file is refused, malformed, or made for another annotation file, or nothing
            tells the number of negatives.
    """
    if n_negatives is not None:
        check_n_negatives(n_negatives)
    entries, where = read_pickle(path, decode_tensor), f"pickle {str(path)!r}"
    if not isinstance(entries, list | tuple):
        raise ValueError(f"{where} holds {type(entries).__name__}, not a list of predictions")
    owners = _vocabularies(ground_truth)
    negatives = {one["id"]: one["neg_category_ids"] for one in ground_truth.annotations}
    jobs = []
    for index, entry in enumerate(entries):
        lacking = [key for key in _KEYS if not isinstance(entry, dict) or key not in entry]
        if lacking:
            raise ValueError(f"{where}: prediction number {index} has no {lacking[0]!r}")
        category = entry["category_id"]
        if isinstance(category, np.ndarray) and category.ndim == 0:  # a tensor of one number
            category = category[()]
        is_whole = isinstance(category, int | np.integer) and not isinstance(category, bool)
        if not is_whole or int(category) not in owners:
            raise ValueError(
                f"{where}: the category {category!r} is no caption of an annotation of "
                f"{ground_truth.source}: use the file that the detector ran on"
            )
        vocabulary = owners[int(category)]
        captions = (int(category), *negatives[vocabulary.annotation_id])
        jobs.append((vocabulary.annotation_id, entry, captions))
    full = [_with_all_scores(*job) for job in jobs]
    if all(one is not None for one in full):
        width = max((one.scores.shape[1] for one in full), default=0)
        return FGOVDPredictions(max(width - 1, n_negatives or 0, 0), tuple(full))
    if n_negatives is None:
        raise ValueError(
            f"{where} has the best caption's score only: set --n-negatives to the number that the "
            "detector was asked for"
        )
    best = (_with_best_score(n, e, c[: 1 + n_negatives], where) for n, e, c in jobs)
    return FGOVDPredictions(n_negatives, tuple(best), has_all_scores=False)


def _vocabularies(ground_truth: FGOVDFile) -> Mapping[int, FGOVDVocabulary]:
    return {one.category_ids[0]: one for one in ground_truth.vocabularies(0)}


def _with_all_scores(
    annotation_id: int, entry: dict[str, Any], captions: tuple[int, ...]
) -> FGOVDPrediction | None:
    """The prediction with each caption's score; None where labels and scores tell otherwise."""
    if entry.get("total_scores") is None:
        # Where nothing was found no score is unknown.
        boxes = entry["boxes"]
        empty = isinstance(boxes, list | tuple) and not boxes
        empty |= isinstance(boxes, np.ndarray) and boxes.shape[:1] == (0,)
        return to_prediction(annotation_id, [], []) if empty else None
    prediction = to_prediction(annotation_id, entry["boxes"], entry["total_scores"])
    # A column beyond the captions is the background's.
    scores = prediction.scores[:, : len(captions)]
    if not len(scores):
        return prediction
    labels, best = (_numbers(annotation_id, entry, key) for key in ("labels", "scores"))
    if labels.shape != (len(scores),) or best.shape != labels.shape:
        return None
    told = labels[:, None] == np.array(captions[: scores.shape[1]])
    # A caption that is its own negative has two columns.
    off = np.where(told, np.abs(scores - best[:, None]), np.inf)
    # Not "greater": NaN is neither.
    if not (off.min(axis=1) <= _TOLERANCE * np.maximum(1, np.abs(best))).all():
        return None
    return prediction._replace(scores=scores, labels=off.argmin(axis=1))


def _with_best_score(
    annotation_id: int, entry: dict[str, Any], captions: tuple[int, ...], where: str
) -> FGOVDPrediction:
    """The prediction with the best caption's score, and a lower one for all others."""
    best, labels = (_numbers(annotation_id, entry, key) for key in ("scores", "labels"))
    if best.ndim != 1 or labels.shape != best.shape:
        raise ValueError(
            f"{where}: annotation {annotation_id} has scores of the shape {best.shape} and labels "
            f"of the shape {labels.shape}: one of each for each box is needed"
        )
    scores = to_prediction(annotation_id, entry["boxes"], best[:, None]).scores
    # One less would be the same number where scores are large.
    lower = scores - np.maximum(1, np.abs(scores))
    matrix = np.repeat(lower, len(captions), axis=1)
    places = []
    for row, label in enumerate(labels.tolist()):
        if label not in captions:
            raise ValueError(
                f"{where}: the label {label!r} is no caption of annotation {annotation_id} with "
                f"its first {len(captions) - 1} negatives: set --n-negatives as the detector's"
            )
        places.append(captions.index(label))
        matrix[row, places[-1]] = scores[row, 0]
    return to_prediction(annotation_id, entry["boxes"], matrix, places)


def _numbers(annotation_id: int, entry: dict[str, Any], key: str) -> np.ndarray:
    """Any array of numbers, in its own type: category ids do not fit float32."""
    try:
        array = np.asarray(entry[key])
    except ValueError:
        array = np.asarray(None)
    if array.size and array.dtype.kind not in "iuf":
        raise ValueError(f"{key} of annotation {annotation_id} are no array of numbers")
    return array
