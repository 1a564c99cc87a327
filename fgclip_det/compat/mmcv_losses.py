"""Focal losses with the signatures of mmcv 2.1.0's compiled ops.

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


def _target_probability(softmax: Tensor, target: Tensor) -> Tensor:
    return softmax.gather(1, target.clamp(min=0)[:, None])[:, 0]


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the (N,) softmax focal loss.

    Args:
        input: (N, C) probabilities; mmcv hands over the softmax, not the logits.
        target: (N,) int64; rows with a negative target count zero.
        weight: (C,) or empty.
        output: (N,), written.
        gamma: focusing exponent.
        alpha: factor of every row.
    """
    p = _target_probability(input.detach().float(), target)
    loss = -alpha * (1 - p) ** gamma * _log(p) * (target >= 0)
    output.copy_((loss[:, None] * _row_weight(target, weight))[:, 0])


def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Write the derivative of each row's softmax focal loss by its logits.

    Args:
        input: (N, C) probabilities.
        target: (N,) int64.
        weight: (C,) or empty.
        buff: (N,) scratch of the compiled op, written for parity.
        grad_input: (N, C), written.
        gamma: focusing exponent.
        alpha: factor of every row.
    """
    softmax = input.detach().float()
    p = _target_probability(softmax, target)
    # The clamp keeps 0 ** (gamma - 1) finite where gamma < 1 and the row is certain.
    rest = (1 - p).clamp(min=TINY)
    slope = alpha * (gamma * rest ** (gamma - 1) * p * _log(p) - (1 - p) ** gamma)
    slope = ((slope * (target >= 0))[:, None] * _row_weight(target, weight))[:, 0]
    buff.copy_(slope)
    grad_input.copy_(slope[:, None] * (_is_target(softmax, target).float() - softmax))


OPS: dict[str, Callable] = {
    "sigmoid_focal_loss_forward": sigmoid_focal_loss_forward,
    "sigmoid_focal_loss_backward": sigmoid_focal_loss_backward,
    "softmax_focal_loss_forward": softmax_focal_loss_forward,
    "softmax_focal_loss_backward": softmax_focal_loss_backward,
}
