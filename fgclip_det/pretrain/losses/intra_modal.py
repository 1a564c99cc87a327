"""FG-CLIP 2's text-intra-modal contrast (arXiv 2510.10921, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from fgclip_det.pretrain.losses.row_shares import RowShares

# Texts more alike than this say the same, and are not pushed apart.
_SAME_TEXT = 0.95
_CLOSEST = 10


def text_intra_modal_loss(text_embeddings: Tensor, shares: RowShares) -> Tensor:
    """Pushes captions of regions away from those closest to them, but not from their like.

    As the authors' code has it, and not their paper: the mean over captions, no temperature, and
    what is left out (a caption itself, and what is above 0.95) counts as a cosine of 0.

    Args:
        text_embeddings: (K, D), unit length: captions of the regions of this process.
        shares: Rows of each process; own captions meet those of all.

    Returns:
        Scalar; zero (with a gradient path) where there is no caption. The mean over captions of
        the logarithm of the sum of the 10 largest exp(cosine), of all where there are fewer.
    """
    cosines = text_embeddings @ shares.gather(text_embeddings).t()
    places = torch.arange(shares.total, device=cosines.device)
    is_own = places == shares.labels(cosines.device)[:, None]
    cosines = cosines.masked_fill(is_own | (cosines > _SAME_TEXT), 0.0)
    closest = cosines.topk(min(_CLOSEST, shares.total), dim=1).values
    return shares.mean(closest.logsumexp(dim=1))
