"""Embeddings of single texts, kept for the next time that they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor

from fgclip_det.vocabulary.text_embeddings import TextEmbeddings, TextEncoder
from fgclip_det.vocabulary.vocabulary import Vocabulary


class KeptTexts:
    """Encodes texts once, each as a name that is its own prompt, and whatever else is encoded.

    Args:
        encoder: What encodes them.
        most: How many embeddings are kept, of D float32 each; the oldest go first.
    """

    def __init__(self, encoder: TextEncoder, most: int = 20_000) -> None:
        self._encoder = encoder
        self._most = most
        self._kept: dict[tuple, Tensor] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def encode(self, texts: Sequence[str], templates: tuple[str, ...], text_length: str) -> Tensor:
        """Embeddings of distinct texts: (n, D) float32, unit length, on the encoder's device."""
        if not texts:
            return torch.zeros(0, self._encoder.projection_dim)
        settings = self._encoder.fingerprint, templates, text_length
        missing = [text for text in texts if (settings, text) not in self._kept]
        if not missing:
            return torch.stack([self._kept[settings, text] for text in texts])
        vocabulary = Vocabulary(tuple(missing), tuple((text,) for text in missing), templates)
        made = TextEmbeddings.encode(vocabulary, self._encoder, text_length, steady=True).embeddings
        rows = made
        if len(missing) < len(texts):
            fresh = dict(zip(missing, made, strict=True))
            rows = torch.stack(
                [fresh[text] if text in fresh else self._kept[settings, text] for text in texts]
            )
        self._keep([(settings, text) for text in missing[: self._most]], made)
        return rows

    def _keep(self, keys: Sequence[tuple], made: Tensor) -> None:
        # Copies: a view of one row would keep all rows alive.
        self._kept.update((key, row.clone()) for key, row in zip(keys, made, strict=False))
        for key in [*islice(self._kept, max(len(self._kept) - self._most, 0))]:
            del self._kept[key]
