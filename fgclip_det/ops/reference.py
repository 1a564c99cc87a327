"""RoIAlign in plain PyTorch: the oracle of the tests, and the fallback without the extension.

Average pooling of a bin is bilinear sampling, which acts on one axis at a time. So each box has a
matrix of weights for its rows and one for its columns, and pooling is two matrix products. Nothing
here is fast; everything is differentiable in the features and gives the same bits in every run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

# Elements of the largest intermediate tensor; boxes are taken in chunks that stay below it.
CHUNK_ELEMENTS = 1 << 24


def axis_weights(
    low: Tensor,
    high: Tensor,
    *,
    size: int,
    bins: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Weights of the cells of one axis in each bin.

    Args:
        low: (K,) float32 or float64, lower edges of the boxes in pixels.
        high: (K,) upper edges, likewise.
        size: Cells along the axis.
        bins: Bins along the axis.
        spatial_scale: Cells per pixel.
        sampling_ratio: Samples per bin; <= 0 takes as many as the bin has cells, rounded up.
        aligned: Shift boxes by half a cell; otherwise boxes are at least one cell long.

    Returns:
        (K, bins, size) in the dtype of `low`; all zero for reversed (if `aligned`), infinite and
        NaN boxes.
    """
    offset = 0.5 if aligned else 0.0
    start = low * spatial_scale - offset
    extent = (high * spatial_scale - offset) - start
    usable = extent.isfinite() & (extent >= 0 if aligned else True)
    start, extent = start.where(usable, 0), extent.where(usable, 0)
    if not aligned:
        extent = extent.clamp(min=1)
    length = extent / bins
    samples = length.ceil() if sampling_ratio <= 0 else torch.full_like(length, sampling_ratio)

    # Samples are looked at only where they can lie inside the map: a huge box has too many.
    step = length / samples.clamp(min=1)
    base = start[:, None] + torch.arange(bins, device=low.device) * length[:, None]
    first = (((-1 - base) / step[:, None] - 0.5).floor() - 2).nan_to_num(0)
    first = torch.minimum(first.clamp(min=0), samples[:, None])
    visible = torch.minimum(samples, (size + 1) / step + 5).nan_to_num(0)
    count = int(visible.max()) if len(visible) else 0
    sample = first[..., None] + torch.arange(count, device=low.device, dtype=low.dtype)
    position = base[..., None] + (sample + 0.5) * length[:, None, None] / samples[:, None, None]

    # A sample outside [-1, size] weighs nothing but still divides.
    inside = (position >= -1) & (position <= size) & (sample < samples[:, None, None])
    inside &= usable[:, None, None]
    # The two cells beside a sample share it linearly; at the border the last cell takes all of it.
    cells = torch.arange(size, device=low.device, dtype=low.dtype)
    distance = (position.clamp(0, size - 1)[..., None] - cells).abs()
    shares = (1 - distance).clamp(min=0).where(inside[..., None], 0)
    return shares.sum(dim=2) / samples.clamp(min=1)[:, None, None]


def _image_chunks(
    rois: Tensor,
    batch_size: int,
    bins: tuple[int, int],
    map_shape: tuple[int, int, int],
    sampling_ratio: int,
) -> Iterator[tuple[int, Tensor]]:
    """Yields (image, indices of some of its rois), image by image, in the order of the rois.

    Raises:
        ValueError: A batch index outside [0, batch_size).
    """
    index = rois[:, 0]
    wrong = ~((index >= 0) & (index < batch_size) & (index == index.floor()))
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"rois[{row}, 0] names image {float(index[row]):g}, but the features hold {batch_size} "
            "images; batch indices start at 0 and are whole numbers"
        )
    channels, height, width = map_shape
    side = max(height, width)
    samples = max(2 * side + 7, sampling_ratio)
    per_box = max(max(bins) * samples * side, bins[1] * channels * height)
    for image in index.long().unique().tolist():
        rows = (index.long() == image).nonzero().squeeze(1)
        for chunk in rows.split(max(1, CHUNK_ELEMENTS // per_box)):
            yield image, chunk


def _weights(
    rois: Tensor,
    dtype: torch.dtype,
    size: tuple[int, int],
    bins: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> tuple[Tensor, Tensor]:
    """(K, oh, h) row weights and (K, ow, w) column weights of (K, 5) rois."""
    boxes = rois[:, 1:].detach().to(dtype)
    rows, columns = (
        axis_weights(
            boxes[:, low],
            boxes[:, low + 2],
            size=cells,
            bins=count,
            spatial_scale=spatial_scale,
            sampling_ratio=sampling_ratio,
            aligned=aligned,
        )
        for low, cells, count in ((1, size[0], bins[0]), (0, size[1], bins[1]))
    )
    return rows, columns


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that sums are taken in: float32 for half precision."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def roi_align(
    features: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Average RoIAlign, differentiable in the features.

    Args:
        features: (N, C, h, w) float, any memory format.
        rois: (K, 5) float32: batch index, then xyxy in pixels.
        spatial_scale: Cells per pixel.
        pooled_height: Rows of bins.
        pooled_width: Columns of bins.
        sampling_ratio: Samples per bin and axis; <= 0 takes as many as the bin has cells.
        aligned: Shift boxes by half a cell; otherwise boxes are at least one cell long.

    Returns:
        (K, C, pooled_height, pooled_width) in the dtype of the features, contiguous.

    Raises:
        ValueError: A batch index outside [0, N).
    """
    dtype = sum_dtype(features.dtype)
    batch_size, channels, height, width = features.shape
    bins, geometry = (pooled_height, pooled_width), (spatial_scale, sampling_ratio, aligned)
    pooled, order = [], []
    # Autocast would take the products in half precision.
    with torch.autocast(features.device.type, enabled=False):
        for image, chunk in _image_chunks(
            rois, batch_size, bins, (channels, height, width), sampling_ratio
        ):
            wy, wx = _weights(rois[chunk], dtype, (height, width), bins, *geometry)
            columns = torch.einsum("kqw,chw->kqch", wx, features[image].to(dtype))
            pooled.append(torch.einsum("kph,kqch->kcpq", wy, columns))
            order.append(chunk)
        if not pooled:
            return features.new_zeros(0, channels, *bins) + 0 * features.sum()
        return torch.cat(pooled)[torch.cat(order).argsort()].to(features.dtype).contiguous()


def roi_align_pyramid(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    spatial_scales: Sequence[float],
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """`roi_align` of each box from one of several maps, differentiable in the maps.

    Args:
        features: L maps (N, C, h_l, w_l).
        rois: (K, 5), as in `roi_align`.
        levels: (K,) int64, which map each is pooled from.
        spatial_scales: Cells per pixel of each map.
        pooled_height: Rows of bins.
        pooled_width: Columns of bins.
        sampling_ratio: As in `roi_align`.
        aligned: As in `roi_align`.

    Returns:
        (K, C, pooled_height, pooled_width) in the dtype of the maps, contiguous.

    Raises:
        ValueError: A level or a batch index that is not there.
    """
    wrong = (levels < 0) | (levels >= len(features))
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"levels[{row}] is {int(levels[row])}, but there are {len(features)} maps; levels "
            "start at 0"
        )
    settings = (pooled_height, pooled_width, sampling_ratio, aligned)
    pooled, order = [], []
    for level, (maps, scale) in enumerate(zip(features, spatial_scales, strict=True)):
        order.append((levels == level).nonzero().squeeze(1))
        pooled.append(roi_align(maps, rois[order[-1]], scale, *settings))
    return torch.cat(pooled)[torch.cat(order).argsort()]


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    spatial_scale: float,
    batch_size: int,
    channels: int,
    height: int,
    width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Gradient of `roi_align` with respect to the features: its transpose.

    Args:
        grad_output: (K, C, oh, ow) float.
        rois: (K, 5) float32, as in the forward pass.
        spatial_scale: Cells per pixel.
        batch_size: N.
        channels: C.
        height: h, in cells.
        width: w, in cells.
        sampling_ratio: As in the forward pass.
        aligned: As in the forward pass.

    Returns:
        (N, C, h, w) in the dtype of `grad_output`, contiguous.

    Raises:
        ValueError: A batch index outside [0, N).
    """
    dtype = sum_dtype(grad_output.dtype)
    bins = (grad_output.shape[2], grad_output.shape[3])
    geometry = (spatial_scale, sampling_ratio, aligned)
    result = grad_output.new_zeros(batch_size, channels, height, width, dtype=dtype)
    with torch.autocast(grad_output.device.type, enabled=False):
        for image, chunk in _image_chunks(
            rois, batch_size, bins, (channels, height, width), sampling_ratio
        ):
            wy, wx = _weights(rois[chunk], dtype, (height, width), bins, *geometry)
            columns = torch.einsum("kph,kcpq->kqch", wy, grad_output[chunk].to(dtype))
            result[image] += torch.einsum("kqw,kqch->chw", wx, columns)
    return result.to(grad_output.dtype)
