"""Metrics: open-vocabulary AP, registered into ``mmdet.registry``, FG-OVD, region accuracy."""

from fgclip_det import compat  # noqa: F401  (first: mends what the next imports need)
from fgclip_det.evaluation.d3_metric import D3Metric
from fgclip_det.evaluation.fg_ovd_metric import FGOVDMetric
from fgclip_det.evaluation.ov_coco.ov_coco_metric import OVCocoMetric
from fgclip_det.evaluation.ov_lvis_metric import OVLVISMetric
from fgclip_det.evaluation.processes import joined_processes, own_device, process_number
from fgclip_det.evaluation.region_accuracy.accuracy import region_accuracy
from fgclip_det.fg_ovd.evaluate import evaluate_fg_ovd, sweep_fg_ovd

__all__ = [
    "D3Metric",
    "FGOVDMetric",
    "OVCocoMetric",
    "OVLVISMetric",
    "evaluate_fg_ovd",
    "joined_processes",
    "own_device",
    "process_number",
    "region_accuracy",
    "sweep_fg_ovd",
]
