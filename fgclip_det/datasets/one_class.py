"""Boxes without names, for a detector that is to find objects of any kind."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class OneClass(BaseTransform):
    """Give all boxes label 0; for a detector with ``num_classes=1``, behind `LoadAnnotations`."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replaces ``gt_bboxes_labels`` (K,) int64."""
        results["gt_bboxes_labels"] = np.zeros_like(results["gt_bboxes_labels"])
        return results
