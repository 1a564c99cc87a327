"""From scores of class-agnostic boxes to a list of detections."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from fgclip_det.compat import nms

# The first round of non-maximum suppression looks at this many candidates for each detection
# that may be given.
_CANDIDATES_PER_DETECTION = 20

# Above this many candidates, classes are suppressed one by one: the CUDA kernel's mask grows with
# the square of the candidates.
_MAX_JOINT_CANDIDATES = 20_000


def select_detections(
    boxes: Tensor,
    scores: Tensor | Iterable[Tensor],
    score_thr: float,
    iou_threshold: float,
    max_per_img: int,
    class_agnostic: bool = False,
) -> InstanceData:
    """Best detections of one image after non-maximum suppression, by falling score.

    Args:
        boxes: (K, 4) float32, xyxy; each may be detected as several categories.
        scores: (K, C) float32, or blocks (k, C) of its rows, one after another; at least one.
        score_thr: Only scores above it become candidates.
        iou_threshold: A candidate that overlaps a better one by more than this is dropped.
        max_per_img: At most so many detections.
        class_agnostic: Whether candidates of other categories count as better ones too.

    Returns:
        ``bboxes`` (M, 4), ``scores`` (M,), ``labels`` (M,) int64 columns of `scores`, ``regions``
        (M,) int64 rows of `boxes`.

    Raises:
        ValueError: A score is NaN, which no threshold could be told from an unlikely one.
    """
    blocks = [scores] if isinstance(scores, Tensor) else scores
    rows, columns, values = _candidates(blocks, score_thr, class_agnostic)
    groups = torch.zeros_like(columns) if class_agnostic else columns
    # Greedy suppression never looks at worse candidates, so that the first `max_per_img`
    # survivors among the best candidates are those among all.
    count = _CANDIDATES_PER_DETECTION * max_per_img
    while True:
        order = _best(values, count)
        keep = _nms(boxes[rows[order]], values[order], groups[order], iou_threshold)
        if len(keep) >= max_per_img or count >= len(values):
            break
        count *= 2
    kept = order[keep[:max_per_img]]
    return InstanceData(
        bboxes=boxes[rows[kept]], scores=values[kept], labels=columns[kept], regions=rows[kept]
    )


def _candidates(
    blocks: Iterable[Tensor], score_thr: float, class_agnostic: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and values, each (M,), of the scores above a threshold, row by row."""
    found, start = [], 0
    for scores in blocks:
        # The largest of several numbers is NaN if one of them is.
        if scores.numel() and scores.max().isnan():
            raise ValueError(
                f"scores of {int(scores.isnan().any(dim=1).sum())} of {len(scores)} boxes are NaN: "
                "the weights of the detector or the encoder, or the text embeddings, hold NaN or "
                "infinite values"
            )
        if class_agnostic and scores.numel():
            # Of one box in several categories only the best can survive.
            best, columns = scores.max(dim=1)
            rows = (best > score_thr).nonzero().squeeze(1)
            columns, values = columns[rows], best[rows]
        else:
            rows, columns = (scores > score_thr).nonzero(as_tuple=True)
            values = scores[rows, columns]
        found.append((rows + start, columns, values))
        start += len(scores)
    rows, columns, values = (torch.cat(parts) for parts in zip(*found, strict=True))
    return rows, columns, values


def _best(values: Tensor, count: int) -> Tensor:
    """Places of the `count` largest values, falling; of equal ones the first comes first."""
    places = torch.arange(len(values), device=values.device)
    if len(values) > count:
        # Millions of candidates are not sorted for the sake of two thousand.
        places = (values >= values.topk(count).values[-1]).nonzero().squeeze(1)
    order = values[places].sort(descending=True, stable=True).indices
    return places[order[:count]]


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
