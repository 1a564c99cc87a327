"""Gradients that a checkpoint holds between two updates."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from fgclip_det.engine.hooks import atomic_checkpoint_hook


def test_a_process_without_a_gradient_takes_part(monkeypatch: pytest.MonkeyPatch) -> None:
    # The weight has a gradient in the other process alone, a frozen bias in none.
    model = nn.Linear(2, 1)
    shapes = []

    def all_reduce(mine: Tensor, op: str = "sum") -> None:
        shapes.append(tuple(mine.shape))
        mine += torch.tensor([1, 0]) if len(shapes) == 1 else torch.ones_like(mine)
        if op == "mean":
            mine /= 2

    monkeypatch.setattr(atomic_checkpoint_hook, "all_reduce", all_reduce)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), accumulative_counts=2)
    wrapper._inner_count = 1
    runner = SimpleNamespace(model=model, optim_wrapper=wrapper)
    found = atomic_checkpoint_hook._accumulated_gradients(runner)
    assert {name: one.tolist() for name, one in found.items()} == {"weight": [[0.5, 0.5]]}
    assert shapes == [(2,), (1, 2)]
