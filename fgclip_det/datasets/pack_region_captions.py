"""Pictures of a detection pipeline as FG-CLIP's own training takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackRegionCaptions(BaseTransform):
    """Makes an item of `RegionCaptionDataset` of a picture of `FGOVDDataset`.

    The last step of a pipeline, behind ``LoadImageFromFile``: captions of boxes and their
    negatives then train an encoder. FG-OVD has no captions of whole pictures, so these are empty,
    and the pretrainer's ``weight_long`` and ``weight_short`` have to be 0.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pack what `FGOVDDataset` gives with ``test_mode=False``.

        Args:
            results: ``img`` ((H, W, 3) uint8, BGR, as stored), ``instances`` (``bbox`` xyxy in
                pixels of it, ``bbox_label``) and ``vocabularies``.

        Returns:
            See `RegionCaptionDataset`.
        """
        rgb = np.ascontiguousarray(results["img"][..., ::-1].transpose(2, 0, 1))
        instances = results["instances"]
        groups = [results["vocabularies"][one["bbox_label"]]["captions"] for one in instances]
        boxes = torch.tensor([one["bbox"] for one in instances], dtype=torch.float32)
        return {
            "image": torch.from_numpy(rgb),
            "short_caption": "",
            "long_caption": "",
            "boxes": boxes.reshape(-1, 4),
            "region_captions": [group[0] for group in groups],
            "hard_captions": [list(group) for group in groups],
        }
