"""The same pooling by each implementation, from the layout that a user has the features in.

A ViT gives tokens (N, h*w, C), channels innermost; a pyramid gives maps (N, C, h, w). Our operator
takes both. Its peers take maps, so that tokens have to be permuted first, and their gradient back;
`torchvision_map_ready` leaves that out. In half precision the peers are fed float32 and their
result is cast back, which is what torchvision does under autocast: its rois have the dtype of the
features, and half-precision rois would be other boxes.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from types import ModuleType

import torch
import torchvision
from torch import Tensor

from benchmarks.memory import peak_bytes
from benchmarks.roi_align_cases import Case, Part, make_parts
from benchmarks.timing import DTYPES
from fgclip_det.compat.mmcv_ext import has_compiled_ops
from fgclip_det.ops import roi_align

PASSES = ("forward", "backward")
HALF = (torch.float16, torch.bfloat16)
AVERAGE_POOLING = 1
Pool = Callable[[Part, int], Tensor]


def mmcv_extension() -> ModuleType | None:
    """mmcv's compiled operators, or None where mmcv is missing or came without them."""
    return importlib.import_module("mmcv._ext") if has_compiled_ops() else None


def _is_tokens(part: Part) -> bool:
    return part.features.dim() == 3


def _peer_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in HALF else dtype


def _map_shape(part: Part) -> tuple[int, int, int, int]:
    """(N, C, h, w) of the maps, or of the maps that the tokens would be."""
    channels = part.features.shape[2 if _is_tokens(part) else 1]
    return part.features.shape[0], channels, *part.grid


def _as_map(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """(N, C, h, w) contiguous, of maps or of tokens."""
    if features.dim() == 3:
        features = features.transpose(1, 2).unflatten(2, grid)
    return features.contiguous()


def ours_forward(part: Part, bins: int) -> Tensor:
    """Ours: (K, C, oh, ow), or (K, oh, ow, C) of tokens."""
    grid = part.grid if _is_tokens(part) else None
    return roi_align(part.features, part.rois, bins, part.spatial_scale, grid=grid)


def ours_backward(part: Part, bins: int) -> Tensor:
    """Ours: (N, C, h, w), or (N, h*w, C) of tokens."""
    tokens = _is_tokens(part)
    gradient = torch.ops.fgclip_det.roi_align_backward(
        part.grad_output, part.rois, part.spatial_scale, *_map_shape(part), -1, True, tokens
    )
    return gradient.permute(0, 2, 3, 1).flatten(1, 2) if tokens else gradient


def torchvision_forward(part: Part, bins: int) -> Tensor:
    """torchvision's: (K, C, oh, ow)."""
    dtype = part.features.dtype
    maps = _as_map(part.features, part.grid).to(_peer_dtype(dtype))
    rois = part.rois.to(maps.dtype)
    return torchvision.ops.roi_align(maps, rois, bins, part.spatial_scale, -1, True).to(dtype)


def torchvision_backward(part: Part, bins: int) -> Tensor:
    """torchvision's: (N, C, h, w), or (N, h*w, C) of tokens, permuted."""
    dtype = part.grad_output.dtype
    grad = part.grad_output.to(_peer_dtype(dtype))
    gradient = torch.ops.torchvision._roi_align_backward(
        grad, part.rois.to(grad.dtype), part.spatial_scale, bins, bins, *_map_shape(part), -1, True
    ).to(dtype)
    return gradient.flatten(2).transpose(1, 2).contiguous() if _is_tokens(part) else gradient


def mmcv_forward(part: Part, bins: int) -> Tensor:
    """mmcv's: (K, C, oh, ow), called as `mmcv.ops.RoIAlign` calls it."""
    maps = _as_map(part.features, part.grid).to(_peer_dtype(part.features.dtype))
    output = maps.new_zeros(len(part.rois), maps.shape[1], bins, bins)
    importlib.import_module("mmcv._ext").roi_align_forward(
        maps,
        part.rois.to(maps.dtype),
        output,
        maps.new_zeros(0),
        maps.new_zeros(0),
        aligned_height=bins,
        aligned_width=bins,
        spatial_scale=part.spatial_scale,
        sampling_ratio=0,
        pool_mode=AVERAGE_POOLING,
        aligned=True,
    )
    return output.to(part.features.dtype)


def mmcv_backward(part: Part, bins: int) -> Tensor:
    """mmcv's: (N, C, h, w), or (N, h*w, C) of tokens, permuted."""
    grad = part.grad_output.to(_peer_dtype(part.grad_output.dtype)).contiguous()
    gradient = grad.new_zeros(_map_shape(part))
    importlib.import_module("mmcv._ext").roi_align_backward(
        grad,
        part.rois.to(grad.dtype),
        grad.new_zeros(0),
        grad.new_zeros(0),
        gradient,
        aligned_height=bins,
        aligned_width=bins,
        spatial_scale=part.spatial_scale,
        sampling_ratio=0,
        pool_mode=AVERAGE_POOLING,
        aligned=True,
    )
    gradient = gradient.to(part.grad_output.dtype)
    return gradient.flatten(2).transpose(1, 2).contiguous() if _is_tokens(part) else gradient


IMPLEMENTATIONS: dict[str, dict[str, Pool]] = {
    "ours": {"forward": ours_forward, "backward": ours_backward},
    "torchvision": {"forward": torchvision_forward, "backward": torchvision_backward},
    "mmcv": {"forward": mmcv_forward, "backward": mmcv_backward},
}


def implementations() -> list[str]:
    """Those that can run here: mmcv's only where it is compiled."""
    return [name for name in IMPLEMENTATIONS if name != "mmcv" or mmcv_extension() is not None]


def _with_maps(part: Part) -> Part:
    """The part as a peer wants it: maps and gradient of the result, both contiguous."""
    maps = _as_map(part.features, part.grid)
    return part._replace(features=maps, grad_output=part.grad_output.contiguous())


def _each(pool: Pool, parts: Sequence[Part], bins: int) -> list[Tensor]:
    with torch.no_grad():
        return [pool(part, bins) for part in parts]


def calls_of(
    case: Case, parts: Sequence[Part], which: str
) -> dict[str, Callable[[], list[Tensor]]]:
    """The timed calls: each implementation on all parts of a case.

    Args:
        case: Where the parts come from.
        parts: One for each level, or one of tokens.
        which: "forward" or "backward", which is the operator alone, without autograd.

    Returns:
        Calls by name; each gives one tensor for each part.
    """
    # What reaches a peer's backward pass has the layout of its own result.
    own = [part._replace(grad_output=part.grad_output.contiguous()) for part in parts]
    calls = {}
    for name in implementations():
        pool = IMPLEMENTATIONS[name][which]
        calls[name] = functools.partial(_each, pool, parts if name == "ours" else own, case.bins)
    if case.layout == "tokens":
        ready = [_with_maps(part) for part in parts]
        pool = IMPLEMENTATIONS["torchvision"][which]
        calls["torchvision_map_ready"] = functools.partial(_each, pool, ready, case.bins)
    return calls


def difference(case: Case, which: str, ours: Sequence[Tensor], peer: Sequence[Tensor]) -> float:
    """Largest absolute difference of two results; NaN where either holds one.

    In half precision, whose rounding grows with the values, it is in units of the largest value
    where that is above 1.
    """
    largest = torch.zeros((), dtype=torch.float64)
    for mine, theirs in zip(ours, peer, strict=True):
        if case.layout == "tokens" and which == "forward":
            mine = mine.permute(0, 3, 1, 2)
        if mine.numel():
            worst = (mine.double() - theirs.double()).abs().max()
            if mine.dtype in HALF:
                worst = worst / theirs.double().abs().max().clamp(min=1)
            largest = torch.maximum(largest, worst.cpu())
    return float(largest)


def peak_of(case: Case, dtype: str, device: str, seed: int, which: str, name: str) -> int | None:
    """Peak bytes of one call of an implementation by name, its result included.

    It makes the tensors itself, so that it can run in a process of its own.
    """
    parts = make_parts(case, DTYPES[dtype], device, seed)
    return peak_bytes(calls_of(case, parts, which)[name], device)
