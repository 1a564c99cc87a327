"""Embeddings of single names, kept for the next time that they are needed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fgclip_det.vocabulary.text_embeddings import TextEmbeddings, TextEncoder
from fgclip_det.vocabulary.vocabulary import Vocabulary


class KeptTexts:
    """Encodes names once, and to the last digit as they are encoded whatever is beside them.

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
        """Names that are their own prompts: (n, D) float32, unit length, on the encoder's device.

        Args:
            texts: n of them.
            templates: Sentences that they are put into.
            text_length: "short" or "long".
        """
        return self._rows([(text,) for text in texts], templates, text_length)

    def embeddings(self, vocabulary: Vocabulary, text_length: str) -> TextEmbeddings:
        """What `TextEmbeddings.encode` makes of a vocabulary in which nothing is shown."""
        rows = self._rows(vocabulary.prompts, vocabulary.templates, text_length)
        return TextEmbeddings(vocabulary, rows, self._encoder.fingerprint, text_length)

    def _rows(
        self, prompts: Sequence[tuple[str, ...]], templates: tuple[str, ...], text_length: str
    ) -> Tensor:
        if not prompts:
            return torch.zeros(0, self._encoder.projection_dim)
        device = getattr(self._encoder, "device", None)
        settings = self._encoder.fingerprint, templates, text_length, device
        # Taken at once: another thread may make room meanwhile.
        known = {own: self._kept.get((settings, own)) for own in prompts}
        missing = [own for own, row in known.items() if row is None]
        if not missing:
            return torch.stack([known[own] for own in prompts])
        # What they are called does not matter to embeddings.
        labels = tuple(map(str, range(len(missing))))
        vocabulary = Vocabulary(labels, tuple(missing), templates)
        made = TextEmbeddings.encode(vocabulary, self._encoder, text_length, steady=True).embeddings
        rows = made
        if len(missing) < len(prompts):
            known.update(zip(missing, made, strict=True))
            rows = torch.stack([known[own] for own in prompts])
        self._keep([(settings, own) for own in missing[: self._most]], made)
        return rows

    def _keep(self, keys: Sequence[tuple], made: Tensor) -> None:
        # Copies: a view of one row would keep all rows alive.
        self._kept.update((key, row.clone()) for key, row in zip(keys, made, strict=False))
        for key in [*self._kept][: max(len(self._kept) - self._most, 0)]:
            self._kept.pop(key, None)
