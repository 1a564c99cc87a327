"""Suppression of many groups at once; tests/evaluation holds it against torchvision's."""

import numpy as np

from fgclip_det.fg_ovd.nms import suppress


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
