"""One picture in the frames of two networks: their pixel values, their sizes, their boxes.

A frame is the picture at one size. Boxes are in pixels of it, corners between pixels: the picture
covers (0, 0) to (width, height) in every frame, so that boxes only scale. What a network pads lies
right of and below the picture, and moves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from mmengine.model import ImgDataPreprocessor
from torch import Tensor, nn

Size = tuple[int, int]
Resize = Literal["canvas", "squash", "keep_ratio", "patches"]


def picture_size(meta: Mapping[str, Any]) -> Size:
    """Height and width of what shows the picture in a network input, in pixels.

    MMDetection's ``img_shape`` is larger where the pipeline pads (`Pad`, as of RTMDet and YOLOX):
    the original size, scaled, tells where the picture ends.

    Args:
        meta: ``img_shape``, and perhaps ``ori_shape`` and ``scale_factor``, as of `Regions`.
    """
    height, width = meta["img_shape"][:2]
    if "ori_shape" in meta and "scale_factor" in meta:
        scale_x, scale_y = meta["scale_factor"][:2]
        original = meta["ori_shape"]
        height = min(height, max(1, round(original[0] * scale_y)))
        width = min(width, max(1, round(original[1] * scale_x)))
    return int(height), int(width)


def map_boxes(boxes: Tensor, source: Size, target: Size) -> Tensor:
    """(K, 4) xyxy boxes in one frame -> the same boxes in another, as float32.

    Args:
        boxes: In pixels of a picture of size `source`.
        source: Its height and width.
        target: Height and width of the same picture in the other frame.
    """
    y, x = target[0] / source[0], target[1] / source[1]
    return boxes.float() * torch.tensor([x, y, x, y], dtype=torch.float32, device=boxes.device)


def check_preprocessor(preprocessor: nn.Module) -> None:
    """Make sure that `to_rgb` can undo what a preprocessor did.

    Raises:
        ValueError: It is not known what it does to pixels.
    """
    if not isinstance(preprocessor, ImgDataPreprocessor):
        raise ValueError(
            f"the detector's data_preprocessor is a {type(preprocessor).__name__}: FG-CLIP needs "
            "the pixels that it had; give the detector a DetDataPreprocessor"
        )


def to_rgb(images: Tensor, preprocessor: ImgDataPreprocessor) -> Tensor:
    """Pixels as they were before a preprocessor: (N, 3, H, W) float32, RGB, from 0 to 255.

    Args:
        images: (N, 3, H, W) as the preprocessor gave them.
        preprocessor: MMDetection's, behind a pipeline that loads BGR, as MMDetection's do.
    """
    pixels = images.float()
    if getattr(preprocessor, "mean", None) is not None:
        pixels = pixels * preprocessor.std.to(pixels) + preprocessor.mean.to(pixels)
    # No public name of MMEngine's tells whether it turned BGR into RGB.
    return pixels if preprocessor._channel_conversion else pixels.flip(1)


def resize_picture(picture: Tensor, size: Size, mode: Literal["bicubic", "bilinear"]) -> Tensor:
    """A picture in another frame, as image processors resize it: antialiased, and not rounded.

    Args:
        picture: (3, h, w) float32, from 0 to 255.
        size: Height and width of the result.
        mode: How pixels are interpolated.
    """
    if picture.shape[-2:] == size:
        return picture
    resized = F.interpolate(picture[None], size, mode=mode, antialias=True, align_corners=False)[0]
    # Bicubic weights are partly negative, and overshoot at edges.
    return resized.clamp(0, 255)


def normalize_and_pad(picture: Tensor, encoder: nn.Module) -> Tensor:
    """A picture as an encoder reads it.

    Args:
        picture: (3, h, w) float32, RGB, from 0 to 255.
        encoder: An FG-CLIP of either generation.

    Returns:
        (3, H, W) float32, of whole patches, padded at the bottom and the right with the mean.
    """
    mean, std = (
        picture.new_tensor(values).view(3, 1, 1) * 255
        for values in (encoder.image_mean, encoder.image_std)
    )
    rows, columns = (-side % encoder.patch_size for side in picture.shape[-2:])
    return F.pad((picture - mean) / std, (0, columns, 0, rows))
