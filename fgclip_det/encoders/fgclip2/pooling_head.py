"""SigLIP's attention pooling: of an image at a learned probe, or at each of its own tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgclip_det.encoders.layers import MLP, TowerConfig


class ProbeAttention(nn.Module):
    """Multi-head attention with the parameter names of ``torch.nn.MultiheadAttention``."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * hidden_size))
        self.out_proj = nn.Linear(hidden_size, hidden_size)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, probe: Tensor, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Probes (B, Q, E) at tokens (B, L, E), mask (B, 1, 1, L) bool or None -> (B, Q, E)."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        query, key, value = (
            F.linear(tokens, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for tokens, weight, bias in zip((probe, hidden, hidden), weights, biases, strict=True)
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class PoolingHead(nn.Module):
    """Attention, then a perceptron with a residual; named as in the published checkpoints.

    A mask is (B, 1, 1, L) bool, True for the tokens that may be attended to, or None.
    """

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.probe = nn.Parameter(torch.empty(1, 1, width))
        nn.init.normal_(self.probe, std=width**-0.5)
        self.attention = ProbeAttention(width, config.num_attention_heads)
        self.layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = MLP(width, config.intermediate_size, config.hidden_act)

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Feature of an image at the learned probe: tokens (B, L, E) -> (B, E)."""
        probe = self.probe.expand(len(hidden), -1, -1)
        return self._pool(probe, hidden, mask)[:, 0]

    def forward_dense(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features of an image at each of its tokens in place of the probe: -> (B, L, E)."""
        return self._pool(hidden, hidden, mask)

    def _pool(self, probe: Tensor, hidden: Tensor, mask: Tensor | None) -> Tensor:
        pooled = self.attention(probe, hidden, mask)
        return pooled + self.mlp(self.layernorm(pooled))
