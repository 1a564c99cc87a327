"""Who competes with whom, as tensors that the logits of regions are summed by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip_det.models.regions.regions import Regions
from fgclip_det.vocabulary import RegionBank
from fgclip_det.vocabulary.competition import Competitors

# Texts whose cosine lacks less than this of 1 are one text.
_ONE_TEXT = 1e-6
# Values of embeddings that tell most of them apart.
_FIRST = 32
# Cosines that exist at a time.
_AT_ONCE = 1 << 24


@dataclass(frozen=True, eq=False)
class OwnNegatives:
    """Q negatives of one's own, and P names that are asked for: see `ToldApart`.

    Attributes:
        kinds: (Q, M) bool, which rows of the bank speak for each negative.
        narrower: (P, Q) bool, which names are of the kind of which negative.
        vague: (P, Q) bool, which negatives are vague for which name.
    """

    kinds: Tensor
    narrower: Tensor
    vague: Tensor

    @classmethod
    def of(cls, competitors: Competitors, names: int, negatives: int) -> OwnNegatives | None:
        """What competitors know of them; None for none, or where they know nothing."""
        known, size = competitors.told_apart, competitors.bank_size
        if known is None or not negatives:
            return None
        return cls(
            _cells(known.kinds, (negatives, size)),
            _cells(known.narrower, (names, negatives)),
            _cells(known.vague, (names, negatives)),
        )


@dataclass(frozen=True, eq=False)
class Rivals:
    """The competitors of C names; M are the bank's, N - M are exchanged phrases.

    Attributes:
        bank: (M, D) float32.
        texts: (T, D) float64 of unit length: the C names as they are asked for, the N - M exchanged
            phrases, and the first of the C in the wording that they are judged in, if there is one.
        sizes: How many of each of these, two or three numbers.
        excluded: (X, 2) int64, distinct pairs of a name and a row of `bank` that do not compete.
        exchanges: (E, 2) int64, distinct pairs of a name and an exchanged phrase that compete.
        kept: (G, M) bool, each set of rows of the bank that competes with some name, once.
        kept_of: (C,) int64, which of them competes with each name.
        most_excluded: The most rows of the bank that a name excludes.
        asked: (N,) bool, competitors that are asked for themselves.
        count: How many of the C are asked for; those beyond are negatives.
        region_bank: Of the competitors; None for none.
        weights: What each stream is worth for who fits better, by its name; None for what it
            counts in the fusion of scores.
        competes: (E,) bool, which of `exchanges` compete; None for all.
        kinds: (H, M) bool, each set of rows of the bank that speaks for some name, once; None where
            none does.
        kinds_of: (C,) int64, which of them speaks for each name; None where none does.
        shown: (N - M,) bool, which of the exchanged phrases are exemplars; None for none.
        negatives: Of one's own; None where nothing is known of them.
    """

    bank: Tensor
    texts: Tensor
    sizes: tuple[int, ...]
    excluded: Tensor
    exchanges: Tensor
    kept: Tensor
    kept_of: Tensor
    most_excluded: int
    asked: Tensor
    count: int
    region_bank: RegionBank | None = None
    weights: Mapping[str, float] | None = None
    competes: Tensor | None = None
    kinds: Tensor | None = None
    kinds_of: Tensor | None = None
    shown: Tensor | None = None
    negatives: OwnNegatives | None = None

    @classmethod
    def of(
        cls,
        competitors: Competitors | Rivals,
        text_embeddings: Tensor,
        asked_for: int | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> Rivals:
        """Competitors made ready for the names that they were made for.

        Args:
            competitors: What is ready already stays as it is.
            text_embeddings: (C, D) of the names, of any length each; perhaps followed by names
                that they were not made for: the bank competes with these too.
            asked_for: How many are asked for; None for all.
            weights: See `Rivals`.

        Raises:
            ValueError: They were made for more names, or their embeddings have other sizes.
        """
        if isinstance(competitors, Rivals):
            return competitors
        device = text_embeddings.device
        competitors = competitors.to(device)
        count, embeddings = len(text_embeddings), competitors.embeddings
        if embeddings.shape[1] != text_embeddings.shape[1]:
            raise ValueError(
                f"competitors of {embeddings.shape[1]} values for texts of "
                f"{text_embeddings.shape[1]}: make them with the detector's own encoder"
            )
        excluded, exchanges = (
            _distinct(pairs, count, len(embeddings))
            for pairs in (competitors.excluded, competitors.exchanges)
        )
        size = competitors.bank_size
        left_out, kept_of = _sets(excluded, count, size)
        kept, kinds, kinds_of = ~left_out, None, None
        texts = [text_embeddings, embeddings[size:]]
        if competitors.names is not None:
            texts.append(competitors.names)
        if competitors.kinds is not None and len(competitors.kinds):
            kinds, kinds_of = _sets(_distinct(competitors.kinds, count, size), count, size)
        asked = count if asked_for is None else asked_for
        return cls(
            bank=embeddings[:size],
            texts=torch.cat([F.normalize(some.detach().double(), dim=-1) for some in texts]),
            sizes=tuple(map(len, texts)),
            excluded=excluded,
            exchanges=exchanges - exchanges.new_tensor([0, size]),
            kept=kept,
            kept_of=kept_of,
            most_excluded=size - int(kept.sum(dim=1).min()),
            asked=_among(embeddings, text_embeddings),
            region_bank=competitors.region_bank,
            count=asked,
            weights=weights,
            kinds=kinds,
            kinds_of=kinds_of,
            shown=None if competitors.shown is None else competitors.shown[size:],
            negatives=OwnNegatives.of(competitors, asked, count - asked),
        )

    def places(self, regions: Regions, text_embeddings: Tensor) -> dict[str, Tensor]:
        """Evidence (K, C) float64 by the bank of regions; none where there is no bank."""
        if self.region_bank is None:
            return {}
        texts = text_embeddings
        if len(self.sizes) > 2:
            names = self.texts[-self.sizes[2] :]
            texts = torch.cat([names.to(texts), texts[len(names) :]])
        features = self.region_bank.features(regions, texts)
        return {name: values.double() for name, values in features.items()}

    @property
    def most_columns(self) -> int:
        """Of the matrices that come up for each region, the columns of the widest."""
        return max(
            len(self.bank), self.sizes[1], len(self.exchanges), len(self.excluded), len(self),
            len(self.overlaps),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.kept_of)

    @cached_property
    def overlaps(self) -> Tensor:
        """(O, 2) int64 pairs of a name and a negative of one's own for which the same may speak."""
        if self.negatives is None:
            return torch.zeros(0, 2, dtype=torch.int64, device=self.kept_of.device)
        own = self._kinds_of(torch.arange(self.count, device=self.kept_of.device))
        common = own.float() @ self.negatives.kinds.float().T > 0
        return (common | self.negatives.narrower).nonzero()

    def speaking(self, names: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the bank that speak for negatives of one's own, and for names against these.

        What speaks for both, as "a purple dotted cross" does for "a cross" and "a purple cross",
        is the negative's, or the name's where that is of the negative's kind.

        Args:
            names: (P,) int64, of those that are asked for.
            negatives: (P,) int64, from 0.

        Returns:
            (P, M) bool each.
        """
        theirs = self.negatives.kinds[negatives]
        narrower = self.negatives.narrower[names, negatives][:, None]
        own = self._kinds_of(names) & (narrower | ~theirs)
        return theirs & (~narrower | self.kept[self.kept_of[names]]), own

    def _kinds_of(self, names: Tensor) -> Tensor:
        if self.kinds is None:
            return torch.zeros_like(self.kept[:1]).expand(len(names), -1)
        return self.kinds[self.kinds_of[names]]

    @cached_property
    def breadth(self) -> Tensor | None:
        """(C,) float64, the logarithm of how many texts speak for each name; None for one each."""
        if self.kinds is None:
            return None
        return self.kinds.sum(dim=1).double().log1p().index_select(0, self.kinds_of)

    @cached_property
    def is_in_order(self) -> bool:
        """Whether each exchanged phrase competes once, in the order of `exchanges`."""
        rows = self.exchanges[:, 1]
        return len(rows) == self.sizes[1] and rows.equal(torch.arange(len(rows)).to(rows))

    @cached_property
    def leaves_alone(self) -> bool:
        """Whether no name of the bank and no exchanged phrase competes with some name."""
        has_some = self.kept.any(dim=1)[self.kept_of]
        has_some[self.exchanges[:, 0]] = True
        return not bool(has_some.all())

    @cached_property
    def unasked(self) -> Rivals:
        """Those that are not asked for themselves; the very same where none is."""
        if not self.asked.any():
            return self
        bank, exchanged = self.asked.split([len(self.bank), self.sizes[1]])
        competes = ~exchanged[self.exchanges[:, 1]]
        return replace(self, kept=self.kept & ~bank, competes=competes)


def _cells(pairs: Tensor, shape: tuple[int, int]) -> Tensor:
    """Pairs as a table of bool."""
    cells = torch.zeros(shape, dtype=torch.bool, device=pairs.device)
    cells[tuple(pairs.T)] = True
    return cells


def _distinct(pairs: Tensor, names: int, rows: int) -> Tensor:
    """(P, 2) pairs of a name and a row, each once and rising.

    Raises:
        ValueError: One is of a name that is not there.
    """
    codes = (pairs[:, 0] * rows + pairs[:, 1]).unique()
    found = torch.stack([codes // max(rows, 1), codes % max(rows, 1)], dim=1)
    if len(found) and int(found[-1, 0]) >= names:
        raise ValueError(
            f"competitors of name {int(found[-1, 0])} for {names} names: make them for what is "
            "asked for"
        )
    return found


def _sets(pairs: Tensor, count: int, size: int) -> tuple[Tensor, Tensor]:
    """The rows that each name has, each set of them once.

    Args:
        pairs: (X, 2) of a name and a row.
        count: C, the names.
        size: M, the rows.

    Returns:
        (G, M) bool, the first set empty, and (C,) int64, the set of each name.
    """
    rows: dict[int, list[int]] = defaultdict(list)
    for name, row in pairs.tolist():
        rows[name].append(row)
    places: dict[tuple[int, ...], int] = {(): 0}
    named = [places.setdefault(tuple(rows.get(name, ())), len(places)) for name in range(count)]
    set_of = torch.tensor(named, dtype=torch.int64, device=pairs.device)
    sets = torch.zeros(len(places), size, dtype=torch.bool, device=pairs.device)
    sets[set_of[pairs[:, 0]], pairs[:, 1]] = True
    return sets, set_of


def _among(embeddings: Tensor, text_embeddings: Tensor) -> Tensor:
    """(N,) bool, which of (N, D) embeddings of unit length are among (C, D).

    Those are looked at that are as near in their first values as they are to be in all.
    """
    texts = F.normalize(text_embeddings.float(), dim=-1)
    few = texts[:, :_FIRST]
    few = torch.cat([few, -few.square().sum(dim=1, keepdim=True) / 2], dim=1).T
    found = torch.zeros(len(embeddings), dtype=torch.bool, device=embeddings.device)
    rows = max(1, _AT_ONCE // max(1, len(texts)))
    for start in range(0, len(embeddings), rows):
        some = embeddings[start : start + rows, :_FIRST].float()
        half = some.square().sum(dim=1, keepdim=True) / 2
        # Half of a squared distance is 1 minus the cosine; twice that leaves room for rounding.
        near = F.pad(some, (0, 1), value=1.0) @ few >= half - 2 * _ONE_TEXT
        here, there = near.nonzero(as_tuple=True)
        cosines = (embeddings[start + here].float() * texts[there]).sum(dim=1)
        found[start + here[cosines > 1 - _ONE_TEXT]] = True
    return found
