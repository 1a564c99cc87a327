"""What a score means: confidences, thresholds with a guarantee, and their file. NumPy alone."""

from fgclip_det.calibration.calibration import Calibration
from fgclip_det.calibration.fit import Curve, fit_curve
from fgclip_det.calibration.risk_control import (
    Goal,
    check_pictures,
    control,
    needed_pictures,
    upper_bound,
)
from fgclip_det.calibration.thresholds import NEVER, Threshold

__all__ = [
    "NEVER",
    "Calibration",
    "Curve",
    "Goal",
    "Threshold",
    "check_pictures",
    "control",
    "fit_curve",
    "needed_pictures",
    "upper_bound",
]
