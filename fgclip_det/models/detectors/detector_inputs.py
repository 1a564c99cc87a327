"""Inputs of a detector: pixels, metadata of each picture, ground truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from fgclip_det.encoders import FGCLIP

T = TypeVar("T")

# Pixels of a batch are padded to a multiple of this many patches, so that each level of the
# pyramid halves exactly.
_PAD_PATCHES = 2


def build_preprocessor(data_preprocessor: dict | nn.Module | None, encoder: FGCLIP) -> nn.Module:
    """MMDetection's preprocessor, with the encoder's pixel values where a config names none."""
    if isinstance(data_preprocessor, nn.Module):
        return data_preprocessor
    asked = {
        "type": "DetDataPreprocessor",
        "mean": [255.0 * value for value in encoder.image_mean],
        "std": [255.0 * value for value in encoder.image_std],
        "bgr_to_rgb": True,
        "pad_size_divisor": _PAD_PATCHES * encoder.patch_size,
    }
    # Built here, since MMEngine finds MMDetection's classes only under its default scope.
    return MODELS.build({**asked, **(data_preprocessor or {})})


def image_metas(
    batch_inputs: Tensor, batch_data_samples: Sequence[DetDataSample] | None
) -> list[dict]:
    """Metainfo of each picture; without samples they are neither resized nor padded."""
    if batch_data_samples is not None:
        return [sample.metainfo for sample in batch_data_samples]
    shape = tuple(batch_inputs.shape[-2:])
    return [{"img_shape": shape, "ori_shape": shape} for _ in batch_inputs]


def for_each_canvas(
    function: Callable[[Tensor, list[dict]], list[T]],
    batch_inputs: Tensor,
    metas: Sequence[dict],
    multiple: int,
) -> list[T]:
    """Run pictures of one padded size together, others by themselves.

    Attention and norms see padding, so that in a larger batch what a picture gives would depend on
    its neighbours.

    Args:
        function: (n, 3, h, w) pixels and n metainfos -> n results.
        batch_inputs: (N, 3, H, W) pixels, padded at the bottom and the right.
        metas: Of each picture, with ``img_shape``.
        multiple: Pixels that a padded side is a multiple of.

    Returns:
        The result of each picture.
    """
    rows_of: dict[tuple[int, ...], list[int]] = {}
    for row, meta in enumerate(metas):
        canvas = tuple(-(-side // multiple) * multiple for side in meta["img_shape"][:2])
        rows_of.setdefault(canvas, []).append(row)
    if len(rows_of) <= 1:
        return function(batch_inputs, list(metas))
    results: dict[int, T] = {}
    for (height, width), rows in rows_of.items():
        pixels = batch_inputs[rows, :, :height, :width]
        found = function(pixels, [metas[row] for row in rows])
        results.update(zip(rows, found, strict=True))
    return [results[row] for row in range(len(metas))]


def without_names(sample: DetDataSample) -> DetDataSample:
    """A copy for the class-agnostic stage: only boxes, all of one category."""
    copy = DetDataSample(metainfo=sample.metainfo)
    boxes = sample.gt_instances.bboxes
    labels = torch.zeros_like(sample.gt_instances.labels)
    copy.gt_instances = InstanceData(bboxes=boxes, labels=labels)
    if "ignored_instances" in sample:
        copy.ignored_instances = sample.ignored_instances
    return copy
