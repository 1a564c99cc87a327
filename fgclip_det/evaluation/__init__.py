"""Metrics: open-vocabulary AP, registered into ``mmdet.registry``, and region accuracy."""

from fgclip_det import compat  # noqa: F401  (first: mends what the next imports need)
from fgclip_det.evaluation.ov_coco_metric import OVCocoMetric
from fgclip_det.evaluation.ov_lvis_metric import OVLVISMetric
from fgclip_det.evaluation.region_accuracy import region_accuracy

__all__ = ["OVCocoMetric", "OVLVISMetric", "region_accuracy"]
