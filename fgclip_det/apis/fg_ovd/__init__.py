"""FG-OVD from the config to the page."""

from fgclip_det.apis.fg_ovd.command import add_flags, evaluate_subsets, given_flags

__all__ = ["add_flags", "evaluate_subsets", "given_flags"]
