"""The boxes of a batch are those that MMDetection assigns and draws, number for number."""

# First, since mmdet needs mmcv's ops.
import fgclip_det.compat  # noqa: F401

# isort: split
import pytest
import torch
from mmdet.registry import TASK_UTILS
from mmengine.structures import InstanceData

from fgclip_det.models.task_modules.batched_sampling import can_batch, sample_batch
from tests.messages import says

FIELDS = (
    *("pos_inds", "neg_inds", "num_pos", "num_neg", "avg_factor", "pos_priors", "neg_priors"),
    *("pos_is_gt", "num_gts", "pos_assigned_gt_inds", "pos_gt_labels", "pos_gt_bboxes"),
)
ASSIGNERS = {
    "proposals": dict(pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3),
    "regions": dict(pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=False),
    # Every object gets a box, however far, and objects share it.
    "any overlap": dict(pos_iou_thr=0.6, neg_iou_thr=(0.1, 0.4), min_pos_iou=0.0),
    "one box": dict(pos_iou_thr=0.6, neg_iou_thr=0.3, min_pos_iou=0.1, gt_max_assign_all=False),
    "ignoring": dict(pos_iou_thr=0.6, neg_iou_thr=0.3, ignore_iof_thr=0.4),
    "ignoring what covers": dict(
        pos_iou_thr=0.6, neg_iou_thr=0.3, ignore_iof_thr=0.4, ignore_wrt_candidates=False
    ),
}
SAMPLERS = {
    "few": dict(num=12, pos_fraction=0.5, add_gt_as_proposals=False),
    "with objects": dict(num=12, pos_fraction=0.25, add_gt_as_proposals=True),
    "few negatives": dict(num=12, pos_fraction=0.5, neg_pos_ub=2, add_gt_as_proposals=True),
    "more than there are": dict(num=500, pos_fraction=0.5, add_gt_as_proposals=True),
}


def built(assigner, sampler):
    return (
        TASK_UTILS.build(dict(type="MaxIoUAssigner", **assigner)),
        TASK_UTILS.build(dict(type="RandomSampler", **sampler)),
    )


def boxes(count, generator):
    """Of whole pixels on a small canvas: many overlaps are equal, some boxes are the same."""
    start = torch.randint(0, 12, (count, 2), generator=generator)
    sides = torch.randint(1, 9, (count, 2), generator=generator)
    return torch.cat([start, start + sides], dim=1).float()


def random_batch(seed):
    """Pictures with and without objects, places to ignore, and boxes."""
    generator = torch.Generator().manual_seed(seed)

    def number(high):
        return int(torch.randint(high, (), generator=generator))

    priors, truth, ignored = [], [], []
    for _ in range(4):
        own, count = boxes(number(60), generator), number(6)
        objects = boxes(count, generator)
        if len(own) and number(2):
            # Some objects lie exactly where a box is.
            objects = torch.cat([objects, own[:1]])
        labels = torch.randint(0, 5, (len(objects),), generator=generator)
        priors.append(own)
        truth.append(InstanceData(bboxes=objects, labels=labels))
        ignored.append(InstanceData(bboxes=boxes(number(3), generator)))
    return priors, truth, ignored


def by_mmdet(assigner, sampler, priors, truth, ignored):
    results = []
    for own, boxes_of, places in zip(priors, truth, ignored, strict=True):
        instances = InstanceData(priors=own)
        assigned = assigner.assign(instances, boxes_of, places)
        results.append(sampler.sample(assigned, instances, boxes_of))
    return results


def assert_equal(found, expected, fields=FIELDS):
    for mine, theirs in zip(found, expected, strict=True):
        for field in fields:
            one, other = getattr(mine, field), getattr(theirs, field)
            if isinstance(other, torch.Tensor):
                assert one.dtype == other.dtype and one.shape == other.shape, field
                assert torch.equal(one, other), field
            else:
                assert one == other, field


@pytest.mark.parametrize(
    ("assigner", "sampler"),
    # Each sampler is met; all pairs would take four times as long.
    list(zip(ASSIGNERS, [*SAMPLERS, *SAMPLERS], strict=False)),
)
def test_equals_mmdet(assigner, sampler):
    parts = built(ASSIGNERS[assigner], SAMPLERS[sampler])
    seen = set()
    for seed in range(12):
        batch = random_batch(seed)
        assert can_batch(*parts, batch[1])
        torch.manual_seed(seed)
        expected = by_mmdet(*parts, *batch)
        state = torch.get_rng_state()
        torch.manual_seed(seed)
        found = sample_batch(*parts, *batch)
        # What is drawn afterwards is the same too.
        assert torch.equal(torch.get_rng_state(), state)
        assert_equal(found, expected)
        for one in found:
            seen |= {("objects", one.num_gts > 0), ("positives", len(one.pos_inds) > 0)}
    assert len(seen) == 4


def test_boxes_that_take_no_part():
    """As if they were not there, but for the numbers of the others."""
    parts = built(ASSIGNERS["proposals"], SAMPLERS["few"])
    for seed in range(12):
        priors, truth, ignored = random_batch(seed)
        priors = [torch.cat([own, boxes(1, torch.Generator())]) for own in priors]
        valid = [torch.rand(len(own), generator=torch.Generator()) < 0.7 for own in priors]
        for one in valid:
            one[-1] = True
        torch.manual_seed(seed)
        chosen = [own[flags] for own, flags in zip(priors, valid, strict=True)]
        expected = by_mmdet(*parts, chosen, truth, ignored)
        torch.manual_seed(seed)
        found = sample_batch(*parts, priors, truth, ignored, valid)
        assert_equal(found, expected, [f for f in FIELDS if f not in ("pos_inds", "neg_inds")])
        for one, other, flags in zip(found, expected, valid, strict=True):
            numbers = flags.nonzero().squeeze(1)
            assert torch.equal(one.pos_inds, numbers[other.pos_inds])
            assert torch.equal(one.neg_inds, numbers[other.neg_inds])


def test_refusals():
    parts = built(ASSIGNERS["proposals"], SAMPLERS["few"])
    priors, truth, ignored = random_batch(0)
    highest = max(int(one.labels.max()) for one in truth if len(one.labels))
    sample_batch(*parts, priors, truth, ignored, num_classes=highest + 1)
    with pytest.raises(ValueError, match=says(f"label {highest}", "same vocabulary")):
        sample_batch(*parts, priors, truth, ignored, num_classes=highest)
    valid = [torch.ones(len(own), dtype=torch.bool) for own in priors]
    valid[2][:] = False
    with pytest.raises(ValueError, match=says("picture 2", "no anchor", "size")):
        sample_batch(*parts, priors, truth, ignored, valid)


@pytest.mark.parametrize(
    "changed",
    [
        dict(neg_iou_thr=[0.1, 0.3]),
        dict(gpu_assign_thr=3),
        dict(perm_repeat_gt_cfg=dict(iou_thr=0.7)),
        dict(type="ApproxMaxIoUAssigner"),
    ],
    ids=str,
)
def test_other_settings_are_left_to_mmdet(changed):
    usual = built(ASSIGNERS["proposals"], SAMPLERS["few"])
    other = TASK_UTILS.build({"type": "MaxIoUAssigner", **ASSIGNERS["proposals"], **changed})
    assert can_batch(*usual, []) and not can_batch(other, usual[1], [])
    sampler = TASK_UTILS.build(dict(type="PseudoSampler"))
    assert not can_batch(usual[0], sampler, [])
