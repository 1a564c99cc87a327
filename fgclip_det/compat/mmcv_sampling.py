"""Ops that sample feature maps, with the signatures of mmcv 2.1.0's compiled ops.

mmcv owns the autograd functions: a forward fills (or returns) the output, a backward fills the
gradients. Where no backward op exists, the forward runs again under autograd. Features are
(N, C, h, w); rois are (K, 5), batch index and xyxy in pixels of the picture that `spatial_scale`
maps onto the features.
"""

import importlib
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fgclip_det import ops as _fgclip_ops  # noqa: F401  registers torch.ops.fgclip_det

from .mmcv_missing import missing_op_error

AVERAGE_POOLING = 1
# Cells beyond any feature map, as an offset.
_OUTSIDE = 1e9


def _gradients(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], grad_output: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradient of `function(*inputs)` along `grad_output` for each input; None where unused."""
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        output = function(*leaves)
        return torch.autograd.grad(output, leaves, grad_output.to(output.dtype), allow_unused=True)


def _add(target: Tensor, gradient: Tensor | None) -> None:
    if gradient is not None:
        target.add_(gradient.view_as(target).to(target.dtype))


def _check_pool_mode(pool_mode: int) -> None:
    if pool_mode != AVERAGE_POOLING:
        raise missing_op_error("roi_align with pool_mode='max'")


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write average RoIAlign of `input` (N, C, h, w) into `output` (K, C, oh, ow)."""
    _check_pool_mode(pool_mode)
    # rois stay float32 whatever the features are: bfloat16 turns 1333.0 into 1336.0.
    geometry = spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned
    output.copy_(torch.ops.fgclip_det.roi_align(input.detach(), rois.float(), *geometry))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add to `grad_input` (N, C, h, w) the gradient for `grad_output` (K, C, oh, ow)."""
    _check_pool_mode(pool_mode)
    geometry = spatial_scale, *grad_input.shape, sampling_ratio, aligned
    gradient = torch.ops.fgclip_det.roi_align_backward(grad_output, rois.float(), *geometry, False)
    _add(grad_input, gradient)


def _deform_conv(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """torchvision's op in float32; it reads both group counts off the shapes.

    Autocast is off because mmcv has already chosen the dtype, and the CPU op has no half kernel.
    """
    # A sample at NaN is outside the picture for mmcv's kernel; torchvision's reads any memory.
    offset = offset.float().nan_to_num(nan=_OUTSIDE, posinf=_OUTSIDE, neginf=-_OUTSIDE)
    with torch.autocast(input.device.type, enabled=False):
        # Late: see `torchvision_ops`.
        return importlib.import_module("torchvision.ops").deform_conv2d(
            input.float(),
            offset,
            weight.float(),
            stride=stride,
            padding=padding,
            dilation=dilation,
            mask=None if mask is None else mask.float(),
        )


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Write deformable convolution v1 of `input` into `output` (N, out, oh, ow)."""
    geometry = (dH, dW), (padH, padW), (dilationH, dilationW)
    output.copy_(_deform_conv(input, offset, weight, None, *geometry))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    *,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Add the gradients of deformable convolution v1 by its input and its offsets."""
    geometry = (dH, dW), (padH, padW), (dilationH, dilationW)
    gradients = _gradients(
        lambda x, o: _deform_conv(x, o, weight, None, *geometry), [input, offset], grad_output
    )
    _add(grad_input, gradients[0])
    _add(grad_offset, gradients[1])


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Add `scale` times the gradient of deformable convolution v1 by its weight."""
    geometry = (dH, dW), (padH, padW), (dilationH, dilationW)
    # Convolution is linear in its weight, so any weight has the same gradient.
    (gradient,) = _gradients(
        lambda w: _deform_conv(input, offset, w, None, *geometry),
        [torch.zeros_like(grad_weight)],
        grad_output,
    )
    _add(grad_weight, gradient * scale)


def _as_read(tensor: Tensor, size: tuple[int, ...]) -> Tensor:
    """(N, C, *size) values that the compiled kernel reads of offsets (or masks) of another size.

    The kernel steps through each picture's memory by the size of its own output. DyHead passes the
    offsets of a level twice as large, and its published weights were trained with that reading.
    """
    count, channels, height, width = tensor.shape
    if (height, width) == size or height * width < math.prod(size):
        return tensor
    return tensor.flatten(1)[:, : channels * math.prod(size)].reshape(count, channels, *size)


def _modulated(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    geometry = zip(input.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    size = tuple((n + 2 * pad - gap * (k - 1) - 1) // step + 1 for n, k, step, pad, gap in geometry)
    offset, mask = _as_read(offset, size), _as_read(mask, size)
    return _deform_conv(input, offset, weight, mask, stride, padding, dilation)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    *,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Write deformable convolution v2 (with a mask) of `input` into `output`."""
    geometry = (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w)
    result = _modulated(input, offset, mask, weight, *geometry)
    if with_bias:
        result = result + bias.float()[:, None, None]
    output.copy_(result)


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    *,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Add the gradients of deformable convolution v2 by each of its tensors."""
    geometry = (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w)
    gradients = _gradients(
        lambda x, o, m, w: _modulated(x, o, m, w, *geometry),
        [input, offset, mask, weight],
        grad_output,
    )
    targets = (grad_input, grad_offset, grad_mask, grad_weight)
    for target, gradient in zip(targets, gradients, strict=True):
        _add(target, gradient)
    if with_bias:
        _add(grad_bias, grad_output.float().sum(dim=(0, 2, 3)))


def _ms_deform_attn(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    # mmcv.ops imports this module's functions while it is itself being imported.
    attention = importlib.import_module("mmcv.ops.multi_scale_deform_attn")
    return attention.multi_scale_deformable_attn_pytorch(
        value, [tuple(shape) for shape in shapes.tolist()], locations, weights
    )


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Multi-scale deformable attention by mmcv's own PyTorch path.

    Args:
        value: (N, sum of h * w, heads, channels).
        value_spatial_shapes: (levels, 2) int64, (h, w).
        value_level_start_index: (levels,) int64, implied by the shapes.
        sampling_locations: (N, queries, heads, levels, points, 2), (x, y) in [0, 1] of the level.
        attention_weights: (N, queries, heads, levels, points).
        im2col_step: batching of the compiled op, unused.

    Returns:
        (N, queries, heads * channels) in the dtype of `value`.
    """
    output = _ms_deform_attn(
        value.detach(), value_spatial_shapes, sampling_locations, attention_weights
    )
    return output.to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Add the gradients of multi-scale deformable attention by its three float inputs."""
    gradients = _gradients(
        lambda v, s, a: _ms_deform_attn(v, value_spatial_shapes, s, a),
        [value, sampling_locations, attention_weights],
        grad_output,
    )
    targets = (grad_value, grad_sampling_loc, grad_attn_weight)
    for target, gradient in zip(targets, gradients, strict=True):
        _add(target, gradient)


OPS: dict[str, Callable] = {
    "roi_align_forward": roi_align_forward,
    "roi_align_backward": roi_align_backward,
    "deform_conv_forward": deform_conv_forward,
    "deform_conv_backward_input": deform_conv_backward_input,
    "deform_conv_backward_parameters": deform_conv_backward_parameters,
    "modulated_deform_conv_forward": modulated_deform_conv_forward,
    "modulated_deform_conv_backward": modulated_deform_conv_backward,
    "ms_deform_attn_forward": ms_deform_attn_forward,
    "ms_deform_attn_backward": ms_deform_attn_backward,
}
