"""A picture in the frame of an encoder: its pixels and its boxes.

A frame is the picture at one size. Boxes are in pixels of it, corners between pixels: the picture
covers (0, 0) to (width, height) in every frame, so that boxes only scale. What an encoder pads lies
right of and below the picture, and moves nothing.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fgclip_det.encoders.dual_encoder import DualEncoder

Size = tuple[int, int]
Interpolation = Literal["bicubic", "bilinear"]
Resampler = Literal["tensor", "pillow"]


def map_boxes(boxes: Tensor, source: Size, target: Size) -> Tensor:
    """(K, 4) xyxy boxes in one frame -> the same boxes in another, as float32.

    Args:
        boxes: In pixels of a picture of size `source`.
        source: Its height and width.
        target: Height and width of the same picture in the other frame.
    """
    y, x = target[0] / source[0], target[1] / source[1]
    return boxes.float() * torch.tensor([x, y, x, y], dtype=torch.float32, device=boxes.device)


def resize_picture(
    picture: Tensor, size: Size, mode: Interpolation, resampler: Resampler = "tensor"
) -> Tensor:
    """A picture in another frame, antialiased.

    Args:
        picture: (3, h, w) float32 or uint8, from 0 to 255.
        size: Height and width of the result.
        mode: How pixels are interpolated.
        resampler: "tensor" for PyTorch's; a float picture is not rounded, a uint8 one is, as
            torchvision's image processors do it. "pillow" for Pillow's, which rounds after each of
            its two passes; a float picture is rounded first.

    Returns:
        (3, height, width) float32, from 0 to 255, on the device of `picture`.
    """
    if picture.shape[-2:] == size:
        return picture.float()
    if resampler == "pillow":
        return _resize_by_pillow(picture, size, mode)
    # PyTorch resizes whole numbers on the CPU alone.
    source = picture.cpu() if picture.dtype == torch.uint8 else picture
    resized = F.interpolate(source[None], size, mode=mode, antialias=True, align_corners=False)[0]
    # Bicubic weights are partly negative, and overshoot at edges.
    return resized.to(picture.device, torch.float32).clamp(0, 255)


def normalize_and_pad(picture: Tensor, encoder: DualEncoder) -> Tensor:
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


def _resize_by_pillow(picture: Tensor, size: Size, mode: Interpolation) -> Tensor:
    # Whole numbers stay as they are.
    whole = picture.float().round().clamp(0, 255).to("cpu", torch.uint8)
    image = Image.fromarray(whole.permute(1, 2, 0).contiguous().numpy())
    resized = image.resize((size[1], size[0]), Image.Resampling[mode.upper()])
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
    return pixels.to(picture.device, torch.float32)
