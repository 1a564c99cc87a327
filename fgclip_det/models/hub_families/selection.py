"""Which boxes of a picture are kept: inside it, likely enough, once, and not too many."""

from __future__ import annotations

import torch
from torch import Tensor

from fgclip_det.compat import nms


def select_boxes(
    boxes: Tensor,
    scores: Tensor,
    size: tuple[int, int],
    *,
    num_boxes: int,
    score_thr: float,
    nms_iou: float | None,
) -> tuple[Tensor, Tensor]:
    """The best boxes by falling score; of equal ones the first come first.

    Args:
        boxes: (Q, 4) float32, xyxy, in pixels of the picture.
        scores: (Q,) float32.
        size: Height and width of the picture: boxes are clipped to it, and those without any area
            in it, as in the padding around it, are left out.
        num_boxes: The most that are kept.
        score_thr: Least score of one that is kept.
        nms_iou: Overlap above which the weaker of two goes; None keeps both.

    Returns:
        ``boxes`` (K, 4) and ``scores`` (K,).

    Raises:
        ValueError: A box or a score is NaN or infinite.
    """
    broken = ~(boxes.isfinite().all(dim=1) & scores.isfinite())
    if broken.any():
        raise ValueError(
            f"{int(broken.sum())} of {len(boxes)} boxes that the detector found in a picture, or "
            "their scores, are NaN or infinite: its weights are broken, or it computes in float16; "
            "use others, or float32"
        )
    height, width = size
    boxes = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))
    inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    kept = (inside & (scores >= score_thr)).nonzero().flatten()
    kept = kept[scores[kept].sort(descending=True, stable=True).indices]
    if nms_iou is not None:
        kept = kept[nms(boxes[kept], scores[kept], nms_iou)]
    kept = kept[:num_boxes]
    return boxes[kept], scores[kept]
