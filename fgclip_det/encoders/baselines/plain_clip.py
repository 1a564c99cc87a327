"""OpenAI's CLIP read as the FG-CLIP that it is before any training."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fgclip_det.encoders.fgclip.config import KEPT_POSITIONS, POSITION_STRETCH

_POSITIONS = "text_model.embeddings.position_embedding"
_LONG_TABLES = (f"{_POSITIONS}_ori.weight", f"{_POSITIONS}_res.weight")
# What FG-CLIP has beside CLIP's parameters, and what each starts from.
_COPIES = {
    "text_filip_projection.weight": "text_projection.weight",
    "logit_scale_finegraind": "logit_scale",
    "logit_scale_hardneg": "logit_scale",
}


def complete_plain_clip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add to a CLIP's weights what FG-CLIP has more, as FG-CLIP's training starts from a CLIP.

    The long position table keeps the first 20 positions and stretches the others by four (FG-CLIP,
    arXiv 2505.05071, section 3.1, after Long-CLIP), the long projection is the short one. So short
    captions and pictures give CLIP's own features; long captions are read, but were never trained.

    Args:
        weights: By the names of a checkpoint of CLIP or of FG-CLIP.

    Returns:
        All weights of an FG-CLIP; those of an FG-CLIP, and of anything else, as they were.
    """
    added = {*_LONG_TABLES, *_COPIES}
    needed = {f"{_POSITIONS}.weight", *_COPIES.values()}
    if added & set(weights) or not needed <= set(weights):
        return dict(weights)
    if weights[f"{_POSITIONS}.weight"].dim() != 2:  # whoever loads it tells so
        return dict(weights)
    table = stretch_positions(weights[f"{_POSITIONS}.weight"])
    long = {key: table.clone() for key in _LONG_TABLES}
    return {**weights, **long, **{new: weights[old].clone() for new, old in _COPIES.items()}}


def stretch_positions(table: Tensor) -> Tensor:
    """(L, E) short positions -> (20 + 4 (L - 20), E) long ones, 20 kept and the rest stretched."""
    kept, rest = table[:KEPT_POSITIONS].float(), table[KEPT_POSITIONS:].float()
    # Three positions between each two neighbours; those behind the last go on in its direction.
    steps = torch.cat([rest.diff(dim=0), rest[-1:] - rest[-2:-1]])
    parts = torch.arange(POSITION_STRETCH, device=table.device) / POSITION_STRETCH
    stretched = rest[:, None] + parts[:, None] * steps[:, None]
    return torch.cat([kept, stretched.flatten(0, 1)]).to(table.dtype)
