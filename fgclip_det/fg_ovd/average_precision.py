"""COCO's average precision and recall in closed form, for very many labels of few boxes.

Equal to torchmetrics' ``MeanAveragePrecision`` with its defaults, which FG-OVD's official script
calls, down to the thresholds: those are float32 there, so that the recall 0.6 falls short of the
point 0.60000002. pycocotools visits every pair of a label and an image; here only the pairs that
hold ground truth or a detection exist, and all of them take their turns together.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

MAX_DETECTIONS = (1, 10, 100)
AREAS = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}


class LabelledBoxes(NamedTuple):
    """Boxes of all images, in the order in which equal scores rank.

    Attributes:
        images: (K,) int, index of the image.
        labels: (K,) int.
        boxes: (K, 4) float32, xyxy, in pixels of the image.
        scores: (K,) float32; not read of ground truth.
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray


class _Matches(NamedTuple):
    """Matches of D detections, for A area ranges and T thresholds of IoU.

    Attributes:
        label: (D,) index into the labels of the ground truth, ascending.
        rank: (D,) place among the detections of the same label and image, from 0.
        hit: (A, T, D) whether it found a box within the area range.
        counted: (A, T, D) whether it is right or wrong, and not merely of another size.
    """

    label: np.ndarray
    rank: np.ndarray
    hit: np.ndarray
    counted: np.ndarray


def float32_steps(start: float, stop: float, number: int) -> np.ndarray:
    """``torch.linspace`` in float32, as doubles: half of the steps from each end, rounded once."""
    steps = np.arange(number)
    step = float((np.float32(stop) - np.float32(start)) / np.float32(number - 1))
    first, last = float(np.float32(start)), float(np.float32(stop))
    values = np.where(steps < number // 2, first + step * steps, last - step * steps[::-1])
    return values.astype(np.float32).astype(np.float64)


IOU_THRESHOLDS = float32_steps(0.5, 0.95, 10)
RECALL_POINTS = float32_steps(0.0, 1.0, 101)


def coco_summary(detections: LabelledBoxes, truth: LabelledBoxes) -> dict[str, float]:
    """Mean average precision and recall over the labels that have ground truth.

    Args:
        detections: Those with a label that no ground truth bears do not count.
        truth: Ground truth; none of it is a crowd.

    Returns:
        ``map`` (mean over the IoUs .50:.05:.95), ``map_50``, ``map_75``, ``map_small``,
        ``map_medium``, ``map_large``, ``mar_1``, ``mar_10``, ``mar_100`` (with so many detections
        of a label in an image) and ``mar_small`` and so on, in 0..1; -1 where no ground truth is of
        that size.
    """
    labels = np.unique(truth.labels)
    areas = _areas(_to_xywh(truth.boxes))
    inside = _inside(areas)
    # (A, L): boxes of a label that are to be found.
    wanted = np.stack([_count(truth.labels, labels, chosen) for chosen in inside])
    matches = _match(detections, truth, labels, ~inside)
    precision = _average_precision(matches, wanted)
    names = list(AREAS)
    values = {
        "map": _mean(precision[0], wanted[0]),
        "map_50": _mean(precision[0, :1], wanted[0]),
        "map_75": _mean(precision[0, IOU_THRESHOLDS == 0.75], wanted[0]),
    }
    for index, name in enumerate(names[1:], start=1):
        values[f"map_{name}"] = _mean(precision[index], wanted[index])
    for limit in MAX_DETECTIONS:
        values[f"mar_{limit}"] = _mean(_recall(matches, wanted, 0, limit), wanted[0])
    for index, name in enumerate(names[1:], start=1):
        recall = _recall(matches, wanted, index, MAX_DETECTIONS[-1])
        values[f"mar_{name}"] = _mean(recall, wanted[index])
    return values


def _mean(values: np.ndarray, wanted: np.ndarray) -> float:
    """Mean of (T, L) over the labels that are wanted at all."""
    kept = values[:, wanted > 0]
    return float(kept.mean()) if kept.size else -1.0


def _to_xywh(boxes: np.ndarray) -> np.ndarray:
    # The widths are rounded to float32, and only then is anything computed in doubles.
    with np.errstate(over="ignore"):
        sides = boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([boxes[:, :2], sides], axis=1).astype(np.float64)


def _areas(xywh: np.ndarray) -> np.ndarray:
    return xywh[:, 2] * xywh[:, 3]


def _inside(areas: np.ndarray) -> np.ndarray:
    """(A, K): whether an area lies in each range; the bounds belong to both sides."""
    low, high = np.array(list(AREAS.values())).T[..., None]
    return (areas >= low) & (areas <= high)


def _count(values: np.ndarray, labels: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return np.bincount(np.searchsorted(labels, values[chosen]), minlength=len(labels))


def _match(
    detections: LabelledBoxes, truth: LabelledBoxes, labels: np.ndarray, ignored: np.ndarray
) -> _Matches:
    """Greedy matching by descending score, as pycocotools does it.

    Args:
        detections: Of all labels.
        truth: G boxes.
        labels: Labels of the ground truth, ascending.
        ignored: (A, G) whether a box is of another size.
    """
    num_images = 1 + max(detections.images.max(initial=0), truth.images.max(initial=0))
    known = np.flatnonzero(np.isin(detections.labels, labels))
    group = np.searchsorted(labels, detections.labels[known]) * num_images
    group += detections.images[known]
    order = np.lexsort((-detections.scores[known], group))
    known, group = known[order], group[order]
    rank = np.arange(len(group)) - np.searchsorted(group, group)
    kept = rank < MAX_DETECTIONS[-1]
    known, group, rank = known[kept], group[kept], rank[kept]

    truth_group = np.searchsorted(labels, truth.labels) * num_images + truth.images
    truth_order = np.argsort(truth_group, kind="stable")
    xywh = _to_xywh(detections.boxes[known])
    pairs = _pairs(group, rank, xywh, truth_group[truth_order], _to_xywh(truth.boxes[truth_order]))
    hit, matched = _take_turns(rank, pairs, ignored[:, truth_order])
    outside = ~_inside(_areas(xywh))[:, None]
    label = group // num_images
    # Rank the detections of a label over all images; equal scores keep the order of the images.
    by_score = np.lexsort((-detections.scores[known], label))
    counted = hit | ~(matched | outside)
    return _Matches(label[by_score], rank[by_score], hit[..., by_score], counted[..., by_score])


class _Pairs(NamedTuple):
    """P overlapping pairs of a detection and a box of the same label and image.

    Attributes:
        detection: (P,) index; ascending among pairs whose detections have the same rank.
        box: (P,) index.
        iou: (P,) float64, ascending among pairs of one detection.
    """

    detection: np.ndarray
    box: np.ndarray
    iou: np.ndarray


def _pairs(
    group: np.ndarray,
    rank: np.ndarray,
    xywh: np.ndarray,
    truth_group: np.ndarray,
    truth_xywh: np.ndarray,
) -> _Pairs:
    start = np.searchsorted(truth_group, group, side="left")
    number = np.searchsorted(truth_group, group, side="right") - start
    detection = np.repeat(np.arange(len(group)), number)
    first = np.repeat(np.cumsum(number) - number, number)
    box = np.arange(len(detection)) - first + start[detection]
    iou = _iou(xywh[detection], truth_xywh[box])
    near = np.flatnonzero(iou >= IOU_THRESHOLDS[0])
    detection, box, iou = detection[near], box[near], iou[near]
    order = np.lexsort((box, iou, detection, rank[detection]))
    return _Pairs(detection[order], box[order], iou[order])


def _iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(P,) IoU of (P, 4) xywh doubles, in pycocotools' order of operations."""
    upper = np.minimum(one[:, :2] + one[:, 2:], other[:, :2] + other[:, 2:])
    extent = upper - np.maximum(one[:, :2], other[:, :2])
    overlap = np.where((extent > 0).all(axis=1), extent[:, 0] * extent[:, 1], 0.0)
    union = _areas(one) + _areas(other) - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=overlap > 0)


def _take_turns(
    rank: np.ndarray, pairs: _Pairs, ignored: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(A, T, D) whether a detection found a wanted box, and whether it found any box.

    A detection takes the free box that it overlaps most, the later one of two alike; one of another
    size only where no wanted box will do. All detections of the same rank are in different groups,
    so they choose at once.
    """
    shape = (len(AREAS), len(IOU_THRESHOLDS))
    hit, matched = (np.zeros((*shape, len(rank)), bool) for _ in range(2))
    taken = np.zeros((*shape, ignored.shape[1]), bool)
    turn = rank[pairs.detection]
    bounds = np.flatnonzero(np.diff(turn, prepend=-1, append=-1))
    for low, high in itertools.pairwise(bounds):
        box, iou = pairs.box[low:high], pairs.iou[low:high]
        detection, starts = np.unique(pairs.detection[low:high], return_index=True)
        number = high - low
        free = ~taken[:, :, box] & (iou >= IOU_THRESHOLDS[:, None])
        # Pairs of a detection ascend by preference; wanted boxes come before all others.
        preference = np.arange(number) + number * ~ignored[:, None, box]
        best = np.maximum.reduceat(np.where(free, preference, -1), starts, axis=2)
        area, threshold, place = np.nonzero(best >= 0)
        chosen = best[area, threshold, place]
        taken[area, threshold, box[chosen % number]] = True
        matched[area, threshold, detection[place]] = True
        hit[area, threshold, detection[place]] = chosen >= number
    return hit, matched


def _average_precision(matches: _Matches, wanted: np.ndarray) -> np.ndarray:
    """(A, T, L) mean precision over the recall points; 0 for a label that is not wanted.

    Precision drops between hits, so the best precision from a recall on is that of a hit.
    """
    label, hit, num_labels = matches.label, matches.hit, wanted.shape[1]
    area, threshold, place = np.nonzero(hit)
    start = np.searchsorted(label, label[place])

    def number_up_to(flags: np.ndarray) -> np.ndarray:
        total = np.cumsum(flags, axis=2, dtype=np.int32)
        before = np.where(start > 0, total[area, threshold, start - 1], 0)
        return total[area, threshold, place] - before

    hits, counted = number_up_to(hit), number_up_to(matches.counted)
    segment = (area * hit.shape[1] + threshold) * num_labels + label[place]
    precision = _best_from_here(hits / counted, segment)
    boxes = wanted[area, label[place]]
    upper = np.searchsorted(RECALL_POINTS, hits / boxes, side="right")
    lower = np.searchsorted(RECALL_POINTS, (hits - 1) / boxes, side="right")
    # The point 0 is reached by the first hit: before it nothing is precise.
    lower[hits == 1] = 0
    size = hit.shape[0] * hit.shape[1] * num_labels
    total = np.bincount(segment, weights=precision * (upper - lower), minlength=size)
    return total.reshape(*hit.shape[:2], num_labels) / len(RECALL_POINTS)


def _best_from_here(values: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """Maximum of each value and those after it in its segment; `segment` ascends."""
    levels, level = np.unique(values, return_inverse=True)
    # Going back, each segment's codes lie above all earlier ones, so one pass serves them all.
    code = level + (segment[-1:] - segment) * len(levels)
    best = np.maximum.accumulate(code[::-1])[::-1]
    return levels[best % max(1, len(levels))]


def _recall(matches: _Matches, wanted: np.ndarray, area: int, limit: int) -> np.ndarray:
    """(T, L) share of the wanted boxes that the first `limit` detections of each image found."""
    num_thresholds, num_labels = matches.hit.shape[1], wanted.shape[1]
    threshold, place = np.nonzero(matches.hit[area] & (matches.rank < limit))
    segment = threshold * num_labels + matches.label[place]
    found = np.bincount(segment, minlength=num_thresholds * num_labels)
    return found.reshape(num_thresholds, num_labels) / np.maximum(wanted[area], 1)
