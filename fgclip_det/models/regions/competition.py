"""Regions compared with what nobody asked for: shares, evidence, and who is beaten.

A name competes with texts of its own: the bank without what says the same, and its own phrase with
one attribute exchanged (see `Competitors`). All numbers are float64: a matrix product of float32 is
rounded by where a name stands among others, and a temperature of 100 would show that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from math import log
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip_det.models.regions.rivals import Rivals

# Logits that are nearer than this are ties: texts that say the same differ by their rounding.
_TIE = 1e-4
# With a calibration, what fits better counts in the confidence already. To beat a name then, it has
# to be five times as likely: a slight lead is chance among look-alikes, and hides what is there.
_CLEARLY = log(5)
# Nobody is surer than this.
_SURE = 1e-6
# Cells of masks that are float64 at a time.
_AT_ONCE = 1 << 22
# Up to this many, logits against the bank are kept for the next question.
_MOST_KEPT = 1 << 21
# The best of a bank are found so many at a time.
_BEST = 8
_TINY = torch.finfo(torch.float64).tiny


@dataclass(eq=False)
class BankLogits:
    """Logits (K, M) float64 of regions against the bank, and what follows from them alone."""

    logits: Tensor
    best: dict[tuple, Tensor] = field(default_factory=dict, repr=False)

    @cached_property
    def peak(self) -> Tensor:
        """(K, 1), the largest of each region."""
        return self.logits.amax(dim=1, keepdim=True)

    @cached_property
    def odds(self) -> Tensor:
        """(K, M), exponentials of the logits, 1 for the largest of each region."""
        return (self.logits - self.peak).exp()


@dataclass(eq=False)
class Stream:
    """Logits of one source of scores, float64.

    Attributes:
        logits: (K, C) of the names as they are asked for.
        judged: (K, C) of the names in the wording that they are judged in.
        bank: Of the M names of the bank.
        exchanged: (K, E) of the exchanged phrases, one for each pair of `Rivals.exchanges`.
        background: (K,), or None where the source has none.
        weight: (C,) float64, what the source counts for each name in the fusion of all.
    """

    logits: Tensor
    judged: Tensor
    bank: BankLogits
    exchanged: Tensor
    background: Tensor | None
    weight: Tensor

    @cached_property
    def exchanged_peak(self) -> Tensor:
        """(K, 1), the largest of `exchanged` of each region; there must be some."""
        return self.exchanged.amax(dim=1, keepdim=True)

    @cached_property
    def exchanged_odds(self) -> Tensor:
        """(K, E), exponentials of `exchanged`, 1 for the largest of each region, none quite 0."""
        return (self.exchanged - self.exchanged_peak).exp_().clamp_(min=_TINY)


@dataclass(eq=False)
class Evidence:
    """What speaks for each name in each region, whatever else was asked for.

    Attributes:
        features: By name, (K, C) float64 each: the log-odds of a name against its competitors and
            the background, for each stream; the logit of the objectness; and "place" where there
            is a bank of regions. Infinite where nothing competes.
        beaten: (K, C) bool, whether a competitor of the name fits the region better.
    """

    features: dict[str, Tensor]
    beaten: Tensor


@dataclass(eq=False)
class Judged:
    """Regions judged where names have competitors.

    Attributes:
        scores: (K, C) float32, shares of what competes.
        evidence: Of the same.
    """

    scores: Tensor
    evidence: Evidence


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


class StreamMaker:
    """Makes streams, and keeps what the last regions have to do with the last bank.

    Between two questions about a picture the bank stays as it is, and is most of the work.
    """

    def __init__(self) -> None:
        self._bank: Tensor | None = None
        self._kept: dict[str, tuple[Tensor, float, Tensor, BankLogits]] = {}

    @torch.no_grad()
    def __call__(
        self, sources: Mapping[str, Source], text_embeddings: Tensor, rivals: Rivals
    ) -> dict[str, Stream]:
        """Logits, of each source.

        Args:
            sources: By name.
            text_embeddings: (C, D), of any length each.
            rivals: Of those texts.
        """
        if self._bank is None or not _same(self._bank, rivals.bank):
            # A copy: whose tensor this is may write into it.
            self._bank, self._kept = rivals.bank.clone(), {}
        parts = [unit(text_embeddings), rivals.exchanged]
        if rivals.names is not None:
            parts.append(rivals.names)
        sizes, texts = [len(part) for part in parts], torch.cat(parts).T
        streams = {}
        for name, source in sources.items():
            directions, bank = self._against_bank(name, source)
            background = None
            if source.background is not None:
                background = directions @ unit(source.background[None])[0]
            asked, exchanged, *names = (directions @ texts).split(sizes, dim=1)
            judged = torch.cat([*names, asked[:, names[0].shape[1] :]], dim=1) if names else asked
            if not rivals.is_in_order:
                exchanged = exchanged.index_select(1, rivals.exchanges[:, 1])
            streams[name] = Stream(
                asked, judged, bank, exchanged, background, source.weight.to(asked)
            )
        return streams

    def _against_bank(self, name: str, source: Source) -> tuple[Tensor, BankLogits]:
        temperature = float(source.temperature)
        if name in self._kept:
            embeddings, before, *found = self._kept[name]
            if temperature == before and _same(embeddings, source.embeddings):
                return tuple(found)
        directions = unit(source.embeddings) * temperature
        bank = BankLogits(directions @ unit(self._bank).T)
        if bank.logits.numel() <= _MOST_KEPT:
            kept = source.embeddings.detach().clone()
            self._kept[name] = (kept, temperature, directions, bank)
        return directions, bank


def log_ratio(probabilities: Tensor) -> Tensor:
    """Logits, float64, of probabilities that may be 0 or 1, which count as nearly so."""
    return probabilities.double().clamp(_SURE, 1 - _SURE).logit()


def unit(embeddings: Tensor) -> Tensor:
    """(K, D) of any length each -> float64 of unit length."""
    return F.normalize(embeddings.detach().double(), dim=-1)


def log_odds(stream: Stream, rivals: Rivals) -> Tensor:
    """Log-odds (K, C) of each name against its competitors and the background alone."""
    return _log_odds(stream, _competition(stream, rivals))


def log_odds_and_shares(stream: Stream, rivals: Rivals) -> tuple[Tensor, Tensor]:
    """`log_odds`, and the log-softmax (K, C) among all that competes with each name.

    That is all names asked for, the background, and the name's competitors; those that are asked
    for themselves are counted once.
    """
    competition = _competition(stream, rivals)
    odds = _log_odds(stream, competition)
    if rivals.unasked is not rivals:
        competition = _competition(stream, rivals.unasked)
    everyone = stream.logits
    if stream.background is not None:
        everyone = torch.cat([everyone, stream.background[:, None]], dim=1)
    asked = everyone.logsumexp(dim=1, keepdim=True)
    return odds, stream.logits - torch.logaddexp(asked, competition)


def beaten(streams: Mapping[str, Stream], rivals: Rivals) -> Tensor:
    """(K, C) bool, whether some competitor has a larger sum of weighted logits than the name.

    So has a negative of one's own; those themselves are never detected. Ties beat nobody, and where
    there is a calibration only a clear lead does. A name is better than `n` of the bank's that do
    not compete with it: then it is beaten by the bank if the largest but `n` of the whole bank is
    larger than it.
    """
    weights = weights_of(streams, rivals)
    lead = _least_lead(streams, rivals)
    # What a calibration does not count is not computed.
    counts = weights.any(dim=1) | (weights.any(dim=1).sum() == 0)
    every = [one for one, used in zip(streams.values(), counts.tolist(), strict=True) if used]
    weights = weights[counts]
    own = fused([stream.judged for stream in every], weights) + lead
    names = rivals.exchanges[:, 0]
    pairs = fused([stream.exchanged for stream in every], weights[:, names])
    found = _larger(pairs, own, names) > 0
    found[:, rivals.count :] = True
    names, rows = rivals.excluded.T
    pairs = fused([s.bank.logits.index_select(1, rows) for s in every], weights[:, names])
    unfit = _larger(pairs, own, names)
    columns = [tuple(column) for column in weights.T.tolist()]
    for weight in dict.fromkeys(columns):
        names = own.new_tensor([other == weight for other in columns], dtype=torch.bool)
        if len(rivals.bank):
            best = _best_of_bank([s.bank for s in every], weight, rivals.most_excluded + 1)
            found[:, names] |= best.gather(1, unfit[:, names]) > own[:, names]
        if rivals.count < len(rivals):
            negatives = _sum(
                w * stream.logits[:, rivals.count :]
                for w, stream in zip(weight, every, strict=True)
            )
            found[:, names] |= negatives.amax(dim=1, keepdim=True) > own[:, names]
    return found


def _least_lead(streams: Mapping[str, Stream], rivals: Rivals) -> float:
    return _CLEARLY if sum(_fitted(streams, rivals)) > 0 else _TIE


def _fitted(streams: Mapping[str, Stream], rivals: Rivals) -> list[float]:
    """What a calibration counts each stream for; what speaks against a name counts nothing."""
    return [max((rivals.weights or {}).get(name, 0.0), 0.0) for name in streams]


def weights_of(streams: Mapping[str, Stream], rivals: Rivals) -> Tensor:
    """(S, C) float64, what each of the streams counts for each name where it is to be beaten.

    A calibration has found out what each is worth; without one it is as in the fusion.
    """
    every = torch.stack([stream.weight for stream in streams.values()])
    fitted = _fitted(streams, rivals)
    if sum(fitted) > 0:
        every = (every.new_tensor(fitted) / sum(fitted))[:, None].expand_as(every)
    return every


def fused(logits: Sequence[Tensor], weights: Tensor) -> Tensor:
    """(K, P) sum of S matrices of logits (K, P), with weights (S, P) or (S, 1)."""
    return _sum(weight * own for own, weight in zip(logits, weights, strict=True))


def _best_of_bank(banks: list[BankLogits], weight: tuple[float, ...], count: int) -> Tensor:
    """(K, B) the largest weighted sums, falling, at least `count`; -inf where there are no more."""
    # For the next question too, which may leave out more.
    count = -(-count // _BEST) * _BEST
    first, *others = banks
    key = (count, weight, *others)
    if key not in first.best:
        sums = _sum(w * bank.logits for w, bank in zip(weight, banks, strict=True))
        best = sums.topk(min(count, sums.shape[1]), dim=1).values
        first.best[key] = F.pad(best, (0, 1), value=-torch.inf)
    return first.best[key]


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, terms)


def _larger(values: Tensor, bounds: Tensor, names: Tensor) -> Tensor:
    """(K, C) int64, how many of the values (K, P) of each name are above its bounds (K, C)."""
    larger = values > bounds.index_select(1, names)
    return torch.zeros_like(bounds, dtype=torch.int64).index_add_(1, names, larger.long())


def _log_odds(stream: Stream, competition: Tensor) -> Tensor:
    if stream.background is not None:
        competition = torch.logaddexp(competition, stream.background[:, None])
    return stream.judged - competition


def _competition(stream: Stream, rivals: Rivals) -> Tensor:
    """(K, C) logarithms of the sums over each name's competitors; -inf where it has none."""
    return torch.logaddexp(_of_bank(stream, rivals), _of_exchanges(stream, rivals))


def _of_bank(stream: Stream, rivals: Rivals) -> Tensor:
    if not len(rivals.bank):
        return torch.full_like(stream.logits, -torch.inf)
    bank = stream.bank
    rows = max(1, _AT_ONCE // len(rivals.bank))
    # Sums of what is left, not differences to the sum of all: what does not compete with a name is
    # what fits best, and would leave nothing but rounding.
    left = torch.cat([bank.odds @ some.double().T for some in rivals.kept.split(rows)], dim=1)
    left = torch.maximum(left, rivals.kept.any(dim=1).double() * _TINY)
    return (left.log() + bank.peak).index_select(1, rivals.kept_of)


def _of_exchanges(stream: Stream, rivals: Rivals) -> Tensor:
    total = torch.zeros_like(stream.logits)
    if not len(rivals.exchanges):
        return total.log_()
    odds = stream.exchanged_odds
    if rivals.competes is not None:
        odds = odds * rivals.competes
    return total.index_add_(1, rivals.exchanges[:, 0], odds).log_() + stream.exchanged_peak


def _same(one: Tensor, other: Tensor) -> bool:
    alike = one.shape == other.shape and one.dtype == other.dtype and one.device == other.device
    return alike and torch.equal(one, other)
