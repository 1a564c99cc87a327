"""RoIAlign on several maps in one call."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fgclip_det.ops import reference, transforms
from fgclip_det.ops._library import (
    _announce,
    _check_ratio,
    _check_rois,
    _memory_format,
    is_channels_last,
    served_by_extension,
)
from fgclip_det.ops.roi_align import DTYPES, _as_ratio, _as_rois, _pair

_SERVED = served_by_extension("roi_align_pyramid")

if _SERVED:

    @torch.library.register_fake("fgclip_det::roi_align_pyramid")
    def _fake(
        inputs: list[Tensor],
        rois: Tensor,
        levels: Tensor,
        spatial_scales: list[float],
        pooled_height: int,
        pooled_width: int,
        sampling_ratio: int,
        aligned: bool,
    ) -> Tensor:
        _check(inputs, levels, rois, spatial_scales)
        _check_ratio(sampling_ratio)
        first = inputs[0]
        shape = (rois.shape[0], first.shape[1], pooled_height, pooled_width)
        layout = _memory_format(is_channels_last(first))
        return torch.empty(shape, dtype=first.dtype, device=first.device, memory_format=layout)

    @torch.library.register_fake("fgclip_det::roi_align_pyramid_backward")
    def _fake_backward(
        grad_output: Tensor,
        rois: Tensor,
        levels: Tensor,
        spatial_scales: list[float],
        batch_size: int,
        channels: int,
        heights: list[int],
        widths: list[int],
        sampling_ratio: int,
        aligned: bool,
        channels_last: bool,
    ) -> list[Tensor]:
        layout = _memory_format(channels_last)
        return [
            torch.empty(
                (batch_size, channels, height, width),
                dtype=grad_output.dtype,
                device=grad_output.device,
                memory_format=layout,
            )
            for height, width in zip(heights, widths, strict=True)
        ]


def _check(features: Sequence[Tensor], levels: Tensor, rois: Tensor, scales: list[float]) -> None:
    """What the compiled operator checks itself, where it does not run."""
    first = features[0]
    for level, maps in enumerate(features):
        if maps.dim() != 4 or 0 in maps.shape[2:]:
            raise ValueError(
                f"features must be (N, C, h, w) with cells to pool; features[{level}] is of shape "
                f"{tuple(maps.shape)}"
            )
        if maps.dtype not in DTYPES:
            raise ValueError(
                f"features must be float16, bfloat16, float32 or float64, not {maps.dtype}"
            )
        kinds = [(*m.shape[:2], m.dtype, m.device) for m in (first, maps)]
        if kinds[0] != kinds[1]:
            raise ValueError(
                "the maps of a pyramid must have one batch size, number of channels, dtype and "
                f"device, not {kinds[0]} and, at {level}, {kinds[1]}"
            )
    if len(scales) != len(features) or not all(0 < scale < math.inf for scale in scales):
        raise ValueError(
            f"a pyramid needs a positive spatial_scale for each of its {len(features)} maps, not "
            f"{scales}"
        )
    if levels.shape != rois.shape[:1]:
        raise ValueError(
            f"levels must be (K,), one for each of {rois.shape[0]} rois, not of shape "
            f"{tuple(levels.shape)}"
        )
    if levels.dtype != torch.int64:
        raise ValueError(f"levels must be int64, not {levels.dtype}; pass levels.long()")
    if levels.device != rois.device:
        raise ValueError(f"levels are on {levels.device} and rois on {rois.device}; move one")
    _check_rois(rois, first)


def roi_align_pyramid(
    features: Sequence[Tensor],
    boxes: Tensor | Sequence[Tensor],
    levels: Tensor,
    output_size: int | Sequence[int],
    spatial_scales: Sequence[float],
    sampling_ratio: int = -1,
    aligned: bool = True,
) -> Tensor:
    """`roi_align` where each box is pooled from one of several maps, all in one call.

    Args:
        features: L maps (N, C, h_l, w_l) in any memory format, of one dtype.
        boxes: One (K_i, 4) tensor per image, xyxy in pixels; or rois (K, 5).
        levels: (K,) int64, which map each box is pooled from, from 0 on.
        output_size: Bins per side, or (rows, columns).
        spatial_scales: Cells per pixel of each map.
        sampling_ratio: As in `roi_align`.
        aligned: As in `roi_align`.

    Returns:
        (K, C, oh, ow) in the dtype and memory format of the first map; boxes keep their order.

    Raises:
        ValueError: A shape, dtype, device, size, batch index or level that does not fit. On CUDA a
            wrong index or level is a device-side assertion instead.
    """
    rows, columns = _pair(output_size)
    ratio = _as_ratio(sampling_ratio)
    if not all(map(torch.is_tensor, (*features, levels))) or not len(features):
        raise ValueError("features must be a list of maps, at least one, and levels a tensor")
    scales = [float(scale) for scale in spatial_scales]
    rois = _as_rois(boxes, features[0])
    if rois.requires_grad:
        rois = rois.detach()
    settings = (rows, columns, ratio, aligned)
    if transforms.are_active():
        _check(features, levels, rois, scales)
        return transforms.pool_levels(
            features,
            rois.detach(),
            levels,
            [transforms.Geometry(s, (rows, columns), ratio, aligned) for s in scales],
        )
    if not (rois.device.type in _SERVED or (rois.is_meta and _SERVED)):
        _check(features, levels, rois, scales)
        _announce(rois.device.type)
        return reference.roi_align_pyramid(features, rois, levels, scales, *settings)
    return torch.ops.fgclip_det.roi_align_pyramid(features, rois, levels, scales, *settings)
