"""SigLIP's loss (arXiv 2303.15343), which FG-CLIP 2 has for whole pictures (2510.10921)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip_det.pretrain.losses.row_shares import RowShares


def sigmoid_loss(
    image_embeddings: Tensor,
    text_embeddings: Tensor,
    scale: Tensor,
    bias: Tensor,
    shares: RowShares,
) -> Tensor:
    """Each pair of a picture and a caption is judged alone: do they belong together?

    Args:
        image_embeddings: (B, D), unit length: pictures of this process.
        text_embeddings: (B, D), unit length: their captions.
        scale: Scalar that multiplies the cosines, already out of its logarithm.
        bias: Scalar that is added to the scaled cosines.
        shares: Rows of each process; own pictures meet the captions of all.

    Returns:
        Scalar: sum over the captions, mean over the pictures. Its mean over processes is the loss
        of all pictures.
    """
    logits = scale * image_embeddings @ shares.gather(text_embeddings).t() + bias
    labels = shares.labels(logits.device)
    signs = torch.full_like(logits, -1.0)
    signs[torch.arange(len(labels), device=logits.device), labels] = 1.0
    return shares.mean(-F.logsigmoid(signs * logits).sum(dim=1))
