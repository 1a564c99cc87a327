"""Logits of regions against names, and against what nobody asked for: float64, made when needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip_det.models.regions.rivals import Rivals

# Nobody is surer than this.
_SURE = 1e-6
# Cells of masks that are float64 at a time.
_AT_ONCE = 1 << 22
# Up to this many, logits against the bank are kept for the next question.
_MOST_KEPT = 1 << 21
_TINY = torch.finfo(torch.float64).tiny


@dataclass(eq=False)
class BankLogits:
    """Logits (K, M) float64 of regions against the bank, and what follows from them alone.

    Attributes:
        logits: See above.
        best: Largest sums of several such, see `best_of_bank`.
        whole: Those of more regions, where these are some of them.
        rows: (K,) int64, which of those these are.
    """

    logits: Tensor
    best: dict[tuple, Tensor] = field(default_factory=dict, repr=False)
    whole: BankLogits | None = None
    rows: Tensor | None = None

    @cached_property
    def peak(self) -> Tensor:
        """(K, 1), the largest of each region."""
        return self.logits.amax(dim=1, keepdim=True)

    @cached_property
    def odds(self) -> Tensor:
        """(K, M), exponentials of the logits, 1 for the largest of each region."""
        return (self.logits - self.peak).exp()

    def sums(self, sets: Tensor, set_of: Tensor) -> Tensor:
        """Logarithms (K, C) of sums of exponentials; -inf of an empty set.

        Args:
            sets: (G, M) bool, what is summed.
            set_of: (C,) int64, the set of each of C names.
        """
        rows = max(1, _AT_ONCE // self.logits.shape[1])
        found = torch.cat([self.odds @ some.double().T for some in sets.split(rows)], dim=1)
        found = torch.maximum(found, sets.any(dim=1).double() * _TINY)
        return (found.log() + self.peak).index_select(1, set_of)

    def at(self, rows: Tensor) -> BankLogits:
        """Those of some of the regions, by their rows."""
        return BankLogits(self.logits.index_select(0, rows), whole=self, rows=rows)


@dataclass(eq=False)
class Stream:
    """Logits of one source of scores, float64.

    Attributes:
        logits: (K, C) of the names as they are asked for.
        judged: (K, C) of the names in the wording that they are judged in, and of what is of their
            kind: that of a name which says less than its kinds do is the logarithm of a sum.
        bank: Of the M names of the bank.
        exchanged: (K, E) of the exchanged phrases, one for each pair of `Rivals.exchanges`.
        background: (K,), or None where the source has none.
        weight: (C,) float64, what the source counts for each name in the fusion of all.
        alone: (K, C) of the names in the wording that they are judged in, without their kinds.
    """

    logits: Tensor
    judged: Tensor
    bank: BankLogits
    exchanged: Tensor
    background: Tensor | None
    weight: Tensor
    alone: Tensor

    @cached_property
    def exchanged_peak(self) -> Tensor:
        """(K, 1), the largest of `exchanged` of each region; there must be some."""
        return self.exchanged.amax(dim=1, keepdim=True)

    @cached_property
    def exchanged_odds(self) -> Tensor:
        """(K, E), exponentials of `exchanged`, 1 for the largest of each region, none quite 0."""
        return (self.exchanged - self.exchanged_peak).exp_().clamp_(min=_TINY)


class Source(NamedTuple):
    """Where a stream comes from.

    Attributes:
        embeddings: (K, D) of regions, of any length each.
        temperature: What cosines are multiplied by.
        weight: (C,), see `Stream`.
        background: (D,), of any length; None for none.
    """

    embeddings: Tensor
    temperature: Tensor | float
    weight: Tensor
    background: Tensor | None = None


class Streams(Mapping[str, Stream]):
    """Streams by name, each made when it is first asked for.

    Args:
        names: Of the streams.
        make: Makes the one of a name, of some rows of the regions or, with None, of all.
        rows: (k,) int64, of which regions; None for all.
    """

    def __init__(
        self,
        names: Sequence[str],
        make: Callable[[str, Tensor | None], Stream],
        rows: Tensor | None = None,
    ) -> None:
        self._names, self._make, self._rows = names, make, rows
        self._made: dict[str, Stream] = {}

    def __getitem__(self, name: str) -> Stream:
        if name not in self._made:
            if name not in self._names:
                raise KeyError(name)
            self._made[name] = self._make(name, self._rows)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def at(self, rows: Tensor) -> Streams:
        """Those of some of all regions, by their rows (k,) int64."""
        return Streams(self._names, self._make, rows)


class StreamMaker:
    """Makes streams, and keeps what the last regions have to do with the last bank.

    Between two questions about a picture the bank stays as it is, and is most of the work.
    """

    def __init__(self) -> None:
        self._bank: Tensor | None = None
        self._kept: dict[str, tuple] = {}

    def __call__(self, sources: Mapping[str, Source], rivals: Rivals) -> Streams:
        """Logits, of each source.

        Args:
            sources: By name.
            rivals: Of the names that are asked for.
        """
        # What is kept is looked up once, for however many rows of the regions.
        against = cache(lambda name: self._against_bank(name, sources[name], rivals.bank))
        return Streams([*sources], partial(self._stream, sources, against, rivals))

    @torch.no_grad()
    def _stream(
        self,
        sources: Mapping[str, Source],
        against: Callable[[str], tuple[Tensor, BankLogits, Tensor | None]],
        rivals: Rivals,
        name: str,
        rows: Tensor | None,
    ) -> Stream:
        source = sources[name]
        directions, bank, background = against(name)
        if rows is not None:
            directions, bank = directions.index_select(0, rows), bank.at(rows)
            background = None if background is None else background.index_select(0, rows)
        asked, exchanged, *names = (directions @ rivals.texts.T).split(rivals.sizes, dim=1)
        alone = torch.cat([*names, asked[:, names[0].shape[1] :]], dim=1) if names else asked
        judged = alone
        if rivals.kinds is not None:
            judged = torch.logaddexp(alone, bank.sums(rivals.kinds, rivals.kinds_of))
        if not rivals.is_in_order:
            exchanged = exchanged.index_select(1, rivals.exchanges[:, 1])
        return Stream(asked, judged, bank, exchanged, background, source.weight.to(asked), alone)

    def _against_bank(
        self, name: str, source: Source, bank: Tensor
    ) -> tuple[Tensor, BankLogits, Tensor | None]:
        """Directions (K, D) times the temperature; logits of bank and background."""
        if self._bank is None or not _same(self._bank, bank):
            # A copy: whose tensor this is may write into it.
            self._bank, self._kept = bank.clone(), {}
        temperature = float(source.temperature)
        given = source.embeddings, source.background
        if name in self._kept:
            *before, warmth, found = self._kept[name]
            if temperature == warmth and all(map(_same, before, given)):
                return found
        directions = unit(source.embeddings) * temperature
        against = BankLogits(directions @ unit(self._bank).T)
        background = None
        if source.background is not None:
            background = directions @ unit(source.background[None])[0]
        found = directions, against, background
        if against.logits.numel() <= _MOST_KEPT:
            copies = (None if one is None else one.detach().clone() for one in given)
            self._kept[name] = *copies, temperature, found
        return found


def log_ratio(probabilities: Tensor) -> Tensor:
    """Logits, float64, of probabilities that may be 0 or 1, which count as nearly so."""
    return probabilities.double().clamp(_SURE, 1 - _SURE).logit()


def unit(embeddings: Tensor) -> Tensor:
    """(K, D) of any length each -> float64 of unit length."""
    return F.normalize(embeddings.detach().double(), dim=-1)


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    alike = one.shape == other.shape and one.dtype == other.dtype and one.device == other.device
    return alike and torch.equal(one, other)
