"""Readers of the data sets that FG-CLIP is measured on, each in its stock files."""

from fgclip_det.evaluation.encoder.data_sets.box_files import (
    read_boxclass_cn,
    read_coco_boxes,
    read_lvis_boxes,
)
from fgclip_det.evaluation.encoder.data_sets.chinese_captions import (
    read_coco_cn,
    read_flickr30k_cna,
)
from fgclip_det.evaluation.encoder.data_sets.coco_captions import read_coco_captions
from fgclip_det.evaluation.encoder.data_sets.fg_ovd_lines import read_fg_ovd
from fgclip_det.evaluation.encoder.data_sets.flickr30k import read_flickr30k
from fgclip_det.evaluation.encoder.data_sets.imagenet import (
    imagenet_names,
    imagenet_templates,
    read_imagenet,
    read_imagenet_v2,
)
from fgclip_det.evaluation.encoder.data_sets.paired_captions import (
    read_dci,
    read_lit_cn,
    read_sharegpt4v,
    read_urban1k,
)
from fgclip_det.evaluation.encoder.data_sets.records import (
    BoxCaptions,
    Boxes,
    Classification,
    Record,
    Retrieval,
)

__all__ = [
    "BoxCaptions",
    "Boxes",
    "Classification",
    "Record",
    "Retrieval",
    "imagenet_names",
    "imagenet_templates",
    "read_boxclass_cn",
    "read_coco_boxes",
    "read_coco_captions",
    "read_coco_cn",
    "read_dci",
    "read_fg_ovd",
    "read_flickr30k",
    "read_flickr30k_cna",
    "read_imagenet",
    "read_imagenet_v2",
    "read_lit_cn",
    "read_lvis_boxes",
    "read_sharegpt4v",
    "read_urban1k",
]
