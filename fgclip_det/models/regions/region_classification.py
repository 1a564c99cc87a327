"""Steps shared by all second stages: pool regions, score them block by block, select."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor

from fgclip_det.encoders.picture_frames import boxes_in_cells
from fgclip_det.models.regions.detection_selection import select_detections
from fgclip_det.models.regions.regions import Regions
from fgclip_det.ops import roi_align

# Scores of one image that exist at a time; a few matrices of this size, 64 MB each, do.
_SCORES_AT_ONCE = 1 << 24

IMAGE_META = ("img_shape", "ori_shape", "scale_factor", "img_id", "img_path")


def kept_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a picture's metainfo that `Regions` keep."""
    return {key: meta[key] for key in IMAGE_META if key in meta}


def pool_tokens(
    tokens: Tensor, grid: tuple[int, int], stride: float, boxes: Sequence[Tensor]
) -> Tensor:
    """FG-CLIP's embeddings of boxes, by RoIAlign 1x1 (FG-CLIP, arXiv 2505.05071, section 3.1).

    Args:
        tokens: (N, h * w, D), in the space of the texts.
        grid: Rows and columns (h, w) of `tokens`.
        stride: Pixels per cell of `tokens`.
        boxes: One (K_i, 4) float32 tensor for each image, xyxy, in those pixels.

    Returns:
        (sum K_i, D) float32 of unit length each.
    """
    pooled = roi_align(tokens, [boxes_in_cells(own, stride) for own in boxes], 1, grid=grid)
    return F.normalize(pooled.flatten(1).float(), dim=-1)


def classify_regions(
    score: Callable[[Regions], Tensor],
    regions: Regions,
    num_texts: int,
    test_cfg: Mapping[str, Any],
    rescale: bool,
) -> InstanceData:
    """Detections of one image.

    Args:
        score: (k, C) scores of k of the regions.
        regions: Of the image.
        num_texts: C.
        test_cfg: ``score_thr``, ``nms`` with ``iou_threshold`` and perhaps ``class_agnostic``,
            ``max_per_img``: see `select_detections`.
        rescale: Whether boxes are wanted in pixels of the original picture.

    Returns:
        ``bboxes`` (M, 4) xyxy, ``scores`` (M,) falling, ``labels`` (M,) int64 columns of the
        scores, ``regions`` (M,) int64 rows of `regions`.
    """
    suppression = test_cfg["nms"]
    detections = select_detections(
        regions.boxes,
        _score_blocks(score, regions, num_texts),
        score_thr=test_cfg["score_thr"],
        iou_threshold=suppression["iou_threshold"],
        # Each view of a picture in tiles may show as much as a picture.
        max_per_img=test_cfg["max_per_img"] * regions.image_meta.get("tiling", {}).get("views", 1),
        class_agnostic=suppression.get("class_agnostic", False),
    )
    if rescale:
        detections.bboxes = to_original(detections.bboxes, regions.image_meta)
    return detections


def to_original(boxes: Tensor, meta: Mapping[str, Any]) -> Tensor:
    """Boxes in pixels of the network input -> of the original picture, clipped to it."""
    # A pipeline that does not resize leaves no scale factor.
    scale_x, scale_y = meta.get("scale_factor", (1.0, 1.0))[:2]
    boxes = boxes / boxes.new_tensor([scale_x, scale_y, scale_x, scale_y])
    height, width = meta.get("ori_shape", meta["img_shape"])[:2]
    limits = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limits)


def _score_blocks(
    score: Callable[[Regions], Tensor], regions: Regions, num_texts: int
) -> Iterator[Tensor]:
    """Scores of some regions after another, so that memory has a bound for any vocabulary."""
    rows = max(1, _SCORES_AT_ONCE // max(1, num_texts))
    for start in range(0, max(1, len(regions)), rows):
        yield score(regions[start : start + rows])
