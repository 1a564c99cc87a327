"""Fusion of the trained detector's scores with the frozen encoder's."""

from __future__ import annotations

import torch
from torch import Tensor

from fgclip_det.models.roi_heads.settings import check_number


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
        ValueError: A weight lies outside [0, 1], or `is_base` is not of bools.
    """
    weight = encoder_weight(alpha, beta, is_base, like=det_scores)
    return det_scores ** (1 - weight) * vlm_scores**weight


def ensemble_of_logits(
    det_logits: Tensor, vlm_logits: Tensor, alpha: float, beta: float, is_base: Tensor
) -> Tensor:
    """`geometric_score_ensemble` of the softmaxes of logits.

    A geometric mean is an arithmetic one of logarithms: one exponential stands for two powers,
    which would take half of the time of thousands of names.

    Args:
        det_logits: (K, C + 1) of the detector, the background last.
        vlm_logits: (K, C + 1) of the encoder, the background last.
        alpha: See `geometric_score_ensemble`.
        beta: See `geometric_score_ensemble`.
        is_base: (C,) bool.

    Returns:
        (K, C), without the background.

    Raises:
        ValueError: A weight lies outside [0, 1], or `is_base` is not of bools.
    """
    weight = encoder_weight(alpha, beta, is_base, like=det_logits)
    det, vlm = (logits.log_softmax(dim=-1)[:, :-1] for logits in (det_logits, vlm_logits))
    if det.requires_grad or vlm.requires_grad:
        return torch.lerp(det, vlm, weight).exp_()
    # Fresh memory for thousands of names takes as long as what is written there.
    return det.lerp_(vlm, weight).exp_()


def encoder_weight(alpha: float, beta: float, is_base: Tensor, like: Tensor) -> Tensor:
    """(C,) weight of the encoder, `alpha` or `beta`, on the device and in the dtype of `like`."""
    check_number("alpha", alpha, 0, 1)
    check_number("beta", beta, 0, 1)
    if is_base.dtype != torch.bool:
        # Places of classes, of which 0 is one, would read as "novel, base, base".
        raise ValueError(
            f"is_base is of {is_base.dtype}: give bools, such as texts.find(base_classes) >= 0"
        )
    return torch.where(is_base.to(like.device), alpha, beta).to(like.dtype)
