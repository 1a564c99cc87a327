"""A picture as a detector read it: where it lies in the padding, and pixels for another network.

`fgclip_det.encoders.picture_frames` takes it on into the frame of an encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.model import ImgDataPreprocessor
from torch import Tensor, nn

from fgclip_det.encoders.picture_frames import Size


def picture_slices(meta: Mapping[str, Any]) -> tuple[slice, slice]:
    """Rows and columns of a network input that show the picture.

    MMDetection's ``img_shape`` is larger where the pipeline pads. Mostly it pads at the bottom and
    the right (`Pad`, as of RTMDet and YOLOX): the original size, scaled, tells where the picture
    ends. `RandomCenterCropPad` (of CenterNet and CornerNet) pads on all sides, and leaves where it
    put the picture in ``border``; the heads of these detectors subtract it, so that their boxes are
    in pixels of the picture as everybody's.

    Args:
        meta: ``img_shape``, and perhaps ``ori_shape`` and ``scale_factor``, as of `Regions`, or
            ``border``, top, bottom, left and right edge of the picture.
    """
    if "border" in meta:
        top, bottom, left, right = (int(edge) for edge in meta["border"])
        return slice(top, bottom), slice(left, right)
    height, width = _size_at_the_corner(meta)
    return slice(0, height), slice(0, width)


def _size_at_the_corner(meta: Mapping[str, Any]) -> Size:
    height, width = meta["img_shape"][:2]
    if "ori_shape" in meta and "scale_factor" in meta:
        scale_x, scale_y = meta["scale_factor"][:2]
        original = meta["ori_shape"]
        height = min(height, max(1, round(original[0] * scale_y)))
        width = min(width, max(1, round(original[1] * scale_x)))
    return int(height), int(width)


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
