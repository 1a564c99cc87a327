"""Regions with one right caption and several wrong ones, which differ from it in a detail.

`hard_negative_loss` is FG-CLIP's (arXiv 2505.05071, section 3.3); the others are FG-CLIP 2's
(arXiv 2510.10921, section 3), as its authors' code has them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip_det.pretrain.losses.row_shares import RowShares


class HardGroups(NamedTuple):
    """Regions that have wrong captions; the others take no part in the losses of this file.

    Attributes:
        regions: (G, D), unit length.
        texts: (G, 1 + M, D), unit length: the right caption first, then the wrong ones.
        valid: (G, 1 + M) bool, False where a group has fewer captions than others.
    """

    regions: Tensor
    texts: Tensor
    valid: Tensor


def group_logits(groups: HardGroups, scale: Tensor) -> Tensor:
    """(G, 1 + M) scaled cosines of each region with the captions of its group.

    Args:
        groups: Of this process.
        scale: Scalar that multiplies the cosines, already out of its logarithm.
    """
    return scale * torch.einsum("gd,gmd->gm", groups.regions, groups.texts)


def hard_negative_loss(logits: Tensor, valid: Tensor, shares: RowShares) -> Tensor:
    """Cross entropy of each region over the captions of its group.

    Args:
        logits: (G, 1 + M) from `group_logits`.
        valid: (G, 1 + M) bool, as in `HardGroups`.
        shares: Groups of each process that the mean goes over.

    Returns:
        Scalar; zero (with a gradient path) where there is no group.
    """
    labels = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    among = logits.masked_fill(~valid, -torch.inf)
    return shares.mean(F.cross_entropy(among, labels, reduction="none"))


def hard_negative_accuracy(logits: Tensor, valid: Tensor) -> Tensor:
    """Share of regions whose right caption scores highest; zero where there is no group.

    Args:
        logits: (G, 1 + M) from `group_logits`.
        valid: (G, 1 + M) bool, as in `HardGroups`.
    """
    wins = logits.detach().masked_fill(~valid, -torch.inf).argmax(dim=1) == 0
    return wins.float().sum() / max(len(wins), 1)


def group_contrastive_loss(
    groups: HardGroups, scale: Tensor, shares: RowShares, wrong_shares: RowShares
) -> Tensor:
    """Symmetric cross entropy, where the wrong captions of all groups are further texts.

    Args:
        groups: Of this process.
        scale: Scalar that multiplies the cosines, already out of its logarithm.
        shares: Groups of each process that are compared with one another.
        wrong_shares: Wrong captions of each process.

    Returns:
        Scalar; zero (with a gradient path) where there is no group.
    """
    right = groups.texts[:, 0]
    wrong = groups.texts[:, 1:][groups.valid[:, 1:]]
    texts = torch.cat([shares.gather(right), wrong_shares.gather(wrong)])
    labels = shares.labels(right.device)
    from_regions = scale * groups.regions @ texts.t()
    from_texts = scale * right @ shares.gather(groups.regions).t()
    losses = [F.cross_entropy(x, labels, reduction="none") for x in (from_regions, from_texts)]
    return shares.mean(sum(losses)) / 2


def ranking_loss(logits: Tensor, valid: Tensor, threshold: Tensor, shares: RowShares) -> Tensor:
    """By how much a wrong caption comes closer to the right one's score than `threshold`.

    Args:
        logits: (G, 1 + M) from `group_logits`.
        valid: (G, 1 + M) bool, as in `HardGroups`; a wrong caption at least in each group.
        threshold: Scalar without gradient, in the scale of the logits.
        shares: Groups of each process that the mean goes over.

    Returns:
        Scalar: mean over the wrong captions of a group, then over groups; zero (with a gradient
        path) where there is none.
    """
    excess = F.relu(threshold + logits[:, 1:] - logits[:, :1])
    return shares.mean(_mean_of_wrong(excess, valid))


def mean_margin(logits: Tensor, valid: Tensor, shares: RowShares) -> Tensor:
    """How much higher right captions score than wrong ones; what the next threshold is made of.

    Args:
        logits: (G, 1 + M) from `group_logits`.
        valid: (G, 1 + M) bool, as in `HardGroups`; a wrong caption at least in each group.
        shares: Groups of each process that the mean goes over.

    Returns:
        Scalar without gradient, the share of this process in a mean; see `RowShares.mean`.
    """
    margins = logits.detach()[:, :1] - logits.detach()[:, 1:]
    return shares.mean(_mean_of_wrong(margins, valid))


def _mean_of_wrong(values: Tensor, valid: Tensor) -> Tensor:
    """(G, M) values of wrong captions -> (G,) means over those that are there."""
    wrong = valid[:, 1:]
    return values.masked_fill(~wrong, 0.0).sum(dim=1) / wrong.sum(dim=1).clamp(min=1)
