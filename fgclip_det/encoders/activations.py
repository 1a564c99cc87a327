"""Activations by the names that configs give them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import transformers
from torch import Tensor, nn


class QuickGELU(nn.Module):
    """CLIP's sigmoid approximation of GELU, element by element."""

    def forward(self, features: Tensor) -> Tensor:
        return features * torch.sigmoid(1.702 * features)


# Those of CLIP, SigLIP and the bundled model. transformers' own table has them too, but brings the
# compiler of torch, which costs as much to import as torch itself.
_OWN: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_pytorch_tanh": lambda: nn.GELU(approximate="tanh"),
    "quick_gelu": QuickGELU,
}


def is_activation(name: object) -> bool:
    """Whether `build_activation` takes it."""
    return isinstance(name, str) and (name in _OWN or name in transformers.activations.ACT2FN)


def build_activation(name: str) -> nn.Module:
    """The module of this name, without parameters for each of transformers' common ones.

    Raises:
        KeyError: There is none; see `is_activation`.
    """
    return _OWN[name]() if name in _OWN else transformers.activations.ACT2FN[name]
