"""RoIAlign under functorch's transforms and forward-mode differentiation.

PyTorch runs the operators' own derivatives, which are in C++, neither under `torch.func` (grad,
jvp, vmap, hessian, ...) nor at a level of `torch.autograd.forward_ad`. The public function takes
these two functions there: they call the same operators, and take longer to do so.

Pooling is linear in the features, so its tangent is the tangent pooled, and each of the two is the
other's transpose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fgclip_det.ops._library import is_channels_last


class Geometry(NamedTuple):
    """The operators' settings, in cells per pixel, bins and samples."""

    spatial_scale: float
    bins: tuple[int, int]
    sampling_ratio: int
    aligned: bool


def are_active() -> bool:
    """Whether the caller runs where C++ derivatives are refused."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def _batched(tensor: Tensor, dim: int | None, count: int) -> Tensor:
    """`tensor` with the mapped dimension first, repeated where it is not mapped."""
    if dim is None:
        return tensor.expand(count, *tensor.shape)
    return tensor.movedim(dim, 0)


def _renumbered(rois: Tensor, images: int) -> Tensor:
    """(B, K, 5) rois of B batches of `images` -> (B * K, 5) rois of all their images in a row."""
    index = rois[..., :1]
    first = torch.arange(len(rois), device=rois.device, dtype=rois.dtype)[:, None, None] * images
    # One that names no image of its own batch must not name one of another.
    index = torch.where((index >= 0) & (index < images), index + first, -1)
    return torch.cat([index, rois[..., 1:]], dim=-1).flatten(0, 1)


class Pool(torch.autograd.Function):
    """`apply(features (N, C, h, w), rois (K, 5), geometry)` -> (K, C, oh, ow)."""

    @staticmethod
    def forward(features: Tensor, rois: Tensor, geometry: Geometry) -> Tensor:
        scale, bins, ratio, aligned = geometry
        return torch.ops.fgclip_det.roi_align(features, rois, scale, *bins, ratio, aligned)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        features, rois, ctx.geometry = inputs
        ctx.save_for_backward(rois)
        ctx.save_for_forward(rois)
        ctx.size, ctx.channels_last = tuple(features.shape), is_channels_last(features)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        (rois,) = ctx.saved_tensors
        return Spread.apply(gradient, rois, ctx.geometry, ctx.size, ctx.channels_last), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor | None, *_: None) -> Tensor | None:
        (rois,) = ctx.saved_tensors
        return None if tangent is None else Pool.apply(tangent, rois, ctx.geometry)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple, features: Tensor, rois: Tensor, geometry: Geometry
    ) -> tuple[Tensor, int]:
        count = info.batch_size
        rois = _batched(rois, in_dims[1], count)
        if in_dims[0] is None:
            rois = rois.flatten(0, 1)
        else:
            features = features.movedim(in_dims[0], 0)
            rois = _renumbered(rois, features.shape[1])
            features = features.flatten(0, 1)
        pooled = Pool.apply(features, rois, geometry)
        return pooled.unflatten(0, (count, rois.shape[0] // count)), 0


class Spread(torch.autograd.Function):
    """`apply(gradient (K, C, oh, ow), rois (K, 5), geometry, size, last)` -> (N, C, h, w)."""

    @staticmethod
    def forward(
        gradient: Tensor,
        rois: Tensor,
        geometry: Geometry,
        size: tuple[int, int, int, int],
        channels_last: bool,
    ) -> Tensor:
        scale, _, *rest = geometry
        return torch.ops.fgclip_det.roi_align_backward(
            gradient, rois, scale, *size, *rest, channels_last
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, rois, *ctx.settings = inputs
        ctx.save_for_backward(rois)
        ctx.save_for_forward(rois)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        (rois,) = ctx.saved_tensors
        return Pool.apply(gradient, rois, ctx.settings[0]), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor | None, *_: None) -> Tensor | None:
        (rois,) = ctx.saved_tensors
        return None if tangent is None else Spread.apply(tangent, rois, *ctx.settings)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple,
        gradient: Tensor,
        rois: Tensor,
        geometry: Geometry,
        size: tuple[int, int, int, int],
        channels_last: bool,
    ) -> tuple[Tensor, int]:
        count, images = info.batch_size, size[0]
        gradient = _batched(gradient, in_dims[0], count).flatten(0, 1)
        rois = _renumbered(_batched(rois, in_dims[1], count), images)
        whole = (count * images, *size[1:])
        spread = Spread.apply(gradient, rois, geometry, whole, channels_last)
        return spread.unflatten(0, (count, images)), 0


def pool_levels(
    features: Sequence[Tensor], rois: Tensor, levels: Tensor, geometries: Sequence[Geometry]
) -> Tensor:
    """Boxes from the maps that `levels` (K,) name: the sum of what each map gives of its own.

    To the other maps a box is broken, hence zeros and no gradient.
    """
    pooled = []
    for level, (maps, geometry) in enumerate(zip(features, geometries, strict=True)):
        others = (levels != level)[..., None]
        own = torch.cat([rois[..., :1], rois[..., 1:].masked_fill(others, math.nan)], dim=-1)
        pooled.append(Pool.apply(maps, own, geometry))
    return torch.stack(pooled).sum(dim=0)
