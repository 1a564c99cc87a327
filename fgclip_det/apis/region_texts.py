"""Texts that regions are compared with."""

from __future__ import annotations

from typing import Any

from fgclip_det.encoders import FGCLIP, FGCLIP2
from fgclip_det.models.detectors.open_vocabulary import check_directions, read_texts
from fgclip_det.vocabulary import TextEmbeddings


def encode_texts(encoder: FGCLIP | FGCLIP2, texts: Any) -> TextEmbeddings:
    """Embeddings of texts; FG-CLIP 2 has a text head of its own for those of regions.

    Args:
        encoder: Either generation.
        texts: See `read_texts`.

    Raises:
        ValueError: They name nothing, cannot be read, or are the embeddings of another encoder or
            have no direction.
    """
    given = read_texts(texts)
    if isinstance(given, TextEmbeddings):
        given.check_encoder(encoder)
    else:
        given = TextEmbeddings.encode(given, encoder, text_length=encoder.region_text_length)
    check_directions(given)
    return given
