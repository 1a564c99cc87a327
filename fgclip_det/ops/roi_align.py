"""RoIAlign on feature maps and on ViT tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgclip_det.ops import transforms
from fgclip_det.ops._library import (
    MAX_SAMPLES,
    _check_ratio,
    _check_rois,
    _memory_format,
    is_channels_last,
    is_missing,
)

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@torch.library.register_fake("fgclip_det::roi_align")
def _fake(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    # Also called for real tensors where one of them is on the meta device.
    _check_rois(rois, input)
    _check_ratio(sampling_ratio)
    shape = (rois.shape[0], input.shape[1], pooled_height, pooled_width)
    layout = _memory_format(is_channels_last(input))
    return torch.empty(shape, dtype=input.dtype, device=input.device, memory_format=layout)


@torch.library.register_fake("fgclip_det::roi_align_backward")
def _fake_backward(
    grad_output: Tensor,
    rois: Tensor,
    spatial_scale: float,
    batch_size: int,
    channels: int,
    height: int,
    width: int,
    sampling_ratio: int,
    aligned: bool,
    channels_last: bool,
) -> Tensor:
    _check_rois(rois, grad_output)
    _check_ratio(sampling_ratio)
    shape = (batch_size, channels, height, width)
    layout = _memory_format(channels_last)
    return torch.empty(
        shape, dtype=grad_output.dtype, device=grad_output.device, memory_format=layout
    )


def _register_autograd() -> None:
    """Reverse mode in Python, which the extension has in C++."""

    def keep(ctx: Any, inputs: tuple, output: Tensor) -> None:
        features, rois, scale, rows, columns, *rest = inputs
        geometry = transforms.Geometry(scale, (rows, columns), *rest)
        transforms.Pool.setup_context(ctx, (features, rois, geometry), output)

    def gradients(ctx: Any, gradient: Tensor) -> tuple:
        return transforms.Pool.backward(ctx, gradient)[0], *[None] * 6

    def keep_backward(ctx: Any, inputs: tuple, output: Tensor) -> None:
        gradient, rois, scale, *size, ratio, aligned, channels_last = inputs
        geometry = transforms.Geometry(scale, tuple(gradient.shape[2:]), ratio, aligned)
        settings = (gradient, rois, geometry, tuple(size), channels_last)
        transforms.Spread.setup_context(ctx, settings, output)

    def double_gradients(ctx: Any, gradient: Tensor) -> tuple:
        return transforms.Spread.backward(ctx, gradient)[0], *[None] * 9

    register = torch.library.register_autograd
    register("fgclip_det::roi_align", gradients, setup_context=keep)
    register("fgclip_det::roi_align_backward", double_gradients, setup_context=keep_backward)


if is_missing():
    _register_autograd()
# Autocast has no registration on purpose: PyTorch then passes the operator through, the features
# keep their dtype and the rois float32. `torch.library.register_autocast` would cast both.


def _pair(output_size: int | Sequence[int]) -> tuple[int, int]:
    if type(output_size) is int and 0 < output_size < 1 << 16:  # the usual case, at no cost
        return output_size, output_size
    sizes = tuple(output_size) if isinstance(output_size, Sequence) else (output_size, output_size)
    if len(sizes) != 2 or not all(isinstance(s, int) and 0 < s < 1 << 16 for s in sizes):
        raise ValueError(f"output_size must be a positive int or two (h, w), not {output_size}")
    return sizes


def _as_ratio(sampling_ratio: int) -> int:
    """-1 for all that takes as many samples as a bin has cells."""
    if not isinstance(sampling_ratio, int) or sampling_ratio > MAX_SAMPLES:
        raise ValueError(
            f"sampling_ratio must be an int of at most {MAX_SAMPLES}, not {sampling_ratio}; -1 "
            "takes as many samples as a bin has cells"
        )
    return sampling_ratio if sampling_ratio > 0 else -1


def _as_maps(features: Tensor, grid: tuple[int, int] | None) -> Tensor:
    """(N, C, h, w) maps as they are, (N, h*w, C) tokens as a view of that shape."""
    if not isinstance(features, Tensor):
        raise ValueError(f"features must be a tensor, not {type(features).__name__}")
    if features.dtype not in DTYPES:
        raise ValueError(
            f"features must be float16, bfloat16, float32 or float64, not {features.dtype}"
        )
    shape = features.shape
    if grid is None:
        if len(shape) != 4:
            raise ValueError(
                f"features must be (N, C, h, w), not of shape {tuple(shape)}; tokens "
                "(N, h*w, C) need grid=(h, w)"
            )
        return features
    sides = tuple(grid) if isinstance(grid, Sequence) else ()
    if len(sides) != 2 or not (_is_side(sides[0]) and _is_side(sides[1])):
        raise ValueError(f"grid must be (height, width) of the tokens, two ints, not {grid}")
    if len(shape) != 3:
        raise ValueError(
            f"with grid={sides} features must be tokens (N, h*w, C), not of shape {tuple(shape)}"
        )
    height, width = sides
    if height * width != shape[1]:
        raise ValueError(
            f"grid={sides} has {height * width} cells, but there are "
            f"{shape[1]} tokens; drop the class token or mend the grid (height, width)"
        )
    return features.view(shape[0], height, width, shape[2]).permute(0, 3, 1, 2)


def _is_side(side: int) -> bool:
    return isinstance(side, (int, torch.SymInt)) and side >= 0


def _check_boxes(boxes: Tensor, name: str, features: Tensor) -> None:
    if not isinstance(boxes, Tensor):
        raise ValueError(f"{name} must be a tensor, not {type(boxes).__name__}")
    if boxes.dtype.is_complex:
        raise ValueError(f"{name} must be of a real dtype, not {boxes.dtype}")
    if boxes.device != features.device:
        raise ValueError(
            f"{name} are on {boxes.device} and features on {features.device}; move one of them"
        )


def _as_rois(boxes: Tensor | Sequence[Tensor], features: Tensor) -> Tensor:
    """(K, 5) float32 rois of either form of boxes."""
    if isinstance(boxes, Tensor):
        _check_boxes(boxes, "boxes", features)
        if boxes.dim() != 2 or boxes.shape[1] != 5:
            raise ValueError(
                f"boxes in one tensor must be rois (K, 5), batch index and xyxy, not of shape "
                f"{tuple(boxes.shape)}; pass a list of (K_i, 4) boxes, one for each image"
            )
        return boxes.float()
    if not isinstance(boxes, Sequence):
        raise ValueError(
            "boxes must be a (K, 5) tensor of rois or a list of (K_i, 4) tensors, not "
            f"{type(boxes).__name__}"
        )
    if len(boxes) != features.shape[0]:
        raise ValueError(
            f"boxes for {len(boxes)} images, but the features hold {features.shape[0]}; pass "
            "one (K_i, 4) tensor for each image"
        )
    rows = []
    for image, some in enumerate(boxes):
        _check_boxes(some, f"boxes[{image}]", features)
        if some.dim() != 2 or some.shape[1] != 4:
            raise ValueError(
                f"boxes[{image}] must be (K_i, 4) xyxy, not of shape {tuple(some.shape)}"
            )
        rows.append(F.pad(some.float(), (1, 0), value=image))
    if len(rows) == 1:
        return rows[0]
    return torch.cat(rows) if rows else features.new_zeros((0, 5), dtype=torch.float32)


def roi_align(
    features: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = True,
    *,
    grid: tuple[int, int] | None = None,
) -> Tensor:
    """Average the features inside boxes, bin by bin, with bilinear sampling (Mask R-CNN).

    Equal to torchvision's operator on ordered boxes. Reversed boxes (under `aligned`) and boxes
    with NaN or infinite edges give zeros and no gradient. The gradient with respect to the features
    has the same bits in every run; boxes get no gradient.

    Args:
        features: (N, C, h, w) maps in any memory format, or (N, h*w, C) tokens with `grid`;
            float32, float64, float16 or bfloat16 (summed in float32).
        boxes: One (K_i, 4) tensor per image, xyxy in pixels; or rois (K, 5), each with the index of
            its image before xyxy. Taken as float32 whatever the features are.
        output_size: Bins per side, or (rows, columns).
        spatial_scale: Cells per pixel, 1 / stride.
        sampling_ratio: Samples per bin and axis; <= 0 takes as many as the bin has cells, rounded
            up.
        aligned: Pixel centres lie at half-integers, as they should; False is the first RoIAlign,
            half a cell off, with boxes at least one cell long.
        grid: (h, w) of the tokens, in cells.

    Returns:
        (K, C, oh, ow) in the dtype and memory format of the maps, or (K, oh, ow, C) for tokens.
        Boxes keep their order, images first.

    Raises:
        ValueError: A shape, dtype, device, size or batch index that does not fit. On CUDA a wrong
            batch index is a device-side assertion instead, since looking would wait for the device.
    """
    rows, columns = _pair(output_size)
    # Not math.isfinite: under torch.compile(dynamic=True) a module's float is a symbol.
    if isinstance(spatial_scale, str) or not 0 < spatial_scale < math.inf:
        raise ValueError(f"spatial_scale must be positive, 1 / stride, not {spatial_scale}")
    ratio = _as_ratio(sampling_ratio)
    maps = _as_maps(features, grid)
    rois = _as_rois(boxes, maps)
    rois = rois.detach() if rois.requires_grad else rois
    if maps.numel() == 0 and 0 in maps.shape[2:]:
        raise ValueError(f"features of shape {tuple(features.shape)} have no cells to pool")
    scale = float(spatial_scale)
    if transforms.are_active():
        geometry = transforms.Geometry(scale, (rows, columns), ratio, aligned)
        pooled = transforms.Pool.apply(maps, rois.detach(), geometry)
    else:
        pooled = torch.ops.fgclip_det.roi_align(maps, rois, scale, rows, columns, ratio, aligned)
    return pooled if grid is None else pooled.permute(0, 2, 3, 1)


class RoIAlign(nn.Module):
    """`roi_align` with its settings kept; the function's docstring describes them."""

    def __init__(
        self,
        output_size: int | Sequence[int],
        spatial_scale: float = 1.0,
        sampling_ratio: int = -1,
        aligned: bool = True,
    ) -> None:
        super().__init__()
        self.output_size = _pair(output_size)
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(
        self,
        features: Tensor,
        boxes: Tensor | Sequence[Tensor],
        grid: tuple[int, int] | None = None,
    ) -> Tensor:
        """Pools `boxes` from `features`; shapes as in `roi_align`."""
        return roi_align(
            features,
            boxes,
            self.output_size,
            self.spatial_scale,
            self.sampling_ratio,
            self.aligned,
            grid=grid,
        )

    def extra_repr(self) -> str:
        """The settings."""
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}"
        )
