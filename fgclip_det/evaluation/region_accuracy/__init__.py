"""FG-CLIP's accuracy on given boxes."""

from fgclip_det.evaluation.region_accuracy.accuracy import (
    fit_scorer,
    region_accuracies,
    region_accuracy,
)
from fgclip_det.evaluation.region_accuracy.features import described
from fgclip_det.evaluation.region_accuracy.tables import region_page

__all__ = ["described", "fit_scorer", "region_accuracies", "region_accuracy", "region_page"]
