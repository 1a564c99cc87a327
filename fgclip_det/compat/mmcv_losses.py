"""Sigmoid focal loss with the signatures of mmcv 2.1.0's compiled ops.

mmcv owns the autograd function and the reduction; these fill its output and gradient tensors.
`weight` is (C,), one factor per target class, or empty for none.
"""

from collections.abc import Callable

import torch
from torch import Tensor

TINY = torch.finfo(torch.float32).tiny


def _log(probability: Tensor) -> Tensor:
    return probability.clamp(min=TINY).log()


def _row_weight(target: Tensor, weight: Tensor) -> Tensor | float:
    """(N, 1) class weight of each row; rows without a foreground class count once."""
    if weight.numel() == 0:
        return 1.0
    foreground = (target >= 0) & (target < weight.numel())
    factors = weight.float()[target.clamp(0, weight.numel() - 1)]
    return torch.where(foreground, factors, torch.ones_like(factors))[:, None]


def _is_target(logits: Tensor, target: Tensor) -> Tensor:
    """(N, C) bool, true at each row's target; all false for background (target == C)."""
    return target[:, None] == torch.arange(logits.size(1), device=logits.device)


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the (N, C) sigmoid focal loss of `input` (N, C) logits and `target` (N,) int64."""
    p = input.detach().float().sigmoid()
    positive = -alpha * (1 - p) ** gamma * _log(p)
    negative = -(1 - alpha) * p**gamma * _log(1 - p)
    loss = torch.where(_is_target(p, target), positive, negative)
    output.copy_(loss * _row_weight(target, weight))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of each element of the sigmoid focal loss by its own logit."""
    p = input.detach().float().sigmoid()
    positive = -alpha * (1 - p) ** gamma * (1 - p - gamma * p * _log(p))
    negative = -(1 - alpha) * p**gamma * (gamma * (1 - p) * _log(1 - p) - p)
    gradient = torch.where(_is_target(p, target), positive, negative)
    grad_input.copy_(gradient * _row_weight(target, weight))


OPS: dict[str, Callable] = {
    "sigmoid_focal_loss_forward": sigmoid_focal_loss_forward,
    "sigmoid_focal_loss_backward": sigmoid_focal_loss_backward,
}
