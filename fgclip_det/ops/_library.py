"""Makes `torch.ops.fgclip_det` exist, with the compiled kernels or with the PyTorch reference.

The extension defines the operators and registers what it was built for. What is missing (all of it
without a compiler, CUDA in a CPU-only build) is registered here from `reference.py`.
"""

from __future__ import annotations

import functools
import importlib
import warnings

import torch
from torch import Tensor

from fgclip_det.ops import reference

# The same text as in csrc/roi_align.cpp; a test compares them.
SCHEMAS = {
    "roi_align": (
        "(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
        "int sampling_ratio, bool aligned) -> Tensor"
    ),
    "roi_align_backward": (
        "(Tensor grad_output, Tensor rois, float spatial_scale, SymInt batch_size, "
        "SymInt channels, SymInt height, SymInt width, int sampling_ratio, bool aligned, "
        "bool channels_last) -> Tensor"
    ),
}

MAX_SAMPLES = 1 << 16  # samples per bin and axis; each is visited

try:
    importlib.import_module("fgclip_det._C")  # defines the operators
except ImportError as error:
    _missing: str | None = str(error)
else:
    _missing = None


def is_channels_last(features: Tensor) -> bool:
    """True if channels are adjacent in memory; the C++ function of this name has the same rule."""
    return features.stride(1) == 1 and not features.is_contiguous()


def _memory_format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format


def is_missing() -> bool:
    """True where the extension was not built: then nothing of it is registered."""
    return _missing is not None


def served_by_extension(name: str) -> frozenset[str]:
    """The types of device for which the extension has the operator of that name."""
    if is_missing():
        return frozenset()
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return frozenset(
        kind for kind in ("cpu", "cuda") if has_kernel(f"fgclip_det::{name}", kind.upper())
    )


def backend() -> dict[str, str]:
    """Implementation in use on each device: "extension" or "reference"."""
    return {
        key.lower(): "reference" if key in _fallbacks else "extension" for key in ("CPU", "CUDA")
    }


def asserts_index() -> bool:
    """True if a box that names no image stops a CUDA program, by a device-side assertion.

    False where the kernels were built without it: such a box then gives zeros and no gradient.
    """
    asked = getattr(torch.ops.fgclip_det, "cuda_asserts_index", None)
    return asked is None or asked()  # The reference has no kernels and always refuses.


@functools.cache
def _announce(device_type: str) -> None:
    reason = _missing or f"it was built without {device_type} kernels"
    build = ("FORCE_CUDA=1 " if device_type == "cuda" else "") + "pip install --no-build-isolation"
    warnings.warn(
        f"fgclip_det's compiled operators do not serve {device_type} ({reason}); using the PyTorch "
        f"reference: same numbers, slower. To build them, in the checkout: {build} -e .",
        stacklevel=2,
    )


def _check_rois(rois: Tensor, features: Tensor) -> None:
    if rois.dim() != 2 or rois.shape[1] != 5:
        raise ValueError(
            f"rois must be (K, 5), batch index and xyxy, not of shape {tuple(rois.shape)}"
        )
    if rois.dtype != torch.float32:
        raise ValueError(f"rois must be float32, not {rois.dtype}; pass rois.float()")
    if rois.device != features.device:
        raise ValueError(
            f"rois are on {rois.device} and features on {features.device}; move one of them"
        )


def _check_ratio(sampling_ratio: int) -> None:
    if sampling_ratio > MAX_SAMPLES:
        raise ValueError(
            f"sampling_ratio must be at most {MAX_SAMPLES}, not {sampling_ratio}; -1 takes as many "
            "samples as a bin has cells"
        )


def _roi_align(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    _announce(input.device.type)
    _check_rois(rois, input)
    _check_ratio(sampling_ratio)
    pooled = reference.roi_align(
        input, rois, spatial_scale, pooled_height, pooled_width, sampling_ratio, aligned
    )
    return pooled.contiguous(memory_format=_memory_format(is_channels_last(input)))


def _roi_align_backward(
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
    _announce(grad_output.device.type)
    _check_rois(rois, grad_output)
    _check_ratio(sampling_ratio)
    size = (batch_size, channels, height, width)
    gradient = reference.roi_align_backward(
        grad_output, rois, spatial_scale, *size, sampling_ratio, aligned
    )
    return gradient.contiguous(memory_format=_memory_format(channels_last))


def _register_fallbacks() -> tuple[str, ...]:
    """Registers the reference wherever the extension did not; returns those dispatch keys."""
    if _missing is not None:
        for name, schema in SCHEMAS.items():
            _definitions.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
    keys = []
    for key in ("CPU", "CUDA"):
        if not torch._C._dispatch_has_kernel_for_dispatch_key("fgclip_det::roi_align", key):
            _definitions.impl("roi_align", _roi_align, key)
            _definitions.impl("roi_align_backward", _roi_align_backward, key)
            keys.append(key)
    return tuple(keys)


# Kept for the life of the process: what a Library registered goes when it goes.
_definitions = torch.library.Library("fgclip_det", "FRAGMENT")
_fallbacks = _register_fallbacks()
