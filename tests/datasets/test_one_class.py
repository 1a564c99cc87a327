"""Boxes that have lost their names."""

from __future__ import annotations

import numpy as np
from mmdet.registry import TRANSFORMS

import fgclip_det.datasets  # noqa: F401  (registers)


def test_all_boxes_are_of_one_class() -> None:
    transform = TRANSFORMS.build(dict(type="OneClass"))
    labels = np.array([3, 0, 143])
    results = transform({"gt_bboxes_labels": labels, "gt_bboxes": "kept"})
    assert results["gt_bboxes_labels"].tolist() == [0, 0, 0]
    assert results["gt_bboxes_labels"].dtype == labels.dtype
    assert results["gt_bboxes"] == "kept" and labels.tolist() == [3, 0, 143]
    assert transform({"gt_bboxes_labels": labels[:0]})["gt_bboxes_labels"].shape == (0,)
