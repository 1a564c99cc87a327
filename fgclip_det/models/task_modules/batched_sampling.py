"""Boxes that a batch is trained on: assigned, counted on the host once, then drawn.

MMDetection's `RandomSampler` asks the device for each picture how many boxes are right and how many
wrong, and where. Here the host reads all counts of a batch together. It draws the same permutations
in the same order as `RandomSampler`, so that a seed gives the same boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.models.task_modules import AssignResult, MaxIoUAssigner, RandomSampler
from mmdet.models.task_modules.samplers import SamplingResult
from mmengine.structures import InstanceData
from torch import Tensor

from fgclip_det.models.task_modules.max_iou_assignment import assign, can_assign


def can_batch(assigner: object, sampler: object, truth: Sequence[InstanceData]) -> bool:
    """Whether `sample_batch` gives what these two give: mmdet's own, with their usual settings."""
    return (
        can_assign(assigner)
        and type(sampler) is RandomSampler
        and all(isinstance(one.bboxes, Tensor) for one in truth)
    )


def sample_batch(
    assigner: MaxIoUAssigner,
    sampler: RandomSampler,
    priors: Sequence[Tensor],
    truth: Sequence[InstanceData],
    ignored: Sequence[InstanceData | None],
    valid: Sequence[Tensor] | None = None,
    num_classes: int | None = None,
) -> list[SamplingResult]:
    """Assign and sample the boxes of a batch; the host waits for the device once.

    Args:
        assigner: See `can_batch`.
        sampler: See `can_batch`.
        priors: (P_i, 4) xyxy of each picture, in pixels of the input.
        truth: ``bboxes`` (G_i, 4) likewise and ``labels`` (G_i,) of each.
        ignored: Places of each where boxes are neither right nor wrong.
        valid: (P_i,) bool of each, whether a box takes part; all do where None.
        num_classes: Labels must be below; not checked where None.

    Returns:
        What ``sampler.sample`` gives for each picture after ``assigner.assign``, with the indices
        of all priors.

    Raises:
        ValueError: A label is not below `num_classes`, or no box of a picture takes part.
    """
    assigned = [
        assign(assigner, own, boxes, places, None if valid is None else valid[index])
        for index, (own, boxes, places) in enumerate(zip(priors, truth, ignored, strict=True))
    ]
    flags = [own.new_zeros(len(own), dtype=torch.uint8) for own in priors]
    if sampler.add_gt_as_proposals:
        for index, boxes in enumerate(truth):
            if len(boxes.bboxes):
                assigned[index].add_gt_(boxes.labels)
                flags[index] = torch.cat([flags[index].new_ones(len(boxes.bboxes)), flags[index]])
        priors = [torch.cat([t.bboxes, p]) for t, p in zip(truth, priors, strict=True)]
    counts = _read_counts(assigned, truth, valid)
    _check(counts, num_classes, valid is not None)
    masks = [one.gt_inds > 0 for one in assigned], [one.gt_inds == 0 for one in assigned]
    positives, negatives = _drawn(sampler, masks, counts)
    return [
        SamplingResult(
            pos_inds=positive,
            neg_inds=negative,
            priors=own,
            gt_bboxes=boxes.bboxes,
            assign_result=found,
            gt_flags=flag,
        )
        for positive, negative, own, boxes, found, flag in zip(
            positives, negatives, priors, truth, assigned, flags, strict=True
        )
    ]


def _read_counts(
    assigned: Sequence[AssignResult],
    truth: Sequence[InstanceData],
    valid: Sequence[Tensor] | None,
) -> list[list[int]]:
    """Of each picture: positive and negative boxes, boxes that take part, the highest label."""
    rows = []
    for index, (found, boxes) in enumerate(zip(assigned, truth, strict=True)):
        inds, labels = found.gt_inds, boxes.labels
        taking_part = inds.new_full((), len(inds)) if valid is None else valid[index].sum()
        highest = labels.amax() if len(labels) else inds.new_full((), -1)
        rows.append(torch.stack([(inds > 0).sum(), (inds == 0).sum(), taking_part, highest]))
    return torch.stack(rows).tolist()


def _check(counts: list[list[int]], num_classes: int | None, by_valid: bool) -> None:
    if num_classes is not None:
        _check_label(max(row[3] for row in counts), num_classes)
    if by_valid and not all(row[2] for row in counts):
        raise ValueError(
            f"picture {[row[2] for row in counts].index(0)} of the batch has no anchor within its "
            "borders: check its size and the sizes of anchors"
        )


def check_labels(labels: Sequence[Tensor], num_classes: int) -> None:
    """Refuse labels (G_i,) that are not below `num_classes`; the host waits for the device.

    Raises:
        ValueError: There is one.
    """
    together = torch.cat(list(labels))
    if len(together):
        _check_label(int(together.max()), num_classes)


def _check_label(highest: int, num_classes: int) -> None:
    if highest >= num_classes:
        raise ValueError(
            f"ground-truth label {highest} with {num_classes} trained "
            "categories: the training dataset and the detector need the same vocabulary"
        )


def _drawn(
    sampler: RandomSampler,
    masks: tuple[Sequence[Tensor], Sequence[Tensor]],
    counts: list[list[int]],
) -> tuple[list[Tensor], list[Tensor]]:
    """Ascending indices of the positive and of the negative boxes of each picture."""
    chosen: list[list[Tensor | None]] = []
    for positive, negative, *_ in counts:
        wanted = min(int(sampler.num * sampler.pos_fraction), positive)
        others = sampler.num - wanted
        if sampler.neg_pos_ub >= 0:
            others = min(others, int(sampler.neg_pos_ub * max(1, wanted)))
        chosen.append([_choice(positive, wanted), _choice(negative, others)])
    device = masks[0][0].device
    drawn = [one for pair in chosen for one in pair if one is not None]
    # All of them in one copy, which the host does not wait for either.
    ranks = torch.cat(drawn) if drawn else torch.zeros(0, dtype=torch.long)
    if device.type == "cuda":
        ranks = ranks.pin_memory().to(device, non_blocking=True)
    parts = iter(ranks.split([len(one) for one in drawn]))
    indices: tuple[list[Tensor], list[Tensor]] = ([], [])
    for number, pair in enumerate(chosen):
        for kind, choice in enumerate(pair):
            count = counts[number][kind]
            places = torch.nonzero_static(masks[kind][number], size=count).squeeze(1)
            indices[kind].append(places if choice is None else places[next(parts)])
    return indices


def _choice(count: int, wanted: int) -> Tensor | None:
    """`wanted` of the numbers below `count`, ascending; None for all."""
    if count <= wanted:
        return None
    return torch.randperm(count)[:wanted].sort().values
