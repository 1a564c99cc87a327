"""A picture in the frame of an encoder: its pixels and its boxes.

A frame is the picture at one size, in pixels or in cells of a map. Corners of boxes lie between
pixels: the picture covers (0, 0) to (width, height) in every frame, so that boxes only scale. What
an encoder pads lies right of and below the picture, and moves nothing.

Pixels are FG-CLIP's own: Pillow's resize, then the arithmetic of its image processors, whatever the
release of transformers (those of transformers 5 resize tensors, up to 18 / 255 beside Pillow).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

Size = tuple[int, int]
Interpolation = Literal["bicubic", "bilinear"]
Resampler = Literal["tensor", "pillow"]


def map_boxes(boxes: Tensor, source: tuple[float, float], target: tuple[float, float]) -> Tensor:
    """(K, 4) xyxy boxes in one frame -> the same boxes in another, as float32.

    Coordinate / side x side in float64, rounded once: by a factor that is rounded itself, such as
    float32(1 / 14), 84 pixels are 6.0000005 cells, of which RoIAlign takes 7 samples for 6.

    Args:
        boxes: In pixels of a picture of size `source`, of any real dtype.
        source: Its height and width.
        target: Height and width of the same picture in the other frame; of one in cells of a map,
            which need not be whole where the map is padded.
    """
    sides, others = (
        torch.tensor([width, height] * 2, dtype=torch.float64, device=boxes.device)
        for height, width in (source, target)
    )
    return (boxes.double() / sides * others).float()


def boxes_in_cells(boxes: Tensor, stride: float | Tensor) -> Tensor:
    """(K, 4) boxes in pixels -> in cells of a map of `stride` pixels each: see `map_boxes`.

    `stride` may be (K, 1) float64, one for each box.
    """
    return (boxes.double() / stride).float()


def resize_picture(
    picture: Tensor, size: Size, mode: Interpolation, resampler: Resampler = "pillow"
) -> Tensor:
    """A picture in another frame, antialiased.

    Args:
        picture: (3, h, w) float32 or uint8, from 0 to 255.
        size: Height and width of the result.
        mode: How pixels are interpolated.
        resampler: "pillow" for Pillow's, which FG-CLIP was trained and measured with; it rounds
            after each of its two passes, and a float picture is rounded first. "tensor" for
            PyTorch's, on the device of `picture`; a float picture is not rounded, a uint8 one is,
            as torchvision's image processors do it.

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


def normalize_and_pad(
    picture: Tensor, mean: Sequence[float], std: Sequence[float], patch_size: int
) -> Tensor:
    """A picture as an encoder reads it, with the arithmetic of its authors' image processor.

    Args:
        picture: (3, h, w) float32, RGB, from 0 to 255.
        mean: Of each channel, of pixels in 0 to 1.
        std: Deviation of each channel, of pixels in 0 to 1.
        patch_size: Pixels of a patch's side.

    Returns:
        (3, H, W) float32, of whole patches, padded at the bottom and the right with the mean.
    """
    rows, columns = (-side % patch_size for side in picture.shape[-2:])
    return F.pad(normalize_pixels(picture, mean, std), (0, columns, 0, rows))


def normalize_pixels(pictures: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(..., 3, h, w) float32, RGB, from 0 to 255 -> as `normalize_and_pad`, without padding."""
    centre, spread = (pictures.new_tensor(values).view(3, 1, 1) for values in (mean, std))
    # Scaled before the mean, as the processors do it: folding 255 into the mean moves last bits.
    return (pictures / 255 - centre) / spread


def to_tensor(image: Image.Image) -> Tensor:
    """A Pillow image of any mode -> (3, h, w) uint8 RGB."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def _resize_by_pillow(picture: Tensor, size: Size, mode: Interpolation) -> Tensor:
    if picture.dtype != torch.uint8:
        picture = picture.round().clamp(0, 255).to(torch.uint8)
    image = Image.fromarray(picture.permute(1, 2, 0).contiguous().cpu().numpy())
    resized = image.resize((size[1], size[0]), Image.Resampling[mode.upper()])
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
    return pixels.to(picture.device, torch.float32)
