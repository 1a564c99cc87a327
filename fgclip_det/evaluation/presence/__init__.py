"""Is it there? Counts, calibration and false alarms of queries; NumPy and SciPy alone."""

from fgclip_det.evaluation.presence.alarms import (
    area_under_curve,
    area_with_interval,
    share_interval,
    threshold_at_recall,
)
from fgclip_det.evaluation.presence.calibration_error import Reliability, reliability
from fgclip_det.evaluation.presence.counts import Answer, presence_counts
from fgclip_det.evaluation.presence.summary import (
    Outcome,
    presence_page,
    right_boxes,
    summarize,
    tuned_threshold,
)

__all__ = [
    "Answer",
    "Outcome",
    "Reliability",
    "area_under_curve",
    "area_with_interval",
    "presence_counts",
    "presence_page",
    "reliability",
    "right_boxes",
    "share_interval",
    "summarize",
    "threshold_at_recall",
    "tuned_threshold",
]
