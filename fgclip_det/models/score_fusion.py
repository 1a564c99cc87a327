"""Fusion of the trained detector's scores with the frozen encoder's."""

from __future__ import annotations

import torch
from torch import Tensor


def geometric_score_ensemble(
    det_scores: Tensor, vlm_scores: Tensor, alpha: float, beta: float, is_base: Tensor
) -> Tensor:
    """Weighted geometric mean, with a weight for base and one for novel categories.

    ``det ** (1 - w) * vlm ** w`` with ``w = alpha`` for base and ``beta`` for novel ones: the
    detector is trusted where it was trained, the encoder elsewhere (F-VLM, arXiv 2209.15639,
    section 3.3). The result is not renormalised.

    Args:
        det_scores: (K, C) probabilities of the detector.
        vlm_scores: (K, C) probabilities of the encoder.
        alpha: Weight of the encoder for base categories, in [0, 1].
        beta: Weight of the encoder for novel categories, in [0, 1].
        is_base: (C,) bool.

    Returns:
        (K, C).

    Raises:
        ValueError: A weight lies outside [0, 1].
    """
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {value}")
    weight = torch.where(is_base.to(det_scores.device), alpha, beta).to(det_scores.dtype)
    return det_scores ** (1 - weight) * vlm_scores**weight
