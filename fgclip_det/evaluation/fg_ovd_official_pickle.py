"""Predictions in the layout of FG-OVD's own inference scripts, read without running anything.

Those scripts pickle a list of dicts, one for each vocabulary: ``category_id`` (the right caption),
``boxes`` (B xyxy), ``labels`` (B category ids), ``scores`` (B) and mostly ``total_scores`` (B rows,
one column for each caption); others are not read. A pickle is a program. This reader knows lists,
dicts, tuples, numbers, strings and numpy arrays of numbers; whatever else one asks for is refused
before it is looked up.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fgclip_det.compat import safe_pickle
from fgclip_det.evaluation.fg_ovd_predictions import (
    FGOVDPrediction,
    FGOVDPredictions,
    to_prediction,
)
from fgclip_det.vocabulary.fg_ovd_files import FGOVDFile, FGOVDVocabulary, check_n_negatives

_KEYS = ("category_id", "boxes", "labels", "scores")
# How far a score may be off the highest of `total_scores` that it was taken from.
_TOLERANCE = 1e-4


class _Callable:
    """A function that a pickle may call and in no way change, as it could a function or a class."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a pickle may not change what it calls")


def _from_buffer(buffer: Any, dtype: Any, shape: tuple, order: str) -> np.ndarray:
    """Stands for numpy's function of this kind, which newer pickles of arrays call."""
    if not isinstance(dtype, safe_pickle.PlainDType) or not isinstance(buffer, bytes | bytearray):
        raise pickle.UnpicklingError("a numpy array is not plain numbers or text")
    return np.frombuffer(buffer, dtype=dtype.dtype).reshape(shape, order=order)


def _encode(text: str, encoding: str) -> bytes:
    """Stands for `_codecs.encode`, by which the oldest pickles give bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


_NAMES = {
    "numpy.dtype": safe_pickle.PlainDType,
    "numpy.ndarray": safe_pickle.PlainArray,
    "builtins.bytes": safe_pickle.empty_bytes,
    "__builtin__.bytes": safe_pickle.empty_bytes,
    "_codecs.encode": _encode,
    **{
        f"{package}.{name}": function
        for package in ("numpy.core", "numpy._core")
        for name, function in (
            ("multiarray._reconstruct", safe_pickle.PlainArray),
            ("multiarray.scalar", safe_pickle.plain_scalar),
            ("numeric._frombuffer", _from_buffer),
        )
    },
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _Callable:
        function = _NAMES.get(f"{module}.{name}")
        if function is None:
            raise pickle.UnpicklingError(
                f"it would run {f'{module}.{name}'!r}, and nothing was run; convert tensors and "
                "other objects to lists or numpy arrays where you trust it"
            )
        return _Callable(function)


def load_plain_pickle(path: str | Path) -> Any:
    """Content of a pickle of lists, dicts, tuples, numbers, strings and numpy arrays.

    Raises:
        ValueError: The file is missing or truncated, or holds anything else.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read ({error.strerror}): check it") from error
    try:
        return safe_pickle.to_plain_numpy(_PlainUnpickler(io.BytesIO(content)).load())
    except Exception as error:  # whatever a broken or hostile file makes the machine raise
        reason = str(error) or type(error).__name__
        raise ValueError(f"pickle {str(path)!r} is refused: {reason}") from error


def read_official_predictions(
    path: str | Path, ground_truth: FGOVDFile, n_negatives: int | None = None
) -> FGOVDPredictions:
    """Read predictions that FG-OVD's inference scripts wrote.

    Where ``total_scores`` are missing, or labels and scores do not follow from them, only the best
    caption's score is known: the others get lower ones, which leaves the mean average precision as
    it is and the ranks meaningless.

    Args:
        path: The pickle.
        ground_truth: The annotation file that the detector ran on.
        n_negatives: Negatives that it was asked for; None where ``total_scores`` tell.

    Raises:
        ValueError: The file is refused, malformed, or made for another annotation file, or nothing
            tells the number of negatives.
    """
    if n_negatives is not None:
        check_n_negatives(n_negatives)
    entries, where = load_plain_pickle(path), f"pickle {str(path)!r}"
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
        if not isinstance(category, int | np.integer) or int(category) not in owners:
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
        return None
    prediction = to_prediction(annotation_id, entry["boxes"], entry["total_scores"])
    # A column beyond the captions is the background's.
    scores = prediction.scores[:, : len(captions)]
    if not len(scores):
        return prediction
    labels, best = (np.asarray(entry[key]) for key in ("labels", "scores"))
    if labels.shape != (len(scores),) or best.shape != labels.shape:
        return None
    told = labels[:, None] == np.array(captions[: scores.shape[1]])
    highest = scores.max(axis=1)
    slack = _TOLERANCE * np.maximum(1, np.abs(highest))
    # Of equal scores a script may have taken any.
    right = (told & (scores >= (highest - slack)[:, None])).any(axis=1)
    if not (right & (np.abs(best - highest) <= slack)).all():
        return None
    return prediction._replace(scores=scores)


def _with_best_score(
    annotation_id: int, entry: dict[str, Any], captions: tuple[int, ...], where: str
) -> FGOVDPrediction:
    """The prediction with the best caption's score, and a lower one for all others."""
    best, labels = np.asarray(entry["scores"]), np.asarray(entry["labels"])
    scores = to_prediction(annotation_id, entry["boxes"], best.reshape(len(best), -1)).scores
    if labels.shape != (len(scores),) or (len(scores) and scores.shape[1:] != (1,)):
        raise ValueError(
            f"{where}: annotation {annotation_id} has {len(scores)} boxes, scores of the shape "
            f"{best.shape} and labels of the shape {labels.shape}: one of each is needed"
        )
    matrix = np.repeat(scores[:, :1] - 1, len(captions), axis=1) if len(scores) else scores
    for row, label in enumerate(labels.tolist()):
        if label not in captions:
            raise ValueError(
                f"{where}: the label {label!r} is no caption of annotation {annotation_id} with "
                f"its first {len(captions) - 1} negatives: set --n-negatives as the detector's"
            )
        matrix[row, captions.index(label)] = scores[row, 0]
    return to_prediction(annotation_id, entry["boxes"], matrix)
