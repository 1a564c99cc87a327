"""Boxes of an MMDetection detector, whatever its kind, as regions that know no words."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.detectors import BaseDetector, TwoStageDetector, TwoStagePanopticSegmentor
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor, nn

BoxScore = Literal["max", "sum", "rpn"]
# Detectors that found nothing in a picture although their numbers are fine.
_FINITE: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def check_detector(detector: BaseDetector, box_score: BoxScore) -> None:
    """Make sure that `detector_boxes` can ask a detector for boxes of a kind.

    Raises:
        ValueError: It cannot.
    """
    kind = type(detector).__name__
    if (
        not isinstance(detector, BaseDetector)
        or not detector.with_bbox
        or isinstance(detector, TwoStagePanopticSegmentor)
    ):
        raise ValueError(f"{kind} gives no boxes: wrap a detector of MMDetection's that has some")
    if isinstance(detector, TwoStageDetector) and not detector.with_rpn:
        raise ValueError(
            f"{kind} has no first stage, it reads boxes from a file: give its results to "
            "tools/rescore.py, or wrap a detector that finds boxes itself"
        )
    if box_score not in ("max", "sum", "rpn"):
        raise ValueError(f'box_score is {box_score!r}: choose "max", "sum" or "rpn"')
    # Learned queries, as of Sparse R-CNN, stand where the first stage is, and have no scores.
    if box_score == "rpn" and not isinstance(getattr(detector, "rpn_head", None), BaseDenseHead):
        raise ValueError(
            f'box_score="rpn" needs a two-stage detector whose first stage scores its boxes, and '
            f'{kind} is none: choose "max" or "sum"'
        )


def detector_boxes(
    detector: BaseDetector, batch_inputs: Tensor, metas: Sequence[dict], box_score: BoxScore
) -> list[InstanceData]:
    """Boxes of a detector, with its own suppression and thresholds; its masks are not computed.

    Args:
        detector: In eval mode.
        batch_inputs: (N, 3, H, W) as its preprocessor gives them.
        metas: Metainfo of each picture.
        box_score: "rpn" asks the first stage alone, else see `merge_classes`.

    Returns:
        For each picture ``bboxes`` (M, 4) in pixels of `batch_inputs`, ``scores`` (M,) and
        ``labels`` (M,).

    Raises:
        ValueError: It gives no boxes or boxes of NaN, or cannot run here.
    """
    canvas = tuple(batch_inputs.shape[-2:])
    # Fresh samples: predictions are written into them, and proposals would be read from them.
    samples = [
        DetDataSample(metainfo={**meta, "batch_input_shape": canvas, "pad_shape": canvas})
        for meta in metas
    ]
    try:
        with torch.no_grad(), _without_masks(detector):
            found = _predicted(detector, batch_inputs, samples, box_score)
    except NotImplementedError as error:
        raise ValueError(f"{type(detector).__name__} cannot run here: {error}") from None
    if any(instances is None or "bboxes" not in instances for instances in found):
        raise ValueError(
            f"{type(detector).__name__} predicts no boxes: wrap a detector that has some"
        )
    check_finite(detector, found, batch_inputs)
    return found


def _predicted(
    detector: BaseDetector, batch_inputs: Tensor, samples: list[DetDataSample], box_score: BoxScore
) -> list[InstanceData | None]:
    if box_score == "rpn":
        features = detector.extract_feat(batch_inputs)
        return detector.rpn_head.predict(features, samples, rescale=False)
    return [
        sample.get("pred_instances")
        for sample in detector.predict(batch_inputs, samples, rescale=False)
    ]


@contextlib.contextmanager
def _without_masks(detector: BaseDetector) -> Iterator[None]:
    """Let a detector pass over its mask head, which takes longer than its boxes.

    Of heads that give boxes and masks in one (RTMDet-Ins), both are computed.
    """
    roi_head, mask_head = getattr(detector, "roi_head", None), getattr(detector, "mask_head", None)
    if getattr(roi_head, "with_mask", False):
        # An attribute of the object hides the method of its class until it is deleted again.
        holder, name = roi_head, "predict_mask"
    elif mask_head is not None:
        holder, name = mask_head, "predict"
    else:
        yield
        return
    setattr(holder, name, _boxes_alone)
    try:
        yield
    finally:
        vars(holder).pop(name, None)  # another thread may have taken it away


def _boxes_alone(*arguments: Any, results_list: list[InstanceData] | None = None, **_: Any) -> Any:
    return arguments[2] if results_list is None else results_list


def check_finite(
    detector: BaseDetector, found: Sequence[InstanceData], batch_inputs: Tensor
) -> None:
    """Refuse boxes and scores of NaN, and no boxes where that is because of NaN.

    MMDetection's own suppression passes over NaN, so that most detectors with broken weights just
    find nothing: the first picture without any box is looked at again, as are the weights.

    Args:
        detector: Who found them.
        found: Of each picture ``bboxes`` and ``scores``.
        batch_inputs: (N, 3, H, W), the pictures.

    Raises:
        ValueError: There are some.
    """
    kind = type(detector).__name__
    for instances in found:
        boxes = get_box_tensor(instances.bboxes)
        broken = boxes.isnan().any(dim=1) | ~instances.scores.isfinite()
        if broken.any():
            raise ValueError(
                f"{int(broken.sum())} of {len(boxes)} boxes that {kind} found in a picture, or "
                "their scores, are NaN or infinite: its weights are broken, take another checkpoint"
            )
    empty = [row for row, instances in enumerate(found) if not len(instances)]
    if not empty or detector in _FINITE:
        return
    parameters = dict(detector.named_parameters())
    for name, value in detector.state_dict().items():
        # Buffers may hold infinities, as masks of attention do.
        if not value.isfinite().all() if name in parameters else value.isnan().any():
            raise ValueError(
                f"{kind} found nothing, and its weights {name!r} are NaN or infinite: take "
                "another checkpoint"
            )
    with torch.no_grad():
        features = detector.extract_feat(batch_inputs[empty])
    if not all(level.isfinite().all() for level in features if torch.is_tensor(level)):
        raise ValueError(
            f"{kind} found nothing, since its features are NaN or infinite: take another "
            "checkpoint, or compute in float32"
        )
    _FINITE.add(detector)


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
