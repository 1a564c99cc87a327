"""The pre-norm transformer of CLIP and SigLIP, with parameter names as in the checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fgclip_det.encoders.activations import build_activation


class TowerConfig(Protocol):
    """Sizes that a tower's transformer is built from; each config of a tower has them."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def num_hidden_layers(self) -> int: ...
    @property
    def num_attention_heads(self) -> int: ...
    @property
    def hidden_act(self) -> str: ...
    @property
    def layer_norm_eps(self) -> float: ...


class SelfAttention(nn.Module):
    """Multi-head self-attention. Tokens (B, L, E) -> (B, L, E).

    A mask is (B, 1, 1, L) bool, True for the tokens that may be attended to.
    """

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(hidden_size, hidden_size)
        self.k_proj = nn.Linear(hidden_size, hidden_size)
        self.v_proj = nn.Linear(hidden_size, hidden_size)
        self.out_proj = nn.Linear(hidden_size, hidden_size)

    def forward(
        self, hidden: Tensor, is_causal: bool = False, mask: Tensor | None = None
    ) -> Tensor:
        query, key, value = (
            projection(hidden).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=is_causal
        )
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def forward_value_path(self, hidden: Tensor) -> Tensor:
        """Every token attends to itself alone: value then output projection."""
        return self.out_proj(self.v_proj(hidden))


class MLP(nn.Module):
    """Two-layer perceptron of a block. Tokens (..., E) -> (..., E)."""

    def __init__(self, hidden_size: int, intermediate_size: int, hidden_act: str) -> None:
        super().__init__()
        self.activation = build_activation(hidden_act)
        self.fc1 = nn.Linear(hidden_size, intermediate_size)
        self.fc2 = nn.Linear(intermediate_size, hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(hidden)))


class TransformerBlock(nn.Module):
    """One pre-norm block. Tokens (B, L, E) -> (B, L, E); a mask is that of `SelfAttention`.

    Attributes:
        recomputes: Whether only the block's input is kept for the backward pass, which computes
            the rest again (arXiv 1604.06174); values and gradients are the same.
    """

    recomputes: bool = False

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = SelfAttention(config.hidden_size, config.num_attention_heads)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(config.hidden_size, config.intermediate_size, config.hidden_act)

    def forward(
        self, hidden: Tensor, is_causal: bool = False, mask: Tensor | None = None
    ) -> Tensor:
        return self._maybe_recomputed(self._attend, hidden, is_causal, mask)

    def forward_value_path(self, hidden: Tensor) -> Tensor:
        """The block with its attention replaced by the value path; residual and MLP are kept.

        Source: MaskCLIP (arXiv 2112.01071, section 3.2); FG-CLIP pools regions from it.
        """
        return self._maybe_recomputed(self._pass_values, hidden)

    def _attend(self, hidden: Tensor, is_causal: bool, mask: Tensor | None) -> Tensor:
        hidden = hidden + self.self_attn(self.layer_norm1(hidden), is_causal=is_causal, mask=mask)
        return hidden + self.mlp(self.layer_norm2(hidden))

    def _pass_values(self, hidden: Tensor) -> Tensor:
        hidden = hidden + self.self_attn.forward_value_path(self.layer_norm1(hidden))
        return hidden + self.mlp(self.layer_norm2(hidden))

    def _maybe_recomputed(self, function: Callable[..., Tensor], *arguments: Any) -> Tensor:
        if self.recomputes and torch.is_grad_enabled():
            return checkpoint(function, *arguments, use_reentrant=False)
        return function(*arguments)


class Transformer(nn.Module):
    """A stack of blocks, named ``layers`` as in the published checkpoints."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerBlock(config) for _ in range(config.num_hidden_layers)
        )
