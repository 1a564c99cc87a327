"""Share of ground-truth boxes that class-agnostic proposals cover."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask
from pycocotools.coco import COCO

_IOU_THRESHOLD = 0.5


def boxes_by_image(
    sources: Sequence[tuple[COCO, Sequence[int]]],
) -> dict[Any, np.ndarray]:
    """Ground-truth boxes of some categories, without crowds.

    Args:
        sources: Annotations, in one file or in several for the same images, and the categories
            whose boxes count in each.

    Returns:
        Image id -> (G, 4) float64, xywh, in pixels; images without a box are left out.
    """
    boxes = defaultdict(list)
    for ground_truth, category_ids in sources:
        wanted = set(category_ids)
        for annotation in ground_truth.dataset["annotations"]:
            image, category = annotation["image_id"], annotation["category_id"]
            if category in wanted and image in ground_truth.imgs and not annotation["iscrowd"]:
                boxes[image].append((category, annotation["bbox"]))
    # pycocotools' order, which decides between boxes of equal overlap.
    ordered = {image: sorted(found, key=lambda pair: pair[0]) for image, found in boxes.items()}
    return {image: np.array([box for _, box in found], float) for image, found in ordered.items()}


def proposal_recall(
    boxes: Mapping[Any, np.ndarray], proposals: Mapping[Any, np.ndarray], counts: Sequence[int]
) -> list[float]:
    """Recall at IoU 0.5 of the best proposals of each image, over all boxes of all images.

    As pycocotools counts it with ``useCats=0``: from the best proposal on, each takes the box that
    it overlaps most among those not yet taken.

    Args:
        boxes: Image id -> (G, 4) ground truth, xywh, in pixels.
        proposals: Image id -> (K, 4), xyxy, in the same pixels, the best first.
        counts: How many proposals of each image count; one recall for each number.

    Returns:
        Recalls in 0..1, in the order of `counts`; -1 where there is no box.
    """
    total = sum(map(len, boxes.values()))
    if not total:
        return [-1.0] * len(counts)
    found_at = [
        _ranks(of_image, proposals[image])
        for image, of_image in boxes.items()
        if image in proposals
    ]
    ranks = np.concatenate([np.zeros(0, int), *found_at])
    return [float((ranks < count).sum() / total) for count in counts]


def _ranks(boxes: np.ndarray, proposals: np.ndarray) -> np.ndarray:
    """Rank from 0 of the proposal that takes each box that is taken: integers, rising."""
    if not len(proposals):
        return np.zeros(0, int)
    corners = proposals.astype(float)
    sizes = corners[:, 2:] - corners[:, :2]
    ious = mask.iou(np.concatenate([corners[:, :2], sizes], axis=1), boxes, [0] * len(boxes))
    free = np.ones(len(boxes), bool)
    ranks = []
    for rank in np.flatnonzero(ious.max(axis=1) >= _IOU_THRESHOLD):
        overlaps = np.where(free, ious[rank], -1.0)
        best = len(boxes) - 1 - int(overlaps[::-1].argmax())
        if overlaps[best] >= _IOU_THRESHOLD:
            free[best] = False
            ranks.append(rank)
    return np.array(ranks, int)
