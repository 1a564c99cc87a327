"""Training of FG-CLIP itself: its four objectives as an MMEngine model."""

from fgclip_det import compat  # noqa: F401  (first: mends what the next imports need)
from fgclip_det.pretrain.fgclip_pretrainer import FGCLIPPretrainer
from fgclip_det.pretrain.losses import contrastive_loss, hard_negative_loss

__all__ = ["FGCLIPPretrainer", "contrastive_loss", "hard_negative_loss"]
