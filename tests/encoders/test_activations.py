"""Activations are those of transformers, name by name."""

from __future__ import annotations

import pytest
import torch
from transformers.activations import ACT2FN

from fgclip_det.encoders.activations import build_activation, is_activation


@pytest.mark.parametrize("name", ["gelu", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu"])
def test_each_gives_what_that_of_transformers_gives(name: str) -> None:
    values = torch.linspace(-9, 9, 181)
    module = build_activation(name)
    assert torch.equal(module(values), ACT2FN[name](values))
    assert is_activation(name) and not list(module.parameters())
    # Two blocks have two of them, as `nn.Module` asks for.
    assert build_activation(name) is not module


@pytest.mark.parametrize("name", ["swoosh", "", None, 3, ["gelu"]])
def test_what_is_none_is_none(name: object) -> None:
    assert not is_activation(name)
