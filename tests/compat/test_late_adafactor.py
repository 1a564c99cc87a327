"""Adafactor, which is imported when an optimizer of that name is built."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("mmengine")

import fgclip_det.compat  # noqa: F401  (first: it registers the optimizer)

# isort: split
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import OPTIMIZERS


def test_adafactor_is_built_from_a_config() -> None:
    model = torch.nn.Linear(2, 2)
    config = dict(optimizer=dict(type="Adafactor", lr=1e-3, relative_step=False))
    optimizer = build_optim_wrapper(model, config).optimizer
    assert type(optimizer).__name__ == "Adafactor"
    assert optimizer.param_groups[0]["lr"] == 1e-3
    assert sys.modules["transformers"] is not None
    assert "AdamW" in OPTIMIZERS
