"""RoIAlign in ONNX: our operator becomes the standard `RoiAlign`, which every runtime knows.

Import this module by its own name: it needs onnx and onnxscript, which the extra `onnx` installs,
and `fgclip_det.ops` does without them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

try:
    from onnxscript import DOUBLE, FLOAT, INT64, ir, opset18
except ImportError as error:
    raise ImportError(
        f"fgclip_det.ops.onnx needs two more packages ({error}): pip install onnx onnxscript"
    ) from error

# Annotated for tensors alone, but the exporter makes constants of numbers and lists.
op: Any = opset18


# The exporter takes annotated parameters for attributes and the others for tensors.
def _roi_align(  # type: ignore[no-untyped-def]
    input,
    rois,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
):
    """The nodes that stand for `torch.ops.fgclip_det.roi_align`, whose arguments these are."""
    indices = op.Cast(op.Gather(rois, 0, axis=1), to=INT64.dtype)
    boxes = op.Slice(rois, [1], [5], [1])
    maps = input
    if input.dtype == DOUBLE.dtype:
        # The attribute is float32, and ceil() would turn its last bit into another sample.
        scale = op.Constant(value=ir.tensor(spatial_scale, ir.DataType.DOUBLE))
        boxes = op.Mul(op.Cast(boxes, to=DOUBLE.dtype), scale)
        spatial_scale = 1.0
    elif input.dtype != FLOAT.dtype:
        # `RoiAlign` wants boxes of the maps' dtype, and half precision is too coarse for pixels.
        maps = op.Cast(input, to=FLOAT.dtype)
    pooled = op.RoiAlign(
        maps,
        boxes,
        indices,
        mode="avg",
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
        output_height=pooled_height,
        output_width=pooled_width,
        sampling_ratio=max(sampling_ratio, 0),
        spatial_scale=spatial_scale,
    )
    return pooled if maps is input else op.Cast(pooled, to=input.dtype)


def onnx_translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Translation for `torch.onnx.export` of our operator into the standard `RoiAlign`, one to one.

    Around it stand only the nodes that split the rois (K, 5) into int64 batch indices (K,) and
    boxes (K, 4). Maps of half precision are cast to float32 before and back behind it, so that
    boxes stay float32; for float64 maps the spatial scale is multiplied into the boxes.

    On ordered, finite boxes that lie inside the map or stick out of it, onnxruntime gives our
    numbers, up to the order of float32 sums. Elsewhere its CPU kernel (1.23 to 1.32) does not:

    - Reversed boxes under ``aligned``, which we pool to zeros, fail with an integer overflow if
      ``sampling_ratio <= 0``, else they are pooled as if they were ordered. Without ``aligned``
      both take them for one cell.
    - NaN and infinite boxes, zeros with us, fail, or give NaN or zeros before they did.
    - A batch index that names no image fails, or reads beyond the maps before it did.
    - With ``sampling_ratio <= 0`` it stores every sample of a box, those outside the map too: a
      box of 10,000 x 10,000 cells runs out of memory. Clip boxes to the image beforehand.
    - It has no kernel for `RoiAlign` of opset 22: export with ``opset_version`` 18 to 21.

    The gradient has no translation; export a model in eval mode.

    Returns:
        What the parameter ``custom_translation_table`` of ``torch.onnx.export(..., dynamo=True)``
        takes; merge it with your own by ``{**table, **onnx_translation_table()}``.
    """
    return {torch.ops.fgclip_det.roi_align.default: _roi_align}
