"""Average precision of each category."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools.coco import COCO

from fgclip_det.evaluation.coco_style.class_precision import (
    Detections,
    annotations_by_category,
    class_precision,
)
from fgclip_det.evaluation.coco_style.libraries import Library

_MAX_DETECTIONS = 100


def average_precision(
    ground_truth: COCO, detections: Detections, category_ids: Sequence[int], library: Library
) -> np.ndarray:
    """AP of each category over its 100 best detections in each image.

    Args:
        ground_truth: Annotations; every image in it counts, detected on or not.
        detections: Boxes; those of other categories do not count.
        category_ids: C categories to evaluate.
        library: Which one counts.

    Returns:
        (C, 2) float64 in 0..1, in the order of `category_ids`: AP at IoU 0.5, and its mean over the
        IoUs 0.50, 0.55, ..., 0.95. -1 for a category without ground truth; crowds are none.
    """
    truth = annotations_by_category(ground_truth)
    values = np.zeros((len(category_ids), 2))
    rows_of = detections.rows_of(category_ids)
    for value, category, rows in zip(values, category_ids, rows_of, strict=True):
        precision = class_precision(
            library, truth.get(category, ()), ground_truth.imgs, detections, rows, _MAX_DETECTIONS
        ).mean(axis=1)
        value[:] = precision[0], precision.mean()
    return values
