"""cgF1 and its parts, as SA-Co defines them: does an answer say whether, and where?

A query is a pair of a picture and a phrase. Boxes that were found (at or above a threshold of their
values) and true boxes are matched one to one such that the sum of their IoU is largest. At each IoU
threshold a match at or above it is a TP, a box found besides a FP, a true box besides a FN.

* ``positive_micro_F1``: of the sums of TP and FN over all queries with truth, and of FP over those
  that have both truth and boxes found. A false alarm where nothing is lowers only the next one.
* ``IL_MCC``: Matthews' correlation of "there is truth" with "something was found" over queries,
  wherever it was found.
* ``cgF1``: their product.

SA-Co is published with masks; here IoU is of boxes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from pycocotools import mask
from scipy.optimize import linear_sum_assignment

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
# SA-Co's own, which keep a division by zero away, and a perfect answer a little below 1.
_IN_MCC, _IN_F1 = 1e-6, 1e-4


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found for one query, and what is there.

    Attributes:
        found: (F, 4) boxes, xyxy, in pixels of the picture.
        values: (F,) how sure each is.
        truth: (T, 4) true boxes, alike; none where the phrase is nowhere in the picture.
        ignored: (T,) bool, true boxes that count neither way; None for no such ones.
    """

    found: np.ndarray
    values: np.ndarray
    truth: np.ndarray
    ignored: np.ndarray | None = None


@dataclass
class _Sums:
    """Over queries; arrays are (IoU thresholds,)."""

    true: np.ndarray = field(default_factory=lambda: np.zeros(len(IOU_THRESHOLDS)))
    false: np.ndarray = field(default_factory=lambda: np.zeros(len(IOU_THRESHOLDS)))
    missed: np.ndarray = field(default_factory=lambda: np.zeros(len(IOU_THRESHOLDS)))
    own_f1: list[np.ndarray] = field(default_factory=list)
    queries: np.ndarray = field(default_factory=lambda: np.zeros((2, 2), dtype=np.int64))


def presence_counts(answers: Iterable[Answer], threshold: float = 0.5) -> dict[str, float | int]:
    """cgF1 and its parts.

    Args:
        answers: One for each query.
        threshold: Boxes count from this value on; 0.5 is SA-Co's.

    Returns:
        ``cgF1``, ``positive_micro_F1`` and ``positive_macro_F1`` (of the queries with truth and
        boxes found, 0 where there are none), each as the mean over IoU .50:.05:.95, and behind
        ``@50`` and ``@75``; ``IL_MCC``; and the queries behind it: ``TP``, ``FP``, ``FN``, ``TN``.

    Raises:
        ValueError: There are no answers, or values are NaN or not as many as boxes.
    """
    sums = _Sums()
    for answer in answers:
        _add(sums, answer, threshold)
    (negatives, alarms), (misses, hits) = sums.queries.tolist()
    if not sums.queries.sum():
        raise ValueError("there are no queries to count: give at least one answer")
    product = (hits + alarms) * (hits + misses) * (negatives + alarms) * (negatives + misses)
    mcc = (hits * negatives - alarms * misses) / (product**0.5 + _IN_MCC)
    micro = _f1(sums.true, sums.false, sums.missed)
    macro = np.mean(sums.own_f1, axis=0) if sums.own_f1 else np.zeros(len(IOU_THRESHOLDS))
    result: dict[str, float | int] = {"IL_MCC": float(mcc)}
    named = {"cgF1": micro * mcc, "positive_micro_F1": micro, "positive_macro_F1": macro}
    for name, of_thresholds in named.items():
        result[name] = float(of_thresholds.mean())
        for percent in (50, 75):
            result[f"{name}@{percent}"] = float(of_thresholds[IOU_THRESHOLDS.index(percent / 100)])
    return {**result, "TP": hits, "FP": alarms, "FN": misses, "TN": negatives}


def box_iou(one: np.ndarray, other: np.ndarray, are_crowds: bool = False) -> np.ndarray:
    """How much boxes share, as pycocotools has it.

    Args:
        one: (N, 4) boxes, xyxy, of any float type.
        other: (M, 4) boxes, xyxy, in the same frame.
        are_crowds: Whether the second are crowds.

    Returns:
        (N, M) float64: their IoU, or what share of the first lies in each crowd; 0 where nothing
        is to be shared.
    """
    pair = [np.asarray(boxes, dtype=np.float64).reshape(-1, 4) for boxes in (one, other)]
    if not all(map(len, pair)):
        return np.zeros([len(boxes) for boxes in pair])
    xywh = [np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]) for boxes in pair]
    return mask.iou(*xywh, [int(are_crowds)] * len(pair[1]))


def _add(sums: _Sums, answer: Answer, threshold: float) -> None:
    values = np.asarray(answer.values, dtype=np.float64)
    found = np.asarray(answer.found).reshape(-1, 4)
    truth = np.asarray(answer.truth).reshape(-1, 4)
    if len(values) != len(found) or np.isnan(values).any():
        raise ValueError(
            f"{len(found)} boxes have {len(values)} values, {int(np.isnan(values).sum())} of them "
            "NaN: give each box a number"
        )
    found = found[values >= threshold]
    if answer.ignored is not None:
        truth = truth[~np.asarray(answer.ignored, dtype=bool)]
    sums.queries[int(len(truth) > 0), int(len(found) > 0)] += 1
    if not len(truth):
        return
    overlaps = box_iou(truth, found)
    matched = overlaps[linear_sum_assignment(overlaps, maximize=True)]
    # As IoU are compared with rounded thresholds: 0.6 found is 0.6.
    true = (matched[:, None] >= np.array(IOU_THRESHOLDS) - 1e-9).sum(axis=0)
    false, missed = len(found) - true, len(truth) - true
    sums.true += true
    sums.missed += missed
    if len(found):
        sums.false += false
        sums.own_f1.append(_f1(true, false, missed))


def _f1(true: np.ndarray, false: np.ndarray, missed: np.ndarray) -> np.ndarray:
    precision, recall = true / (true + false + _IN_F1), true / (true + missed + _IN_F1)
    return 2 * precision * recall / (precision + recall + _IN_F1)
