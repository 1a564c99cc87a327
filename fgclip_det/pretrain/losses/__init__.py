"""The objectives of both generations, as functions of unit-length embeddings."""

from fgclip_det.pretrain.losses.contrastive import contrastive_loss
from fgclip_det.pretrain.losses.hard_negatives import (
    HardGroups,
    group_contrastive_loss,
    group_logits,
    hard_negative_accuracy,
    hard_negative_loss,
    mean_margin,
    ranking_loss,
)
from fgclip_det.pretrain.losses.intra_modal import text_intra_modal_loss
from fgclip_det.pretrain.losses.row_shares import RowShares, world_size
from fgclip_det.pretrain.losses.sigmoid import sigmoid_loss

__all__ = [
    "HardGroups",
    "RowShares",
    "contrastive_loss",
    "group_contrastive_loss",
    "group_logits",
    "hard_negative_accuracy",
    "hard_negative_loss",
    "mean_margin",
    "ranking_loss",
    "sigmoid_loss",
    "text_intra_modal_loss",
    "world_size",
]
