"""Training of FG-CLIP itself: the objectives of both generations as MMEngine models."""

from fgclip_det import compat  # noqa: F401  (first: mends what the next imports need)
from fgclip_det.pretrain.fgclip2_pretrainer import FGCLIP2Pretrainer
from fgclip_det.pretrain.fgclip_pretrainer import FGCLIPPretrainer

__all__ = ["FGCLIP2Pretrainer", "FGCLIPPretrainer"]
