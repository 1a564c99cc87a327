"""Which boxes are kept, against a loop over pairs of them."""

from __future__ import annotations

import pytest
import torch
import torchvision

from fgclip_det.models.hub_families.selection import select_boxes

ALL = dict(num_boxes=9, score_thr=0.0, nms_iou=None)


def test_suppression_of_the_loop():
    boxes = torch.rand(60, 4, generator=torch.Generator().manual_seed(0)) * 40
    boxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)
    scores = torch.rand(60, generator=torch.Generator().manual_seed(1))
    got, _ = select_boxes(boxes, scores, (50, 60), num_boxes=9, score_thr=0.2, nms_iou=0.5)
    clipped = torchvision.ops.clip_boxes_to_image(boxes, (50, 60))
    kept = []
    for row in scores.argsort(descending=True).tolist():
        overlaps = torchvision.ops.box_iou(clipped[row][None], clipped[kept])
        if scores[row] >= 0.2 and not (overlaps > 0.5).any() and len(kept) < 9:
            kept.append(row)
    assert got.equal(clipped[kept])


def test_of_equal_scores_the_first_come_first():
    boxes = torch.tensor([[0.0, 0, row + 1, 5] for row in range(20)])
    got, scores = select_boxes(boxes, torch.full((20,), 0.5), (50, 60), **ALL)
    assert got.equal(boxes[:9])
    assert scores.equal(torch.full((9,), 0.5))


def test_boxes_in_the_padding_take_nobodys_place():
    outside = torch.tensor([[0.0, 60, 5, 70]]).repeat(20, 1)
    inside = torch.tensor([[-3.0, 40, 70, 58]])
    scores = torch.cat([torch.full((20,), 0.9), torch.tensor([0.1])])
    got, kept = select_boxes(torch.cat([outside, inside]), scores, (50, 60), **ALL)
    assert got.tolist() == [[0, 40, 60, 50]]
    assert kept.equal(scores[-1:])


def test_none_of_none():
    got, scores = select_boxes(torch.zeros(0, 4), torch.zeros(0), (5, 5), **{**ALL, "nms_iou": 0.7})
    assert got.shape == (0, 4)
    assert scores.shape == (0,)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(value):
    boxes = torch.tensor([[0.0, 0, 5, 5], [0, 0, value, 5]])
    with pytest.raises(ValueError, match=r"1 of 2 boxes .* NaN or infinite"):
        select_boxes(boxes, torch.ones(2), (9, 9), **ALL)
    with pytest.raises(ValueError, match="NaN or infinite"):
        select_boxes(boxes[:1], torch.tensor([value]), (9, 9), **ALL)
