"""Places of right answers among all, both ways from one product, and what ties could do.

The table of scores never exists whole. It is made in tiles, each of which is looked at from both
sides. What a tile is compared with must be known before: the scores of the right answers, which lie
in few tiles, as texts are in the order of their pictures. These tiles are made twice, and the same
way, so that their numbers are the same to the bit and a tie stays a tie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import torch
from torch import Tensor

# Scores of one side of a tile: 16 MiB in float32, and about five times that while they are counted.
TILE = 2048
# Place of what no answer is right for: behind every k.
NEVER = 2**62


@dataclass(frozen=True)
class Ranks:
    """Of Q queries, all int64.

    Attributes:
        places: (Q,) place of the best right answer, 0 first. The authors take the last k of an
            ascending argsort, so that of tied answers the later one comes first, as far as a
            sort is stable; theirs is not, and leaves some ties otherwise on some machines.
            `NEVER` where no answer is right.
        greater: (Q,) answers of a higher score than the best right one.
        equal: (Q,) answers of its score.
        right: (Q,) right answers among these.
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
        hits = (self.greater < k).astype(np.float64)
        # Elsewhere the first of those that tie is a hit whichever it is.
        open_ones = np.flatnonzero((self.greater < k) & (self.equal > self.right))
        for one in open_ones.tolist():
            equal, right = int(self.equal[one]), int(self.right[one])
            room = min(k - int(self.greater[one]), equal)
            hits[one] = 1 - comb(equal - right, room) / comb(equal, room)
        return float(hits.mean())


def rank_pairs(
    pictures: Tensor,
    texts: Tensor,
    owners: Sequence[int],
    scores: Callable[[Tensor], Tensor] = lambda cosines: cosines,
    tile: int = TILE,
) -> tuple[Ranks, Ranks]:
    """Ranks of texts for each picture, and of pictures for each text.

    Exact where cosines are further apart than the product's own rounding, about 1e-7. Beside the
    features, and a copy of those of the texts where they are not in the order of their pictures, it
    takes about six tiles, 100 MiB, however many there are.

    Args:
        pictures: (P, D) float32, of unit length.
        texts: (T, D) float32, of unit length, on the same device.
        owners: Picture of each text; a picture may have none.
        scores: Made of cosines, one by one; what is ranked by.
        tile: Pictures, and texts, of a tile.

    Raises:
        ValueError: There are none, a feature is not finite, or an owner is no picture.
    """
    own = torch.as_tensor(owners, dtype=torch.int64, device=texts.device)
    _check(pictures, texts, own)
    order = torch.arange(len(own), device=own.device)
    if bool((own.diff() < 0).any()):
        order = own.argsort(stable=True)
        texts, own = texts[order], own[order]
    table = _Tiles(pictures.float(), texts.float(), scores, tile)
    right = _right_scores(table, own)
    best, last, tied = _best_of_each(right, own, order, len(pictures))
    of_pictures, of_texts = _Places(best, last), _Places(right, own)
    numbers = torch.arange(len(pictures), device=own.device)
    for rows, columns in table:
        part = table.scores(rows, columns)
        of_pictures.count(rows, part, order[columns])
        of_texts.count(columns, part.T, numbers[rows])
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    every = torch.arange(len(pictures), device=order.device)
    return of_pictures.ranks(every, tied), of_texts.ranks(back, torch.ones_like(own))


class _Tiles:
    """Scores of pictures and texts, tile by tile; the same tile twice is equal to the bit."""

    def __init__(
        self, pictures: Tensor, texts: Tensor, scores: Callable[[Tensor], Tensor], side: int
    ) -> None:
        self._pictures, self._texts, self._scores, self._side = pictures, texts, scores, side

    def __iter__(self) -> Iterator[tuple[slice, slice]]:
        for row in range(0, len(self._pictures), self._side):
            for column in range(0, len(self._texts), self._side):
                yield slice(row, row + self._side), slice(column, column + self._side)

    def scores(self, rows: slice, columns: slice) -> Tensor:
        return self._scores(self._pictures[rows] @ self._texts[columns].T)


class _Places:
    """What stands before a right answer, and beside it, counted tile by tile.

    Args:
        best: (Q,) score of the best right answer.
        last: (Q,) number of the last answer that is right and has it.
    """

    def __init__(self, best: Tensor, last: Tensor) -> None:
        self._best, self._last = best, last
        self._greater, self._equal, self._later = (torch.zeros_like(last) for _ in range(3))

    def count(self, queries: slice, table: Tensor, answers: Tensor) -> None:
        """Look at the (q, a) scores of some queries and answers, whose numbers are given."""
        best = self._best[queries, None]
        # Into 32 bit: four times as fast on a CPU as into 64.
        greater = (table > best).sum(1, dtype=torch.int32)
        equal = (table >= best).sum(1, dtype=torch.int32) - greater
        self._greater[queries] += greater
        self._equal[queries] += equal
        # Most tiles hold nothing that is equal.
        rows = equal.nonzero()[:, 0]
        if len(rows):
            is_later = answers > self._last[queries][rows, None]
            later = ((table[rows] == best[rows]) & is_later).sum(1)
            self._later[queries] = self._later[queries].index_add(0, rows, later)

    def ranks(self, order: Tensor, right: Tensor) -> Ranks:
        """Of the queries in another order."""
        right, greater = right[order], self._greater[order]
        greater = greater.where(right > 0, torch.full_like(greater, NEVER))
        counts = (greater + self._later[order], greater, self._equal[order], right)
        return Ranks(*(count.cpu().numpy() for count in counts))


def _right_scores(table: _Tiles, owners: Tensor) -> Tensor:
    """(T,) score of each text with its own picture; texts in the order of their pictures."""
    found = torch.full((len(owners),), -torch.inf, device=owners.device)
    # Asked of the device once, not of each tile.
    known = owners.cpu()
    for rows, columns in table:
        # Rising owners: all that a tile's columns have lie between the first and the last.
        part = known[columns]
        if part[0] < rows.stop and part[-1] >= rows.start:
            inside = ((part >= rows.start) & (part < rows.stop)).nonzero()[:, 0]
            scores = table.scores(rows, columns)
            places = (part[inside] - rows.start).to(scores.device), inside.to(scores.device)
            found[columns.start + places[1]] = scores[places]
    return found


def _best_of_each(
    right: Tensor, owners: Tensor, order: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Of `count` pictures the best own score, the last text that has it, how many have it."""
    best = right.new_full((count,), -torch.inf).scatter_reduce(0, owners, right, "amax")
    has_best = right == best[owners]
    number = order.where(has_best, torch.full_like(order, -1))
    last = order.new_full((count,), -1).scatter_reduce(0, owners, number, "amax")
    return best, last, order.new_zeros(count).index_add(0, owners, has_best.long())


def _check(pictures: Tensor, texts: Tensor, owners: Tensor) -> None:
    if not len(pictures) or not len(texts):
        raise ValueError(f"{len(pictures)} pictures and {len(texts)} texts: give one of each")
    if len(owners) != len(texts):
        raise ValueError(f"{len(owners)} owners of {len(texts)} texts: give one each")
    if not 0 <= int(owners.min()) <= int(owners.max()) < len(pictures):
        raise ValueError(
            f"owners are {int(owners.min())} to {int(owners.max())}, but pictures are 0 to "
            f"{len(pictures) - 1}"
        )
    for what, features in (("picture", pictures), ("text", texts)):
        # A row's sum is finite where all of it is: half of what looking at each number takes.
        broken = (~features.sum(dim=1).isfinite()).nonzero()[:, 0]
        if len(broken):
            raise ValueError(
                f"the feature of {what} {int(broken[0])} is not finite: the encoder's weights "
                "are broken, or --amp is not for them"
            )
