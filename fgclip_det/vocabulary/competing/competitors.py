"""The competitors of names: texts and their embeddings, and who competes with whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fgclip_det.vocabulary.region_bank import RegionBank
from fgclip_det.vocabulary.text_embeddings import TextEmbeddings


# Compared by identity: a generated == would fail on the tensors.
@dataclass(frozen=True, eq=False)
class ToldApart:
    """What speaks for negatives of one's own, and how they stand to the names: (n, 2) int64 pairs.

    Attributes:
        kinds: Negative and row of the bank, the row saying the same as the negative, or being of
            its kind.
        narrower: Name and negative, the name being of the negative's kind.
        vague: Name and negative, the negative being of the name's kind by words that the bank does
            not know.
    """

    kinds: Tensor
    narrower: Tensor
    vague: Tensor

    def to(self, device: torch.device | str) -> ToldApart:
        """The same on `device`."""
        return ToldApart(*(one.to(device) for one in (self.kinds, self.narrower, self.vague)))

    def subset(self, names: Tensor) -> ToldApart:
        """That of some names, by their distinct rows; the first becomes name 0."""
        return ToldApart(self.kinds, _renamed(self.narrower, names), _renamed(self.vague, names))


# Likewise.
@dataclass(frozen=True, eq=False)
class Competitors:
    """The competitors of C names that are asked for: of each its own, never reported.

    A name's competitors are the bank without what says the same as the name, and its exchanges.

    Attributes:
        texts: N texts: the M names of the bank, then distinct phrases with one attribute exchanged.
        embeddings: (N, D) float32, unit length.
        bank_size: M.
        excluded: (X, 2) int64, sorted pairs (name, row of the bank) that do not compete: the row
            says the same as the name, or as one of its exchanges, which stands for it.
        exchanges: (E, 2) int64 pairs (name, row from M on), sorted by name.
        encoder_fingerprint: Of the encoder that made the embeddings.
        region_bank: Regions that tell how near a name is to whatever there is; None for none.
        names: (C, D) float32, unit length, the names in the wording that they are judged in; None
            where there is no wording, and the embeddings that were asked for are judged.
        kinds: (P, 2) int64, those of `excluded` whose row is the name with attributes added: what
            speaks for the row speaks for the name. None for none.
        shown: (N,) bool, which of them are exemplars. None for none.
        told_apart: Negatives of one's own. None for none, or where nothing is known of them.
    """

    texts: tuple[str, ...]
    embeddings: Tensor
    bank_size: int
    excluded: Tensor
    exchanges: Tensor
    encoder_fingerprint: str
    region_bank: RegionBank | None = None
    names: Tensor | None = None
    kinds: Tensor | None = None
    shown: Tensor | None = None
    told_apart: ToldApart | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def to(self, device: torch.device | str) -> Competitors:
        """The same with the numbers on `device`."""
        return replace(
            self,
            embeddings=self.embeddings.to(device),
            excluded=self.excluded.to(device),
            exchanges=self.exchanges.to(device),
            **{
                name: values.to(device)
                for name in ("names", "kinds", "shown", "told_apart")
                if (values := getattr(self, name)) is not None
            },
        )

    @classmethod
    def own(cls, asked: TextEmbeddings, others: Competitors | None = None) -> Competitors | None:
        """With what single names are told apart from, beside others; None for nobody.

        Args:
            asked: What is asked for, with `negatives`.
            others: Who else competes.
        """
        if asked.negatives is None:
            return others
        none = torch.zeros(0, 2, dtype=torch.int64, device=asked.embeddings.device)
        if others is None:
            others = cls((), asked.embeddings[:0], 0, none, none, asked.encoder_fingerprint)
        names, told = zip(*asked.vocabulary.negatives, strict=True)
        pairs = torch.stack([torch.tensor(names), torch.arange(len(names)) + len(others)], dim=1)
        exchanges = torch.cat([others.exchanges, pairs.to(none)])
        shown = torch.tensor([False] * len(others) + asked.vocabulary.shown_negatives)
        return replace(
            others,
            texts=(*others.texts, *told),
            embeddings=torch.cat([others.embeddings, asked.negatives.to(others.embeddings)]),
            exchanges=exchanges[exchanges[:, 0].argsort(stable=True)],
            shown=shown.to(none.device),
        )

    def subset(self, names: Sequence[int] | Tensor) -> Competitors:
        """Those of some of the C names: the bank, and the phrases that these names need.

        Args:
            names: Their distinct rows; the first becomes name 0.
        """
        device = self.exchanges.device
        names = torch.as_tensor(names, dtype=torch.int64, device=device)
        pairs = _renamed(self.exchanges, names)
        needed, rows = pairs[:, 1].unique(return_inverse=True)
        kept = torch.cat([torch.arange(self.bank_size, device=device), needed])
        return replace(
            self,
            texts=tuple(self.texts[row] for row in kept.tolist()),
            embeddings=self.embeddings[kept],
            excluded=_renamed(self.excluded, names),
            exchanges=torch.stack([pairs[:, 0], rows + self.bank_size], dim=1),
            names=None if self.names is None else self.names[names.to(self.names.device)],
            kinds=None if self.kinds is None else _renamed(self.kinds, names),
            shown=None if self.shown is None else self.shown[kept],
            told_apart=self.told_apart and self.told_apart.subset(names),
        )


def _renamed(pairs: Tensor, names: Tensor) -> Tensor:
    """The pairs of some names, by their places in `names`."""
    if not len(pairs):
        return pairs
    places = torch.full((int(pairs[:, 0].max()) + 1,), -1, device=pairs.device)
    inside = names < len(places)
    places[names[inside]] = torch.arange(len(names), device=pairs.device)[inside]
    found = places[pairs[:, 0]]
    kept = torch.stack([found, pairs[:, 1]], dim=1)[found >= 0]
    return kept[kept[:, 0].argsort(stable=True)]
