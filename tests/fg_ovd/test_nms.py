"""Suppression of many groups at once, against torchvision's of each."""

import numpy as np
import torch
from torchvision.ops import nms

from fgclip_det.fg_ovd import nms as fg_ovd_nms
from fgclip_det.fg_ovd.nms import suppress


def expected(groups, boxes, scores):
    keep = np.zeros(len(groups), bool)
    for group in np.unique(groups):
        places = np.flatnonzero(groups == group)
        kept = nms(torch.tensor(boxes[places]), torch.tensor(scores[places]), 0.5)
        keep[places[kept.numpy()]] = True
    return keep


def test_equals_torchvision_with_ties_and_degenerate_boxes(monkeypatch):
    kept = total = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        number = int(random.integers(1, 400))
        # Whole numbers: IoUs of exactly 1/2, which suppress nothing; and boxes without area.
        start = random.integers(0, 15, (number, 2))
        boxes = np.concatenate([start, start + random.integers(0, 30, (number, 2))], axis=1)
        scores = random.random(number).astype(np.float32)
        if seed % 2:
            boxes, scores = boxes + random.random((number, 4)) * 0.1, scores.round(1)
            boxes[:, 2:] = np.maximum(boxes[:, :2], boxes[:, 2:])
        boxes = boxes.astype(np.float32)
        groups = random.integers(0, random.integers(1, 5), number)
        # The smallest block puts every group into one of its own.
        monkeypatch.setattr(fg_ovd_nms, "_BLOCK", 1 << 20 if seed % 3 else 1)
        keep = suppress(groups, boxes, scores)
        assert (keep == expected(groups, boxes, scores)).all(), seed
        kept, total = kept + keep.sum(), total + number
    assert 0.2 < kept / total < 0.8


def test_half_an_overlap_stays_and_the_earlier_of_equals_wins():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 5, 10], [0, 0, 10, 10]], np.float32)
    same = np.ones(3, np.float32)
    assert suppress(np.zeros(3, int), boxes, same).tolist() == [True, True, False]
    assert suppress(np.array([0, 0, 1]), boxes, same).all()
    assert suppress(np.zeros(3, int), boxes[[1, 0, 2]], same).tolist() == [True, True, False]


def test_no_boxes_and_huge_ones():
    nothing = suppress(np.zeros(0, int), np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    assert nothing.shape == (0,)
    huge = np.array([[-1e30, -1e30, 1e30, 1e30], [0, 0, 1, 1]], np.float32)
    assert suppress(np.zeros(2, int), huge, np.array([0.5, 0.4], np.float32)).all()
