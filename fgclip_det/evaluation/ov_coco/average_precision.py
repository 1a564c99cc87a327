"""Average precision of each category, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

_MAX_DETECTIONS = 100


def average_precision(
    ground_truth: COCO, detections: Sequence[dict[str, Any]], category_ids: Sequence[int]
) -> np.ndarray:
    """AP of each category over its 100 best detections in each image.

    Args:
        ground_truth: Annotations; every image in it counts, detected on or not.
        detections: COCO results: ``image_id``, ``category_id``, ``bbox`` (xywh, px), ``score``.
            Those of other categories do not count.
        category_ids: C categories to evaluate, without repetition.

    Returns:
        (C, 2) float64 in 0..1, in the order of `category_ids`: AP at IoU 0.5, and its mean over the
        IoUs 0.50, 0.55, ..., 0.95. -1 for a category without ground truth; crowds are none.
    """
    if not category_ids:
        return np.zeros((0, 2))
    wanted = set(category_ids)
    counted = [dict(one) for one in detections if one["category_id"] in wanted]
    with contextlib.redirect_stdout(io.StringIO()):
        # pycocotools fails on an empty list; a model that finds nothing must still get its zeros.
        found = ground_truth.loadRes(counted) if counted else COCO()
        evaluator = COCOeval(ground_truth, found, "bbox")
        params = evaluator.params
        params.catIds, params.imgIds = list(category_ids), ground_truth.getImgIds()
        # Sizes and shorter lists of detections are not asked for: a quarter of the work.
        params.areaRng, params.areaRngLbl = params.areaRng[:1], params.areaRngLbl[:1]
        params.maxDets = [_MAX_DETECTIONS]
        evaluator.evaluate()
        evaluator.accumulate()
    # (IoU, recall, class) -> (class, IoU); -1 throughout for a class without ground truth.
    precision = evaluator.eval["precision"][..., 0, 0].mean(axis=1).T
    # pycocotools sorts the ids that it was given.
    rows = np.searchsorted(np.sort(np.asarray(category_ids)), category_ids)
    return np.stack([precision[rows, 0], precision[rows].mean(axis=1)], axis=1)
