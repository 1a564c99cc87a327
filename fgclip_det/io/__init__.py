"""Files: one door for every kind, for reading and for writing. Knows neither torch nor mm*."""

from fgclip_det.io.pickles import read_pickle
from fgclip_det.io.resumable_lines import ResumableLines

__all__ = ["ResumableLines", "read_pickle"]
