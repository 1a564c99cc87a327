"""Non-maximum suppression with the signatures of mmcv 2.1.0's compiled ops."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from . import torchvision_ops

NAIVE, LINEAR, GAUSSIAN = 0, 1, 2


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy NMS.

    Args:
        boxes: (K, 4) xyxy, any float dtype.
        scores: (K,), any float dtype.
        iou_threshold: a box goes when its IoU with a kept one is above this.
        offset: 0 or 1, added to widths and heights (1: coordinates name whole pixels).

    Returns:
        (M,) int64 indices of the kept boxes, highest score first.
    """
    # Half-precision boxes would lose whole pixels, torchvision refuses boxes and scores of
    # different dtypes, and under AMP mmdet hands over exactly that.
    boxes, scores = boxes.detach().float(), scores.detach().float()
    if offset:
        # Width + 1 on both sides of the IoU is the same as moving the far corner by one pixel.
        boxes = boxes + boxes.new_tensor([0.0, 0.0, offset, offset])
    return torchvision_ops.nms(boxes, scores, float(iou_threshold))


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS on the CPU: overlapping boxes lose score and go once below `min_score`.

    Args:
        boxes: (K, 4) xyxy on the CPU.
        scores: (K,) on the CPU.
        dets: (K, 5) output; its first M rows become the kept boxes with their new scores.
        iou_threshold: from this IoU on, `naive` drops and `linear` scales by 1 - IoU.
        sigma: `gaussian` scales every score by exp(-IoU^2 / sigma).
        min_score: boxes whose score falls below are dropped.
        method: 0 naive, 1 linear, 2 gaussian.
        offset: 0 or 1, added to widths and heights.

    Returns:
        (M,) int64 indices of the kept boxes, in the order of `dets`.
    """
    rest_boxes = boxes.detach().cpu().float().numpy()
    rest_scores = scores.detach().cpu().float().numpy()
    rest = np.arange(len(rest_boxes))
    kept: list[int] = []
    rows: list[np.ndarray] = []
    while len(rest):
        best = int(rest_scores.argmax())
        kept.append(int(rest[best]))
        rows.append(np.append(rest_boxes[best], rest_scores[best]))
        iou = _iou_with(rest_boxes[best], np.delete(rest_boxes, best, axis=0), offset)
        rest, rest_boxes = np.delete(rest, best), np.delete(rest_boxes, best, axis=0)
        rest_scores = np.delete(rest_scores, best) * _decay(iou, iou_threshold, sigma, method)
        stays = rest_scores >= min_score
        rest, rest_boxes, rest_scores = rest[stays], rest_boxes[stays], rest_scores[stays]
    if rows:
        dets[: len(rows)].copy_(torch.from_numpy(np.stack(rows)))
    return torch.tensor(kept, dtype=torch.long)


def _iou_with(box: np.ndarray, boxes: np.ndarray, offset: int) -> np.ndarray:
    """IoU of one (4,) xyxy box with (K, 4) xyxy boxes; zero-area pairs have IoU 0."""
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[2:], boxes[:, 2:])
    intersection = np.maximum(high - low + offset, 0).prod(axis=1)
    area = (box[2:] - box[:2] + offset).prod()
    areas = (boxes[:, 2:] - boxes[:, :2] + offset).prod(axis=1)
    union = area + areas - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def _decay(iou: np.ndarray, iou_threshold: float, sigma: float, method: int) -> np.ndarray:
    if method == GAUSSIAN:
        return np.exp(-(iou**2) / np.float32(sigma))
    overlaps = iou >= np.float32(iou_threshold)
    return np.where(overlaps, 1 - iou if method == LINEAR else 0, 1).astype(np.float32)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Group each kept box with the boxes that it suppresses.

    Args:
        dets: (K, 5) xyxy and score, on the CPU.
        iou_threshold: from this IoU on, a lower-scoring box joins the group of a kept one.

    Returns:
        One list of indices per kept box, the kept one first, members by falling score.
    """
    array = dets.detach().cpu().float().numpy()
    order = torch.from_numpy(array[:, 4]).sort(descending=True).indices.numpy()
    groups: list[list[int]] = []
    while len(order):
        iou = _iou_with(array[order[0], :4], array[order[1:], :4], offset=0)
        joins = iou >= np.float32(iou_threshold)
        groups.append([int(order[0]), *(int(index) for index in order[1:][joins])])
        order = order[1:][~joins]
    return groups


OPS: dict[str, Callable] = {"nms": nms, "softnms": softnms, "nms_match": nms_match}
