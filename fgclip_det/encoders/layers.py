"""The pre-norm transformer of CLIP, with parameter names as in the published checkpoints."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import ACT2FN

from fgclip_det.encoders.config import TextConfig, VisionConfig


class SelfAttention(nn.Module):
    """Multi-head self-attention. Tokens (B, L, E) -> (B, L, E)."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(hidden_size, hidden_size)
        self.k_proj = nn.Linear(hidden_size, hidden_size)
        self.v_proj = nn.Linear(hidden_size, hidden_size)
        self.out_proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, hidden: Tensor, is_causal: bool = False) -> Tensor:
        query, key, value = (
            projection(hidden).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=is_causal)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def forward_value_path(self, hidden: Tensor) -> Tensor:
        """Every token attends to itself alone: value then output projection."""
        return self.out_proj(self.v_proj(hidden))


class MLP(nn.Module):
    """Two-layer perceptron of a block. Tokens (..., E) -> (..., E)."""

    def __init__(self, hidden_size: int, intermediate_size: int, hidden_act: str) -> None:
        super().__init__()
        self.activation = ACT2FN[hidden_act]
        self.fc1 = nn.Linear(hidden_size, intermediate_size)
        self.fc2 = nn.Linear(intermediate_size, hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(hidden)))


class TransformerBlock(nn.Module):
    """One pre-norm block. Tokens (B, L, E) -> (B, L, E)."""

    def __init__(self, config: VisionConfig | TextConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = SelfAttention(config.hidden_size, config.num_attention_heads)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(config.hidden_size, config.intermediate_size, config.hidden_act)

    def forward(self, hidden: Tensor, is_causal: bool = False) -> Tensor:
        hidden = hidden + self.self_attn(self.layer_norm1(hidden), is_causal=is_causal)
        return hidden + self.mlp(self.layer_norm2(hidden))

    def forward_value_path(self, hidden: Tensor) -> Tensor:
        """The block with its attention replaced by the value path; residual and MLP are kept.

        Source: MaskCLIP (arXiv 2112.01071, section 3.2); FG-CLIP pools regions from it.
        """
        hidden = hidden + self.self_attn.forward_value_path(self.layer_norm1(hidden))
        return hidden + self.mlp(self.layer_norm2(hidden))


class Transformer(nn.Module):
    """A stack of blocks, named ``layers`` as in the published checkpoints."""

    def __init__(self, config: VisionConfig | TextConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerBlock(config) for _ in range(config.num_hidden_layers)
        )
