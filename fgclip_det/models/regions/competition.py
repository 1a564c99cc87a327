"""Regions compared with what nobody asked for: shares, evidence, and who is beaten.

A name competes with texts of its own: the bank without what says the same, and its own phrase with
one attribute exchanged (see `Competitors`). All numbers are float64: a matrix product of float32 is
rounded by where a name stands among others, and a temperature of 100 would show that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, reduce
from math import inf, log

import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip_det.models.regions.regions import Regions
from fgclip_det.models.regions.rivals import Rivals
from fgclip_det.models.regions.streams import BankLogits, Stream, Streams

# Logits that are nearer than this are ties: texts that say the same differ by their rounding.
_TIE = 1e-4
# With a calibration, what fits better counts in the confidence already. To beat a name then, it has
# to be five times as likely: a slight lead is chance among look-alikes, and hides what is there. So
# does what is shown in any case, since an exemplar holds more than what it is to tell apart.
_CLEARLY = log(5)
# The best of a bank are found so many at a time.
_BEST = 8
# Of a stream, what it counts: one number, or (C,) of each name.
Weight = Tensor | float


class Features(Mapping[str, Tensor]):
    """Evidence by name, (K, C) float64 each: that of a stream is made when it is first asked for.

    Args:
        streams: Each has log-odds.
        rivals: Of the names.
        others: What else speaks for names.
    """

    def __init__(self, streams: Streams, rivals: Rivals, others: Mapping[str, Tensor]) -> None:
        self._streams, self._rivals, self._made = streams, rivals, dict(others)
        self._names = dict.fromkeys((*streams, *others))

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._made:
            self._made[name] = log_odds(self._streams[name], self._rivals)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Evidence:
    """What speaks for each name in each region, whatever else was asked for.

    Args:
        streams: Of K regions.
        rivals: Of C names.
        others: Features beside the streams' log-odds.

    Attributes:
        streams: See above.
        features: By name, (K, C) float64 each: the log-odds of a name against its competitors and
            the background, for each stream; the logit of the objectness; and "place" where there
            is a bank of regions. Infinite where nothing competes.
    """

    def __init__(self, streams: Streams, rivals: Rivals, others: Mapping[str, Tensor]) -> None:
        self.streams, self._rivals, self._others = streams, rivals, others
        self.features = Features(streams, rivals, others)

    @cached_property
    def beaten(self) -> Tensor:
        """(K, C) bool, whether a competitor of the name fits the region better."""
        return beaten(self.streams, self._rivals)

    def at(self, rows: Tensor) -> Evidence:
        """That of some of all regions, by their rows (k,) int64."""
        others = {name: values.index_select(0, rows) for name, values in self._others.items()}
        return Evidence(self.streams.at(rows), self._rivals, others)


class Judged:
    """Regions judged where names have competitors; each part is made when it is asked for.

    Args:
        evidence: Of K regions and C names.
        score: Scores (k, C) float32, from the streams of all regions (then with None) or of some,
            and their rows (k,) int64.
        rows: Which of all regions these are; None for all.
    """

    def __init__(
        self,
        evidence: Evidence,
        score: Callable[[Streams, Tensor | None], Tensor],
        rows: Tensor | None = None,
    ) -> None:
        self.evidence = evidence
        self._score, self._rows = score, rows

    @cached_property
    def scores(self) -> Tensor:
        """(K, C) float32, shares of what competes."""
        return self._score(self.evidence.streams, self._rows)

    def at(self, rows: Tensor) -> Judged:
        """Some of all regions, by their rows (k,) int64."""
        return Judged(self.evidence.at(rows), self._score, rows)

    def scored_by(self, regions: Regions, score: Callable[[Regions], Tensor]) -> Judged:
        """The same evidence with other scores, which `score` gives of these or some regions."""
        return Judged(
            self.evidence, lambda _, rows: score(regions if rows is None else regions[rows])
        )


def log_odds(stream: Stream, rivals: Rivals) -> Tensor:
    """Log-odds (K, C) of each name against its competitors and the background alone."""
    return _log_odds(stream, _competition(stream, rivals), rivals)


def log_shares(stream: Stream, rivals: Rivals) -> Tensor:
    """Log-softmax (K, C) among all that competes with each name.

    That is all names asked for, the background, and the name's competitors; those that are asked
    for themselves are counted once.
    """
    everyone = stream.logits
    if stream.background is not None:
        everyone = torch.cat([everyone, stream.background[:, None]], dim=1)
    asked = everyone.logsumexp(dim=1, keepdim=True)
    return stream.logits - torch.logaddexp(asked, _competition(stream, rivals.unasked))


def beaten(streams: Mapping[str, Stream], rivals: Rivals) -> Tensor:
    """(K, C) bool, whether some competitor has a larger sum of weighted logits than the name.

    So has a negative of one's own; those themselves are never detected. Ties beat nobody, and of
    exemplars, or where there is a calibration, only a clear lead does; a negative of one's own was
    named, and any lead of it does unless it is vague, as "a small cross" is where nobody knows of
    small ones. A name is better than `n` of the bank's that do not compete with it: then it is
    beaten by the bank if the largest but `n` of the whole bank is larger than it.
    """
    every, weights = counted(streams, rivals)
    lead = _CLEARLY if _fitted(streams, rivals) else _TIE
    fits = fused([stream.judged for stream in every], weights)
    own = fits + lead
    names = rivals.exchanges[:, 0]
    if len(names):
        pairs = fused([stream.exchanged for stream in every], [_of(w, names) for w in weights])
        if rivals.shown is not None:
            clearly = _CLEARLY * _sum(_of(weight, names) for weight in weights)
            pairs = pairs - (clearly - lead) * rivals.shown[rivals.exchanges[:, 1]]
        found = _larger(pairs, own, names) > 0
    else:
        found = torch.zeros_like(own, dtype=torch.bool)
    found[:, rivals.count :] = True
    names, rows = rivals.excluded.T
    logits = [stream.bank.logits.index_select(1, rows) for stream in every]
    unfit = _larger(fused(logits, [_of(w, names) for w in weights]), own, names)
    for weight, names in _groups(weights, own):
        if len(rivals.bank):
            best = best_of_bank([s.bank for s in every], weight, rivals.most_excluded + 1)
            found[:, names] |= best.gather(1, unfit[:, names]) > own[:, names]
    if rivals.count < len(rivals):
        found |= _beaten_by_negatives(every, weights, rivals, fits, lead)
    return found


def _beaten_by_negatives(
    every: Sequence[Stream], weights: Sequence[Weight], rivals: Rivals, fits: Tensor, lead: float
) -> Tensor:
    """(K, C) bool, whether some negative of one's own fits better than the names do, (K, C)."""
    count, least = rivals.count, fits + _TIE
    sums = [stream.alone[:, count:] for stream in every]
    known = rivals.negatives
    if known is not None:
        places = torch.arange(len(rivals) - count, device=rivals.kept_of.device)
        kinds = [stream.bank.sums(known.kinds, places) for stream in every]
        sums = [torch.logaddexp(*pair) for pair in zip(sums, kinds, strict=True)]
    found = torch.zeros_like(least, dtype=torch.bool)
    for weight, names in _groups(weights, least):
        found[:, names] = fused(sums, weight).amax(dim=1, keepdim=True) > least[:, names]
    # What is of a negative's kind speaks for it too, and is looked at without it. A vague one
    # needs a clear lead.
    if known is not None:
        for name in (known.narrower | known.vague).any(dim=1).nonzero().flatten():
            values = fused(sums, [_of(weight, name) for weight in weights])
            values = values - (lead - _TIE) * known.vague[name]
            beats = values.masked_fill(known.narrower[name], -inf) > least[:, name, None]
            found[:, name] = beats.any(dim=1)
    names, negatives = rivals.overlaps.T
    if len(names):
        leads = leads_of_negatives(
            every, [_of(w, names) for w in weights], rivals, names, negatives
        )
        found |= _larger(leads, torch.full_like(least, _TIE), names) > 0
    return found


def leads_of_negatives(
    every: Sequence[Stream],
    weights: Sequence[Weight],
    rivals: Rivals,
    names: Tensor,
    negatives: Tensor,
) -> Tensor:
    """(K, P) by how much negatives of one's own fit better than names.

    Of what speaks for both see `Rivals.speaking`.

    Args:
        every: Streams that count.
        weights: Of each, one number or (P,).
        rivals: Of the names.
        names: (P,) int64.
        negatives: (P,) int64, from 0.
    """
    sums = []
    for stream in every:
        theirs, own = stream.alone[:, rivals.count + negatives], stream.judged[:, names]
        if rivals.negatives is not None:
            places = torch.arange(len(names), device=names.device)
            for_them, for_it = rivals.speaking(names, negatives)
            theirs = torch.logaddexp(theirs, stream.bank.sums(for_them, places))
            own = torch.logaddexp(stream.alone[:, names], stream.bank.sums(for_it, places))
        sums.append(theirs - own)
    return fused(sums, weights)


def counted(streams: Mapping[str, Stream], rivals: Rivals) -> tuple[list[Stream], Sequence[Weight]]:
    """The streams that count where a name is to be beaten, and what each counts.

    A calibration has found out what each is worth; without one it is as in the fusion. Others are
    not made.
    """
    fitted = _fitted(streams, rivals)
    if fitted:
        total = sum(fitted.values())
        return [streams[name] for name in fitted], [one / total for one in fitted.values()]
    every = list(streams.values())
    used = [stream for stream in every if stream.weight.any()] or every
    return used, [stream.weight for stream in used]


def _fitted(streams: Mapping[str, Stream], rivals: Rivals) -> dict[str, float]:
    """What a calibration counts each stream for; what speaks against a name counts nothing."""
    weights = rivals.weights or {}
    return {name: weights[name] for name in streams if weights.get(name, 0.0) > 0}


def fused(logits: Sequence[Tensor], weights: Sequence[Weight]) -> Tensor:
    """(K, P) sum of S matrices of logits (K, P), each with a weight, of all or (P,) of each."""
    return _sum(
        own if isinstance(weight, float) and weight == 1 else weight * own
        for own, weight in zip(logits, weights, strict=True)
    )


def _of(weight: Weight, names: Tensor) -> Weight:
    return weight if isinstance(weight, float) else weight[names]


def _groups(weights: Sequence[Weight], own: Tensor) -> list[tuple[tuple[float, ...], Tensor]]:
    """Weights that some names share, and which names: (C,) bool."""
    if all(isinstance(weight, float) for weight in weights):
        return [(tuple(weights), slice(None))]
    columns = [tuple(column) for column in torch.stack([*weights]).T.tolist()]
    return [
        (weight, own.new_tensor([other == weight for other in columns], dtype=torch.bool))
        for weight in dict.fromkeys(columns)
    ]


def best_of_bank(banks: list[BankLogits], weight: tuple[float, ...], count: int) -> Tensor:
    """(K, B) the largest weighted sums, falling, at least `count`; -inf where there are no more."""
    first, *others = banks
    if first.rows is not None:
        whole = best_of_bank([bank.whole for bank in banks], weight, count)
        return whole.index_select(0, first.rows)
    # For the next question too, which may leave out more.
    count = -(-count // _BEST) * _BEST
    key = (count, weight, *others)
    if key not in first.best:
        sums = fused([bank.logits for bank in banks], weight)
        best = sums.topk(min(count, sums.shape[1]), dim=1).values
        first.best[key] = F.pad(best, (0, 1), value=-torch.inf)
    return first.best[key]


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, terms)


def _larger(values: Tensor, bounds: Tensor, names: Tensor) -> Tensor:
    """(K, C) int64, how many of the values (K, P) of each name are above its bounds (K, C)."""
    larger = values > bounds.index_select(1, names)
    return torch.zeros_like(bounds, dtype=torch.int64).index_add_(1, names, larger.long())


def _log_odds(stream: Stream, competition: Tensor, rivals: Rivals) -> Tensor:
    if stream.background is not None:
        competition = torch.logaddexp(competition, stream.background[:, None])
    odds = stream.judged - competition
    return odds if rivals.breadth is None else odds.sub_(rivals.breadth)


def _competition(stream: Stream, rivals: Rivals) -> Tensor:
    """(K, C) logarithms of the sums over each name's competitors; -inf where it has none."""
    bank = _of_bank(stream, rivals)
    return torch.logaddexp(bank, _of_exchanges(stream, rivals)) if len(rivals.exchanges) else bank


def _of_bank(stream: Stream, rivals: Rivals) -> Tensor:
    if not len(rivals.bank):
        return torch.full_like(stream.logits, -torch.inf)
    # Sums of what is left, not differences to the sum of all: what does not compete with a name is
    # what fits best, and would leave nothing but rounding.
    return stream.bank.sums(rivals.kept, rivals.kept_of)


def _of_exchanges(stream: Stream, rivals: Rivals) -> Tensor:
    odds = stream.exchanged_odds
    if rivals.competes is not None:
        odds = odds * rivals.competes
    total = torch.zeros_like(stream.logits)
    return total.index_add_(1, rivals.exchanges[:, 0], odds).log_() + stream.exchanged_peak
