"""Datasets, registered into ``mmdet.registry``, and the generator of Shapes."""

from fgclip_det import compat  # noqa: F401  (first: mends what the next imports need)
from fgclip_det.datasets.d3 import D3Dataset
from fgclip_det.datasets.fg_ovd import FGOVDDataset
from fgclip_det.datasets.finehard import (
    FineHARDDataset,
    FineHARDStream,
    ShardSampler,
    collate_patches,
)
from fgclip_det.datasets.image_files import check_images
from fgclip_det.datasets.one_class import OneClass
from fgclip_det.datasets.ov_coco import OVCocoDataset
from fgclip_det.datasets.pack_region_captions import PackRegionCaptions
from fgclip_det.datasets.region_captions import RegionCaptionDataset, collate_region_captions

__all__ = [
    "D3Dataset",
    "FGOVDDataset",
    "FineHARDDataset",
    "FineHARDStream",
    "OVCocoDataset",
    "OneClass",
    "PackRegionCaptions",
    "RegionCaptionDataset",
    "ShardSampler",
    "check_images",
    "collate_patches",
    "collate_region_captions",
]
