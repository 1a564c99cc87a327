"""FG-OVD: its files, its scores, equal to the official ones, and its tables. NumPy alone."""

from fgclip_det.fg_ovd.evaluate import evaluate_fg_ovd, sweep_fg_ovd
from fgclip_det.fg_ovd.files import read_fg_ovd
from fgclip_det.fg_ovd.official_pickle import read_official_predictions
from fgclip_det.fg_ovd.predictions import read_predictions
from fgclip_det.fg_ovd.summary import Summary, summarize
from fgclip_det.fg_ovd.text_prior import read_scorer

__all__ = [
    "Summary",
    "evaluate_fg_ovd",
    "read_fg_ovd",
    "read_official_predictions",
    "read_predictions",
    "read_scorer",
    "summarize",
    "sweep_fg_ovd",
]
