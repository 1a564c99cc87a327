"""mmcv's sigmoid focal loss on the stand-in, against torchvision."""

import pytest
import torch
import torchvision
from torch import Tensor

from fgclip_det import compat  # noqa: F401

mmcv_ops = pytest.importorskip("mmcv.ops")
CLASSES = 5


def inputs(rows: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(rows, CLASSES, generator=generator) * 3
    target = torch.randint(0, CLASSES + 1, (rows,), generator=generator)
    return logits, target


def test_sigmoid_focal_loss_equals_torchvision() -> None:
    logits, target = inputs()
    one_hot = torch.nn.functional.one_hot(target, CLASSES + 1)[:, :CLASSES].float()
    for reduction in ("none", "sum", "mean"):
        ours = logits.clone().requires_grad_()
        theirs = logits.clone().requires_grad_()
        loss = mmcv_ops.sigmoid_focal_loss(ours, target, 2.0, 0.25, None, reduction)
        expected = torchvision.ops.sigmoid_focal_loss(theirs, one_hot, alpha=0.25, gamma=2.0)
        if reduction != "none":
            expected = expected.sum() / (len(logits) if reduction == "mean" else 1)
        torch.testing.assert_close(loss, expected)
        loss.sum().backward()
        expected.sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-5)


def test_sigmoid_focal_loss_weights_rows_by_target_class() -> None:
    logits, target = inputs()
    target = target.clamp(max=CLASSES - 1)
    weight = torch.linspace(0.5, 2.0, CLASSES)
    plain = mmcv_ops.sigmoid_focal_loss(logits, target, 1.5, 0.4, None, "none")
    weighted = mmcv_ops.sigmoid_focal_loss(logits, target, 1.5, 0.4, weight, "none")
    torch.testing.assert_close(weighted, plain * weight[target][:, None])


def test_sigmoid_focal_loss_is_finite_at_extreme_logits() -> None:
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = mmcv_ops.sigmoid_focal_loss(logits, torch.tensor([1]), 2.0, 0.25, None, "sum")
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()
