"""Annotation files of benchmarks, prepared from the published ones."""

from fgclip_det.datasets.prepare.ov_coco import PROTOCOLS, ov_coco_files
from fgclip_det.datasets.prepare.ov_lvis import ov_lvis_files
from fgclip_det.datasets.prepare.prepared_files import check_files, write_files

__all__ = ["PROTOCOLS", "check_files", "ov_coco_files", "ov_lvis_files", "write_files"]
