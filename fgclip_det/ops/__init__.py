"""Operators: public functions here, kernels in csrc/, their PyTorch oracle in reference.py."""

from fgclip_det.ops._library import asserts_index, backend
from fgclip_det.ops.roi_align import RoIAlign, roi_align
from fgclip_det.ops.roi_align_pyramid import roi_align_pyramid

__all__ = ["RoIAlign", "asserts_index", "backend", "roi_align", "roi_align_pyramid"]
