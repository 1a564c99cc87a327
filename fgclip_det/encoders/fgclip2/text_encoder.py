"""The text tower of FG-CLIP 2: not causal, pooled at the last position, short and long tables."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from fgclip_det.encoders.fgclip2.config import FGCLIP2TextConfig
from fgclip_det.encoders.layers import Transformer

FGCLIP2TextLength = Literal["short", "box", "long"]


class TokenTables(nn.Module):
    """Token ids to embeddings, with one position table for short and one for long captions."""

    def __init__(self, config: FGCLIP2TextConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.keep_len = config.keep_len
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, width)
        # Published as two full tables of which each is used in part, as in FG-CLIP v1.
        self.position_embedding_ori = nn.Embedding(config.longtext_len, width)
        self.position_embedding_res = nn.Embedding(config.longtext_len, width)

    def positions(self, text_length: FGCLIP2TextLength) -> Tensor:
        """Position table: (64, E) for short captions and those of boxes, (196, E) for long ones."""
        if text_length != "long":
            return self.position_embedding.weight
        kept = self.position_embedding_ori.weight[: self.keep_len]
        return torch.cat([kept, self.position_embedding_res.weight[self.keep_len :]])

    def forward(self, input_ids: Tensor, text_length: FGCLIP2TextLength) -> Tensor:
        """(B, L) int64 -> (B, L, E)."""
        return self.token_embedding(input_ids) + self.positions(text_length)[: input_ids.shape[1]]


class FGCLIP2TextEncoder(nn.Module):
    """Text transformer of FG-CLIP 2. Attributes are named as in the published checkpoints."""

    def __init__(self, config: FGCLIP2TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = TokenTables(config)
        self.encoder = Transformer(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.head = nn.Linear(config.hidden_size, config.projection_size)

    def max_length(self, text_length: FGCLIP2TextLength) -> int:
        """Tokens of a caption: 64 (short, box) or 196 (long).

        Raises:
            ValueError: `text_length` is none of the three.
        """
        if text_length in ("short", "box"):
            return self.config.max_position_embeddings
        if text_length == "long":
            return self.config.longtext_len
        raise ValueError(f'text_length must be "short", "box" or "long", got {text_length!r}')

    def forward(
        self,
        input_ids: Tensor,
        text_length: FGCLIP2TextLength = "short",
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Hidden state at the last position of each caption, padding or not.

        Args:
            input_ids: (B, L) int64, L in 1 to `max_length(text_length)`. The tower was trained on
                rows padded to that length, which are not the same to it as shorter ones.
            text_length: Which position table to use.
            attention_mask: (B, L), nonzero for the tokens that may be attended to; all if None,
                as the tower was trained.

        Returns:
            (B, E), after the final norm, before any head.

        Raises:
            ValueError: Too many tokens or none, or a mask that does not fit or is empty.
        """
        longest = self.max_length(text_length)
        if input_ids.dim() != 2 or not 1 <= input_ids.shape[1] <= longest:
            raise ValueError(
                f"input_ids must be (B, 1 <= L <= {longest}) for text_length {text_length!r}, "
                f"got {tuple(input_ids.shape)}"
            )
        mask = None
        if attention_mask is not None:
            if attention_mask.shape != input_ids.shape:
                raise ValueError(
                    f"attention_mask is {tuple(attention_mask.shape)}, input_ids are "
                    f"{tuple(input_ids.shape)}: they must be equal"
                )
            if not bool(attention_mask.bool().any(dim=1).all()):
                raise ValueError("a row of attention_mask is all zero: leave one token at least")
            mask = attention_mask.bool()[:, None, None]
        hidden = self.embeddings(input_ids, text_length)
        for block in self.encoder.layers:
            hidden = block(hidden, mask=mask)
        return self.final_layer_norm(hidden[:, -1])
