"""What goes into a detector: pixels, what is known of each picture, ground truth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from fgclip_det.encoders import FGCLIP

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


def without_names(sample: DetDataSample) -> DetDataSample:
    """A copy for the class-agnostic stage: only boxes, all of one category."""
    copy = DetDataSample(metainfo=sample.metainfo)
    boxes = sample.gt_instances.bboxes
    labels = torch.zeros_like(sample.gt_instances.labels)
    copy.gt_instances = InstanceData(bboxes=boxes, labels=labels)
    if "ignored_instances" in sample:
        copy.ignored_instances = sample.ignored_instances
    return copy
