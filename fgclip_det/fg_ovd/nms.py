"""Class-agnostic non-maximum suppression of many vocabularies at once, equal to torchvision's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# Padded boxes that are worked on at once; about 50 MiB.
_BLOCK = 1 << 20


def suppress(
    groups: np.ndarray, boxes: np.ndarray, scores: np.ndarray, iou_threshold: float = 0.5
) -> np.ndarray:
    """Non-maximum suppression within groups.

    In float32 and in torchvision's order of operations: a box goes if its IoU with a better one
    that stays is *greater* than the threshold; of equal scores the earlier box is better.

    Args:
        groups: (K,) int.
        boxes: (K, 4) float32, xyxy.
        scores: (K,) float32.
        iou_threshold: Of the suppression.

    Returns:
        (K,) bool.
    """
    order = np.lexsort((-scores, groups))
    sizes = np.unique(groups, return_counts=True)[1]
    keep = np.zeros(len(groups), bool)
    for places, is_box in _blocks(sizes):
        alive = is_box.copy()
        _suppress_block(boxes[order[places]], alive, iou_threshold)
        keep[order[places[is_box]]] = alive[is_box]
    return keep


def _blocks(sizes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Groups of about one size side by side: (V, B) places, and whether each is one."""
    starts = np.cumsum(sizes) - sizes
    by_size = np.argsort(-sizes, kind="stable")
    done = 0
    while done < len(sizes):
        width = int(sizes[by_size[done]])
        chosen = by_size[done : done + max(1, _BLOCK // width)]
        # Less than half as wide would be mostly padding.
        chosen = chosen[sizes[chosen] * 2 >= width]
        done += len(chosen)
        is_box = np.arange(width) < sizes[chosen, None]
        yield np.where(is_box, starts[chosen, None] + np.arange(width), 0), is_box


def _suppress_block(boxes: np.ndarray, alive: np.ndarray, iou_threshold: float) -> None:
    """Clears `alive` (V, B) in place, by (V, B, 4) boxes of descending score."""
    x1, y1, x2, y2 = (np.ascontiguousarray(boxes[..., side]) for side in range(4))
    area = box_area(boxes)
    for first in range(alive.shape[1] - 1):
        rows = np.flatnonzero(alive[:, first])
        if not len(rows):
            continue
        rest = slice(first + 1, None)
        iou = overlap(
            tuple(side[rows, first, None] for side in (x1, y1, x2, y2, area)),
            tuple(side[rows, rest] for side in (x1, y1, x2, y2, area)),
        )
        alive[rows, rest] &= ~(iou > iou_threshold)


def box_area(boxes: np.ndarray) -> np.ndarray:
    """(...) areas of (..., 4) xyxy boxes, in their own precision."""
    with np.errstate(over="ignore"):
        return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def overlap(one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...]) -> np.ndarray:
    """IoU in torchvision's order of operations; NaN between boxes without area.

    Args:
        one: x1, y1, x2, y2 and area, float32.
        other: Likewise, of a shape that fits.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        width = np.maximum(np.minimum(one[2], other[2]) - np.maximum(one[0], other[0]), 0)
        height = np.maximum(np.minimum(one[3], other[3]) - np.maximum(one[1], other[1]), 0)
        inter = width * height
        return inter / (one[4] + other[4] - inter)
