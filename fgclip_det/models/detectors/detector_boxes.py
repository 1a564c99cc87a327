"""Boxes of an MMDetection detector, whatever its kind, as regions that know no words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

BoxScore = Literal["max", "sum", "rpn"]


def check_detector(detector: BaseDetector, box_score: BoxScore) -> None:
    """Make sure that `detector_boxes` can ask a detector for boxes of a kind.

    Raises:
        ValueError: It cannot.
    """
    kind = type(detector).__name__
    if not isinstance(detector, BaseDetector) or not detector.with_bbox:
        raise ValueError(f"{kind} gives no boxes: wrap a detector of MMDetection's that has some")
    if box_score not in ("max", "sum", "rpn"):
        raise ValueError(f'box_score is {box_score!r}: choose "max", "sum" or "rpn"')
    if box_score == "rpn" and not getattr(detector, "with_rpn", False):
        raise ValueError(f'box_score="rpn" needs a two-stage detector, and {kind} is none: "max"')


def detector_boxes(
    detector: BaseDetector, batch_inputs: Tensor, metas: Sequence[dict], box_score: BoxScore
) -> list[InstanceData]:
    """Boxes of a detector, with its own suppression and thresholds.

    Args:
        detector: In eval mode.
        batch_inputs: (N, 3, H, W) as its preprocessor gives them.
        metas: Metainfo of each picture.
        box_score: "rpn" asks the first stage alone, else see `merge_classes`.

    Returns:
        For each picture ``bboxes`` (M, 4) in pixels of `batch_inputs`, ``scores`` (M,) and
        ``labels`` (M,).

    Raises:
        ValueError: It gives no boxes.
    """
    canvas = tuple(batch_inputs.shape[-2:])
    # Fresh samples: predictions are written into them, and proposals would be read from them.
    samples = [
        DetDataSample(metainfo={**meta, "batch_input_shape": canvas, "pad_shape": canvas})
        for meta in metas
    ]
    if box_score == "rpn":
        features = detector.extract_feat(batch_inputs)
        return detector.rpn_head.predict(features, samples, rescale=False)
    found = [
        sample.get("pred_instances")
        for sample in detector.predict(batch_inputs, samples, rescale=False)
    ]
    if any(instances is None or "bboxes" not in instances for instances in found):
        raise ValueError(
            f"{type(detector).__name__} predicts no boxes: wrap a detector that has some"
        )
    return found


def merge_classes(
    instances: InstanceData, size: tuple[int, int], box_score: BoxScore, num_classes: int = 0
) -> tuple[Tensor, Tensor, Tensor | None]:
    """One row for each box, where a detector lists a box once for each class it may be.

    Args:
        instances: From `detector_boxes`.
        size: Height and width of the picture in the frame of the boxes; they are clipped to it,
            and those that have no area in it are left out.
        box_score: The score of a box that is listed several times: the largest of its classes', or
            their sum, at most 1.
        num_classes: Classes that the detector knows; 0 for no scores of classes.

    Returns:
        By falling score, boxes (K, 4) float32, their scores (K,) float32 in [0, 1], and where
        classes are known (K, num_classes) float32, zero where the detector does not list them.

    Raises:
        ValueError: A label is none of `num_classes`.
    """
    found = get_box_tensor(instances.bboxes).float()
    scores, labels = instances.scores.float(), instances.labels
    if num_classes and len(labels) and int(labels.max()) >= num_classes:
        raise ValueError(
            f"the detector found its class {int(labels.max())}, counted from 0, but class_names "
            f"has {num_classes}: give the names that it was trained on, in its order"
        )
    found, rows = torch.unique(found, dim=0, return_inverse=True)
    merged = scores.new_zeros(len(found))
    if box_score == "sum":
        merged = merged.index_add(0, rows, scores)
    else:
        merged = merged.scatter_reduce(0, rows, scores, "amax")
    height, width = size
    boxes = torch.minimum(found.clamp(min=0), found.new_tensor([width, height, width, height]))
    inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    order = merged.masked_fill(~inside, -1.0).sort(descending=True, stable=True).indices
    order = order[: int(inside.sum())]
    if not num_classes:
        return boxes[order], merged[order].clamp(max=1), None
    by_class = scores.new_zeros(len(found) * num_classes)
    by_class = by_class.scatter_reduce(0, rows * num_classes + labels, scores, "amax")
    return boxes[order], merged[order].clamp(max=1), by_class.view(-1, num_classes)[order]
