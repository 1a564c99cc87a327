"""FG-OVD's ranks: how many captions score at least as high as a box's own."""

from __future__ import annotations

from typing import Any

import numpy as np

from fgclip_det.fg_ovd.nms import box_area, overlap
from fgclip_det.fg_ovd.predictions import label_scores

# The official script finds overlaps by suppression too: strictly more than this.
_IOU_THRESHOLD = 0.5
MISSED = -1


def rank_boxes(
    groups: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    truth_groups: np.ndarray,
    truth_boxes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Rank of the right caption at each ground-truth box.

    The detection that answers for a box is the one of its vocabulary whose label scores best of
    those that overlap it with an IoU above 0.5, in float32; several boxes may be answered for by
    one detection.

    Args:
        groups: (K,) int, vocabulary of each detection that survived suppression.
        boxes: (K, 4) float32, xyxy.
        scores: (K, 1 + N) float32 of the vocabulary's captions, the right one first.
        labels: (K,) int, the column of `scores` that each detection counts for.
        truth_groups: (G,) int.
        truth_boxes: (G, 4) float32, xyxy.

    Returns:
        (G,) ranks, 1 to N + 1: the number of captions that score no lower than the right one,
        itself included; N + 1 where no detection overlaps the box. And (G,) the label of the
        detection, as its place in the vocabulary, or `MISSED`.
    """
    last = scores.shape[1]
    order = np.lexsort((-label_scores(scores, labels), groups))
    sorted_groups = groups[order]
    start = np.searchsorted(sorted_groups, truth_groups, side="left")
    number = np.searchsorted(sorted_groups, truth_groups, side="right") - start
    truth = np.repeat(np.arange(len(truth_groups)), number)
    first = np.repeat(np.cumsum(number) - number, number)
    detection = order[np.arange(len(truth)) - first + start[truth]]
    iou = overlap(
        (*truth_boxes[truth].T, box_area(truth_boxes)[truth]),
        (*boxes[detection].T, box_area(boxes)[detection]),
    )
    near = np.flatnonzero(iou > _IOU_THRESHOLD)
    # Pairs of a box stand in descending score: its first one answers.
    answered, place = np.unique(truth[near], return_index=True)
    answers = detection[near[place]]
    given = scores[answers]
    ranks = np.full(len(truth_groups), last)
    choices = np.full(len(truth_groups), MISSED)
    ranks[answered] = (given >= given[:, :1]).sum(axis=1)
    choices[answered] = labels[answers]
    return ranks, choices


def summarize_ranks(ranks: np.ndarray, choices: np.ndarray, n_negatives: int) -> dict[str, Any]:
    """Statistics of ranks.

    Args:
        ranks: (G,) from `rank_boxes`.
        choices: (G,) from `rank_boxes`.
        n_negatives: N.

    Returns:
        ``median_official`` (one place beyond the middle of the sorted ranks, as the official script
        takes it; the last rank where there is no such place and the script fails), ``median``,
        ``mean``, ``histogram`` (of the ranks 1 to N + 1), ``n``, and ``share_missed`` (of boxes
        that no detection overlaps). None for what is undefined without a box.
    """
    number = len(ranks)
    histogram = np.bincount(ranks - 1, minlength=n_negatives + 1).tolist()
    if not number:
        undefined = dict.fromkeys(("median_official", "median", "mean"))
        return {**undefined, "histogram": histogram, "n": 0, "share_missed": None}
    ordered = np.sort(ranks)
    return {
        "median_official": int(ordered[min(number // 2 + 1, number - 1)]),
        "median": float(np.median(ordered)),
        "mean": float(ordered.mean()),
        "histogram": histogram,
        "n": number,
        "share_missed": float((choices == MISSED).mean()),
    }
