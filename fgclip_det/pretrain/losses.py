"""FG-CLIP's objectives (arXiv 2505.05071, sections 3.1 to 3.3) on normalised embeddings."""

from __future__ import annotations

import torch
import torch.distributed.nn.functional as dist_nn
import torch.nn.functional as F
from torch import Tensor, distributed


def contrastive_loss(image_embeddings: Tensor, text_embeddings: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross entropy; row i of one side belongs to row i of the other.

    Serves the global-long, global-short and region objectives. In distributed training the rows
    of all processes are gathered, gradients included; each process may bring a different number.

    Args:
        image_embeddings: (K, D), unit length: images or regions.
        text_embeddings: (K, D), unit length: their captions.
        scale: Scalar that multiplies the cosines, already out of its logarithm.

    Returns:
        Scalar. Zero (with a gradient path) where there is no row.
    """
    images, texts = _gather(image_embeddings), _gather(text_embeddings)
    if not len(images):
        return (image_embeddings.sum() + text_embeddings.sum()) * 0.0
    logits = scale * images @ texts.t()
    labels = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.t(), labels)) / 2


def hard_negative_loss(
    region_embeddings: Tensor, text_embeddings: Tensor, scale: Tensor, valid: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Cross entropy of each region over its own caption and that caption's hard negatives.

    Args:
        region_embeddings: (K, D), unit length.
        text_embeddings: (K, 1 + M, D), unit length; the positive stands first.
        scale: Scalar that multiplies the cosines, already out of its logarithm.
        valid: (K, 1 + M) bool, False where a region has fewer captions; None means all are there.

    Returns:
        The loss, and the share of regions whose positive scores highest; both scalars, zero
        where there is no region.
    """
    if not len(region_embeddings):
        zero = (region_embeddings.sum() + text_embeddings.sum()) * 0.0
        return zero, zero.detach()
    logits = scale * torch.einsum("kd,kmd->km", region_embeddings, text_embeddings)
    if valid is not None:
        logits = logits.masked_fill(~valid, -torch.inf)
    labels = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    accuracy = (logits.argmax(dim=1) == 0).float().mean()
    return F.cross_entropy(logits, labels), accuracy


def _gather(rows: Tensor) -> Tensor:
    """Rows of every process in rank order, each process's own with its gradient."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return rows
    world_size = distributed.get_world_size()
    if world_size == 1:
        return rows
    counts = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(world_size)]
    distributed.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    longest = int(torch.cat(counts).max())
    padded = F.pad(rows, (0, 0, 0, longest - len(rows)))
    gathered = dist_nn.all_gather(padded)
    return torch.cat([part[: int(n)] for part, n in zip(gathered, counts, strict=True)])
