"""Batches of pictures of any shapes, in as many patches as the largest of them needs."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import FUNCTIONS

from fgclip_det.datasets.region_captions import collate_region_captions
from fgclip_det.encoders.fgclip2.fgclip2 import PATCH_BUDGETS
from fgclip_det.encoders.fgclip2.packed_images import resized_shape
from fgclip_det.encoders.picture_frames import map_boxes, resize_picture


@FUNCTIONS.register_module()
def collate_patches(
    items: list[dict[str, Any]],
    patch_size: int = 16,
    budgets: tuple[int, ...] = PATCH_BUDGETS,
) -> dict[str, list]:
    """Batch for FG-CLIP 2: pictures resized to whole patches, their aspect ratio about kept.

    All of a batch get the most patches within one budget: the least of `budgets` that holds the
    largest of them as it is, or the last (360CVGroup/FG-CLIP, the collator of its training).

    Args:
        items: Samples with pictures of any sizes.
        patch_size: Pixels of a patch's side.
        budgets: Numbers of patches, rising.

    Returns:
        For each key the list of its values; pictures (3, H, W) uint8 with sides of whole patches,
        ``boxes`` in their pixels.
    """
    most = max(
        (item["image"].shape[1] // patch_size) * (item["image"].shape[2] // patch_size)
        for item in items
    )
    budget = next((number for number in budgets if number >= most), budgets[-1])
    resized = []
    for item in items:
        height, width = item["image"].shape[1:]
        size = resized_shape(height, width, patch_size, budget)
        image = resize_picture(item["image"], size, "bilinear").to(torch.uint8)
        boxes = map_boxes(item["boxes"], (height, width), size)
        resized.append({**item, "image": image, "boxes": boxes})
    return collate_region_captions(resized)
