"""From scores of class-agnostic boxes to a list of detections."""

from __future__ import annotations

import torch
from mmengine.structures import InstanceData
from torch import Tensor
from torchvision.ops import nms

# The first round of non-maximum suppression looks at this many candidates for each detection
# that may be given.
_CANDIDATES_PER_DETECTION = 20

# Above this many candidates, classes are suppressed one by one: the CUDA kernel's mask grows with
# the square of the candidates.
_MAX_JOINT_CANDIDATES = 20_000


def select_detections(
    boxes: Tensor,
    scores: Tensor,
    score_thr: float,
    iou_threshold: float,
    max_per_img: int,
    class_agnostic: bool = False,
) -> InstanceData:
    """Best detections of one image after non-maximum suppression, by falling score.

    Args:
        boxes: (K, 4) float32, xyxy; each may be detected as several categories.
        scores: (K, C) float32.
        score_thr: Only scores above it become candidates.
        iou_threshold: A candidate that overlaps a better one by more than this is dropped.
        max_per_img: At most so many detections.
        class_agnostic: Whether candidates of other categories count as better ones too.

    Returns:
        ``bboxes`` (M, 4), ``scores`` (M,), ``labels`` (M,) int64 columns of `scores`, ``regions``
        (M,) int64 rows of `boxes`.
    """
    if class_agnostic and scores.numel():
        # Of one box in several categories only the best can survive.
        best, columns = scores.max(dim=1)
        rows = (best > score_thr).nonzero().squeeze(1)
        columns, values = columns[rows], best[rows]
    else:
        rows, columns = (scores > score_thr).nonzero(as_tuple=True)
        values = scores[rows, columns]
    values, order = values.sort(descending=True, stable=True)
    rows, columns = rows[order], columns[order]
    groups = torch.zeros_like(columns) if class_agnostic else columns

    # Greedy suppression never looks at worse candidates, so that the first `max_per_img`
    # survivors among the best candidates are those among all.
    count = _CANDIDATES_PER_DETECTION * max_per_img
    while True:
        keep = _nms(boxes[rows[:count]], values[:count], groups[:count], iou_threshold)
        if len(keep) >= max_per_img or count >= len(values):
            break
        count *= 2
    keep = keep[:max_per_img]
    return InstanceData(
        bboxes=boxes[rows[keep]], scores=values[keep], labels=columns[keep], regions=rows[keep]
    )


def _nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Rows that survive within their group, rising; `scores` must fall."""
    if not len(boxes):
        return groups.new_zeros(0)
    if len(boxes) > _MAX_JOINT_CANDIDATES:
        kept = []
        for group in groups.unique():
            rows = (groups == group).nonzero().squeeze(1)
            kept.append(rows[nms(boxes[rows], scores[rows], iou_threshold)])
        return torch.cat(kept).sort().values
    # Groups are moved apart in float64: in float32, the 5000th name's boxes would be rounded to
    # a quarter of a pixel, and results would depend on the order of the vocabulary.
    boxes = boxes.double()
    offsets = groups.double() * (boxes.max() - boxes.min() + 1)
    return nms(boxes + offsets[:, None], scores.double(), iou_threshold).sort().values
