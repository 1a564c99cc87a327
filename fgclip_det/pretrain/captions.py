"""Captions of a batch: strings or token ids, each kept once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from fgclip_det.io import quoted

Caption = str | Tensor | Sequence[int]


class DistinctCaptions:
    """Captions numbered in the order in which they first come, equal ones alike.

    Captions of regions recur, within a batch and as each other's negatives: so each is encoded
    once.
    """

    def __init__(self) -> None:
        self._rows: dict[str | tuple[int, ...], int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def rows_of(self, captions: Iterable[Caption]) -> list[int]:
        """Numbers of `captions`, which are strings, or ids as 1-D int64 tensors or lists of ints.

        Raises:
            ValueError: A caption is neither, or has no token.
        """
        return [self._rows.setdefault(_key(caption), len(self._rows)) for caption in captions]

    def token_ids(self, tokenize: Callable[[list[str]], Tensor]) -> list[Sequence[int]]:
        """Token ids of each distinct caption, by its number.

        Args:
            tokenize: Makes (B, L) ids of B strings; padding behind a caption stays.
        """
        strings = [key for key in self._rows if isinstance(key, str)]
        tokenized = iter(tokenize(strings).tolist() if strings else ())
        return [next(tokenized) if isinstance(key, str) else key for key in self._rows]


def pad_token_ids(rows: Sequence[Sequence[int]], width: int, pad: int) -> Tensor:
    """Token ids of captions as (B, width) int64, with `pad` behind the shorter ones."""
    padded = [[*row, *[pad] * (width - len(row))] for row in rows]
    return torch.tensor(padded, dtype=torch.long).reshape(len(rows), width)


def _key(caption: Caption) -> str | tuple[int, ...]:
    if isinstance(caption, str):
        return caption
    if isinstance(caption, Tensor) and caption.dim() == 1:
        caption = caption.tolist()
    key = tuple(caption) if isinstance(caption, Sequence) else ()
    if not key or not all(isinstance(token, int) for token in key):
        raise ValueError(
            f"a caption is {quoted(caption)}: give a string, or its token ids as a 1-D int64 "
            "tensor or a list of whole numbers"
        )
    return key
