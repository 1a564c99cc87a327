"""MMDetection's `MaxIoUAssigner`, with no operator whose result the host waits for."""

from __future__ import annotations

import torch
from mmdet.models.task_modules import AssignResult, MaxIoUAssigner
from mmengine.structures import InstanceData
from torch import Tensor


def can_assign(assigner: object) -> bool:
    """Whether `assign` does what an assigner would: all that configs of this package set."""
    return (
        type(assigner) is MaxIoUAssigner
        and isinstance(assigner.neg_iou_thr, float | tuple)
        and assigner.gpu_assign_thr <= 0
        and assigner.perm_repeat_gt_cfg is None
    )


def assign(
    assigner: MaxIoUAssigner,
    priors: Tensor,
    truth: InstanceData,
    ignored: InstanceData | None = None,
    valid: Tensor | None = None,
) -> AssignResult:
    """Which object each box is to find, as ``assigner.assign`` tells it.

    Args:
        assigner: Of a kind that `can_assign`.
        priors: (P, 4) xyxy, in pixels of the input.
        truth: ``bboxes`` (G, 4) likewise, and ``labels`` (G,) int64.
        ignored: ``bboxes`` of places where boxes are neither right nor wrong.
        valid: (P,) bool, whether a box takes part; all do where None.

    Returns:
        ``gt_inds`` (P,): 1 + index of the object, 0 for background, -1 for neither, and for boxes
        that take no part; ``max_overlaps`` (P,), ``labels`` (P,), -1 without an object.
    """
    boxes, labels = truth.bboxes, truth.labels
    if not len(boxes) or not len(priors):
        nothing = 0 if not len(boxes) else -1
        found = priors.new_full((len(priors),), nothing, dtype=torch.long)
        return AssignResult(
            num_gts=len(boxes),
            gt_inds=found if valid is None else found.masked_fill(~valid, -1),
            max_overlaps=priors.new_zeros(len(priors)),
            labels=priors.new_full((len(priors),), -1, dtype=torch.long),
        )
    overlaps = assigner.iou_calculator(boxes, priors)
    for excluded in (_ignored_priors(assigner, priors, ignored), None if valid is None else ~valid):
        if excluded is not None:
            overlaps = overlaps.masked_fill(excluded, -1)
    best, nearest = overlaps.max(dim=0)
    found = torch.full_like(nearest, -1)
    low, high = (
        assigner.neg_iou_thr
        if isinstance(assigner.neg_iou_thr, tuple)
        else (0, assigner.neg_iou_thr)
    )
    found = found.masked_fill((best >= low) & (best < high), 0)
    found = torch.where(best >= assigner.pos_iou_thr, nearest + 1, found)
    if assigner.match_low_quality:
        forced = _forced(assigner, overlaps)
        found = torch.where(forced > 0, forced, found)
    own = labels[(found - 1).clamp(min=0)]
    return AssignResult(
        num_gts=len(boxes),
        gt_inds=found,
        max_overlaps=best,
        labels=torch.where(found > 0, own, torch.full_like(own, -1)),
    )


def _ignored_priors(
    assigner: MaxIoUAssigner, priors: Tensor, ignored: InstanceData | None
) -> Tensor | None:
    """(P,) bool, whether a box lies in a place to ignore; None where nothing is ignored."""
    if assigner.ignore_iof_thr <= 0 or ignored is None or not len(ignored.bboxes):
        return None
    if assigner.ignore_wrt_candidates:
        shares = assigner.iou_calculator(priors, ignored.bboxes, mode="iof").amax(dim=1)
    else:
        shares = assigner.iou_calculator(ignored.bboxes, priors, mode="iof").amax(dim=0)
    return shares > assigner.ignore_iof_thr


def _forced(assigner: MaxIoUAssigner, overlaps: Tensor) -> Tensor:
    """(P,) int64, 1 + index of the object whose best box this is, the last of several; else 0."""
    best, place = overlaps.max(dim=1, keepdim=True)
    numbers = torch.arange(1, len(overlaps) + 1, device=overlaps.device)[:, None]
    numbers = torch.where(best >= assigner.min_pos_iou, numbers, 0)
    if assigner.gt_max_assign_all:
        return torch.where(overlaps == best, numbers, 0).amax(dim=0)
    forced = numbers.new_zeros(overlaps.shape[1])
    return forced.scatter_reduce(0, place.flatten(), numbers.flatten(), "amax")
