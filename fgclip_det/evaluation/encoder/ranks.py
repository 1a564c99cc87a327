"""Places of right answers among all, as the authors' argsort gives them, and what ties could do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """Of Q queries, all int64.

    Attributes:
        places: (Q,) place of the best right answer, 0 first; ties as the authors' argsort leaves
            them.
        greater: (Q,) answers of a higher score than the best right one.
        equal: (Q,) answers of its score.
        right: (Q,) right answers among these, at least one.
    """

    places: np.ndarray
    greater: np.ndarray
    equal: np.ndarray
    right: np.ndarray

    @property
    def ties(self) -> int:
        """Queries whose best right answer has the score of a wrong one."""
        return int((self.equal > self.right).sum())

    def recall(self, k: int) -> float:
        """Share of queries with a right answer among the first k."""
        return float((self.places < k).mean())

    def expected_recall(self, k: int) -> float:
        """`recall` on average over all orders of tied answers."""
        hits = []
        for greater, equal, right in zip(
            self.greater.tolist(), self.equal.tolist(), self.right.tolist(), strict=True
        ):
            room = min(max(k - greater, 0), equal)
            hits.append(1 - comb(equal - right, room) / comb(equal, room))
        return float(np.mean(hits))


def rank_pairs(
    pictures: Tensor,
    texts: Tensor,
    owners: Sequence[int],
    scores: Callable[[Tensor], Tensor] = lambda cosines: cosines,
) -> tuple[Ranks, Ranks]:
    """Ranks of texts for each picture, and of pictures for each text.

    Args:
        pictures: (P, D) float32, of unit length.
        texts: (T, D) float32, of unit length.
        owners: Picture of each text; each picture has one at least.
        scores: Made of cosines; what is ranked by.
    """
    table = scores(pictures @ texts.T)
    is_own = torch.tensor(owners)[None] == torch.arange(len(pictures))[:, None]
    return _ranks(table, is_own), _ranks(table.T.contiguous(), is_own.T)


def _ranks(table: Tensor, is_right: Tensor) -> Ranks:
    """Ranks of a (Q, A) table of scores, and which answers are right."""
    best = table.masked_fill(~is_right, -torch.inf).amax(dim=1, keepdim=True)
    is_equal = table == best
    # The k last of an ascending argsort are the authors' k best, ties and all.
    order = table.argsort(dim=1).flip(1)
    places = is_right.gather(1, order).int().argmax(dim=1)
    counts = (places, (table > best).sum(1), is_equal.sum(1), (is_equal & is_right).sum(1))
    return Ranks(*(count.numpy() for count in counts))
