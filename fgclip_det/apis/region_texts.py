"""Texts that regions are compared with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fgclip_det.encoders import FGCLIP, FGCLIP2
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary


def encode_texts(encoder: FGCLIP | FGCLIP2, texts: Any) -> TextEmbeddings:
    """Embeddings of texts; FG-CLIP 2 has a text head of its own for those of regions.

    Args:
        encoder: Either generation.
        texts: What `Vocabulary.parse` takes, or `TextEmbeddings` or their ``.safetensors`` file.

    Raises:
        ValueError: They name nothing, cannot be read, or are the embeddings of another encoder.
    """
    if isinstance(texts, str | os.PathLike) and Path(texts).suffix == ".safetensors":
        texts = TextEmbeddings.load(texts)
    if isinstance(texts, TextEmbeddings):
        texts.check_encoder(encoder)
        return texts
    vocabulary = Vocabulary.parse(texts)
    return TextEmbeddings.encode(vocabulary, encoder, text_length=encoder.region_text_length)
