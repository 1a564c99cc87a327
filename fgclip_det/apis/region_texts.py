"""Texts that regions are compared with."""

from __future__ import annotations

from functools import partial
from typing import Any

from fgclip_det.apis.shown.looking import Looking
from fgclip_det.encoders import FGCLIP, FGCLIP2, RegionEncoder
from fgclip_det.models.detectors.open_vocabulary import check_directions, read_texts
from fgclip_det.vocabulary import TextEmbeddings


def encode_texts(
    encoder: FGCLIP | FGCLIP2,
    texts: Any,
    reader: RegionEncoder | None = None,
    words: Any = None,
) -> TextEmbeddings:
    """Embeddings of texts; FG-CLIP 2 has a text head of its own for those of regions.

    Args:
        encoder: Either generation.
        texts: See `read_texts`.
        reader: Looks at what is shown; None for the encoder's own size.
        words: Names through which that is seen, see `Looking.of_encoder`.

    Raises:
        ValueError: They name nothing, cannot be read or seen, or are the embeddings of another
            encoder or have no direction.
    """
    given = read_texts(texts)
    if isinstance(given, TextEmbeddings):
        given.check_encoder(encoder)
    else:
        length = encoder.region_text_length
        said = partial(TextEmbeddings.encode, encoder=encoder, text_length=length, steady=True)
        looking = Looking.of_encoder(reader or RegionEncoder(encoder), said, words)
        given = looking.encode(given)
    check_directions(given)
    return given
