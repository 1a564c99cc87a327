"""The text tower: causal, pooled at the first end token, with a short and a long length."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from fgclip_det.encoders.fgclip.config import KEPT_POSITIONS, TextConfig
from fgclip_det.encoders.layers import Transformer

TextLength = Literal["short", "long"]


class TokenEmbeddings(nn.Module):
    """Token ids to embeddings, with one position table for each caption length."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        width, long = config.hidden_size, config.long_max_position_embeddings
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, width)
        # Published as two full tables of which each is used in part: `ori` stays at the short
        # table's values for the positions kept, `res` is trained for the stretched ones.
        self.position_embedding_ori = nn.Embedding(long, width)
        self.position_embedding_res = nn.Embedding(long, width)

    def positions(self, text_length: TextLength) -> Tensor:
        """Position table: (77, E) for short captions, (248, E) for long ones."""
        if text_length == "short":
            return self.position_embedding.weight
        kept = self.position_embedding_ori.weight[:KEPT_POSITIONS]
        return torch.cat([kept, self.position_embedding_res.weight[KEPT_POSITIONS:]])

    def forward(self, input_ids: Tensor, text_length: TextLength) -> Tensor:
        """(B, L) int64 -> (B, L, E)."""
        return self.token_embedding(input_ids) + self.positions(text_length)[: input_ids.shape[1]]


class FGCLIPTextEncoder(nn.Module):
    """Text transformer of FG-CLIP. Attributes are named as in the published checkpoints."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = TokenEmbeddings(config)
        self.encoder = Transformer(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def max_length(self, text_length: TextLength) -> int:
        """Tokens of a caption, begin and end included: 77 (short) or 248 (long).

        Raises:
            ValueError: `text_length` is neither "short" nor "long".
        """
        if text_length == "short":
            return self.config.max_position_embeddings
        if text_length == "long":
            return self.config.long_max_position_embeddings
        raise ValueError(f'text_length must be "short" or "long", got {text_length!r}')

    def forward(self, input_ids: Tensor, text_length: TextLength = "short") -> Tensor:
        """Hidden state at the first end token of each caption.

        Args:
            input_ids: (B, L) int64, L at most `max_length(text_length)`, an end token in each row.
            text_length: Which position table to use.

        Returns:
            (B, E), after the final norm, before the projection.

        Raises:
            ValueError: Too many tokens, or a row without the end token.
        """
        longest = self.max_length(text_length)
        if input_ids.dim() != 2 or input_ids.shape[1] > longest:
            raise ValueError(
                f"input_ids must be (B, L <= {longest}) for text_length {text_length!r}, "
                f"got {tuple(input_ids.shape)}"
            )
        is_end = input_ids == self.config.eos_token_id
        if not bool(is_end.any(dim=1).all()):
            raise ValueError(
                f"each row of input_ids needs the end token {self.config.eos_token_id}: "
                "tokenize with this model's own tokenizer"
            )
        end = is_end.int().argmax(dim=1)
        # Attention is causal: what stands behind the last end token cannot reach the result.
        used = int(end.max()) + 1 if len(end) else input_ids.shape[1]
        hidden = self.embeddings(input_ids[:, :used], text_length)
        for block in self.encoder.layers:
            hidden = block(hidden, is_causal=True)
        rows = torch.arange(len(end), device=end.device)
        return self.final_layer_norm(hidden[rows, end])
