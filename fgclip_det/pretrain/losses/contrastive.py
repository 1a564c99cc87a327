"""FG-CLIP's contrast of images or regions with their captions (arXiv 2505.05071, section 3.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from fgclip_det.pretrain.losses.row_shares import RowShares


def contrastive_loss(
    image_embeddings: Tensor, text_embeddings: Tensor, scale: Tensor, shares: RowShares
) -> Tensor:
    """Symmetric cross entropy; row i of one side belongs to row i of the other.

    Each process compares its own rows with the columns of all, so that what it holds grows with
    its rows times all rows, not with the square of all.

    Args:
        image_embeddings: (K, D), unit length: images or regions of this process.
        text_embeddings: (K, D), unit length: their captions.
        scale: Scalar that multiplies the cosines, already out of its logarithm.
        shares: Rows of each process; `RowShares.local` keeps the comparison to this process.

    Returns:
        Scalar, whose mean over processes is the loss of all rows. Zero (with a gradient path)
        where there is no row.
    """
    labels = shares.labels(image_embeddings.device)
    from_images = scale * image_embeddings @ shares.gather(text_embeddings).t()
    from_texts = scale * text_embeddings @ shares.gather(image_embeddings).t()
    return (_mean(from_images, labels, shares) + _mean(from_texts, labels, shares)) / 2


def _mean(logits: Tensor, labels: Tensor, shares: RowShares) -> Tensor:
    return shares.mean(F.cross_entropy(logits, labels, reduction="none"))
