"""FineHARD: region captions with hard negatives, which FG-CLIP is trained on (arXiv 2505.05071)."""

from fgclip_det.datasets.finehard.annotation_items import FineHARDDataset
from fgclip_det.datasets.finehard.left_out import KINDS, ItemLeftOut
from fgclip_det.datasets.finehard.patches import collate_patches
from fgclip_det.datasets.finehard.prepare import prepare_shards
from fgclip_det.datasets.finehard.rules import FineHARDRules
from fgclip_det.datasets.finehard.shard_order import ShardEpoch, ShardSampler
from fgclip_det.datasets.finehard.stream import FineHARDStream

__all__ = [
    "KINDS",
    "FineHARDDataset",
    "FineHARDRules",
    "FineHARDStream",
    "ItemLeftOut",
    "ShardEpoch",
    "ShardSampler",
    "collate_patches",
    "prepare_shards",
]
