"""FG-OVD: its files, its scores, equal to the official ones, and its tables. NumPy alone."""

from fgclip_det.fg_ovd.evaluate import evaluate_fg_ovd, sweep_fg_ovd
from fgclip_det.fg_ovd.files import read_fg_ovd
from fgclip_det.fg_ovd.summary import Summary, summarize

__all__ = ["Summary", "evaluate_fg_ovd", "read_fg_ovd", "summarize", "sweep_fg_ovd"]
