"""Captions as token ids, made in the workers of a data loader."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from tokenizers import Tokenizer

from fgclip_det.encoders.tokenizer import read_fast_tokenizer, read_tokenizer
from fgclip_det.hub import resolve_directory

# Tokens of a caption, begin and end included, by generation: long ones, and all others.
_LENGTHS = {1: {"long": 248, "short": 77}, 2: {"long": 196, "short": 64}}


class CaptionTokens:
    """Token ids of captions, cut at the length of their path.

    It holds the compiled tokenizers alone, and asks them for one caption at a time: no threads that
    a forked worker would miss, and no Python objects whose counters would be copied.

    Args:
        name_or_path: Directory or hub id of an encoder, whose tokenizer is read.
        generation: 1 for FG-CLIP, 2 for FG-CLIP 2.

    Raises:
        ValueError: There is no such tokenizer.
    """

    def __init__(self, name_or_path: str, generation: int) -> None:
        directory = Path(resolve_directory(name_or_path))
        read = read_tokenizer if generation == 1 else read_fast_tokenizer
        # The model knows how many rows its table has, and refuses other ids.
        tokenizer = read(directory, sys.maxsize)
        if tokenizer is None:
            raise ValueError(
                f"there is no tokenizer in {str(directory)!r}: name the directory of an encoder, "
                "or leave tokenizer out, and the model makes tokens of texts"
            )
        self._tokenizers: dict[str, Tokenizer] = {}
        for name, length in _LENGTHS[generation].items():
            cutting = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
            cutting.no_padding()
            cutting.enable_truncation(length)
            self._tokenizers[name] = cutting

    def __call__(self, text: str, length: Literal["long", "short"]) -> list[int]:
        """Ids of a caption, begin and end included, without padding."""
        return self._tokenizers[length].encode(text).ids
