"""What stands in for a text where a thing is shown: an exemplar, seen as words could tell it.

A region's embedding holds more than any text could say of it: its ground, its place, its light. Of
that a text knows nothing, and the common part makes all regions alike to it. So an exemplar is
seen through the words: it is multiplied by ``C (C + r m I)^-1``, where C is the second moment of
the embeddings of many names (the bank's), m the mean of its eigenvalues and r a setting. Directions
in which names differ pass, others are left out: the linear estimate of a text from a text with
noise that is alike in all directions (Wiener 1949). docs/exemplars.md derives it, and compares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip_det.io import quoted
from fgclip_det.vocabulary.shown.exemplars import Exemplar, Shown
from fgclip_det.vocabulary.text_embeddings import TextEmbeddings
from fgclip_det.vocabulary.vocabulary import Vocabulary

# Of one region (D,) float32 each, by the source: "encoder", and "detector" where it has a head.
Seen = Mapping[str, Tensor]
# Cosine of two exemplars beyond which they differ by rounding.
_SAME = 1 - 1e-6
# Of a setting the least, and the most.
_RANGES = {
    "text_weight": (0.0, 1.0),
    "ridge": (0.0, 1e6),
    "centring": (0.0, 1.0),
    "surround": (1.0, 10.0),
}


@dataclass(frozen=True)
class ExemplarSettings:
    """How exemplars become embeddings; ``test_cfg.exemplars`` of a detector.

    Attributes:
        text_weight: What words count beside pictures of one name, in [0, 1].
        ridge: r, see above; the larger, the fewer directions pass. 0 for no words between.
        centring: How much of the mean of the region bank is taken from the encoder's embeddings
            first, in [0, 1].
        surround: How many times as large as a crop the ground is that it is set into.

    Raises:
        ValueError: One is out of range.
    """

    text_weight: float = 0.9
    ridge: float = 3.0
    centring: float = 0.0
    surround: float = 3.0

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not least <= value <= most:
                raise ValueError(f"exemplars.{name} is {value!r:.80}: give {least:g} to {most:g}")

    @classmethod
    def of(cls, given: Any) -> ExemplarSettings:
        """Settings of a config, a dict.

        Raises:
            ValueError: It has other keys, or a value is out of range.
        """
        known = {one.name for one in fields(cls)}
        if not isinstance(given, Mapping) or not {*given} <= known:
            raise ValueError(
                f"test_cfg.exemplars is {quoted(given)}: give dict({'=..., '.join(sorted(known))}"
                "=...)"
            )
        return cls(**given)


class StandIns:
    """Makes embeddings in the space of texts out of exemplars.

    Args:
        settings: How.
        words: (N, D) embeddings of many names, of unit length; None for none.
        region_mean: (D,) mean of a bank of regions; None for none.

    Raises:
        ValueError: There is no bank whose mean could be taken away.
    """

    def __init__(
        self,
        settings: ExemplarSettings,
        words: Tensor | None = None,
        region_mean: Tensor | None = None,
    ) -> None:
        if settings.centring and region_mean is None:
            raise ValueError(
                f"exemplars.centring is {settings.centring}, and there is no bank of regions: make "
                "one with tools/make_region_bank.py, and name it as negatives.region_bank"
            )
        self.settings = settings
        self._filter = None if words is None or not len(words) else _filter(words, settings.ridge)
        self._mean = region_mean

    def of(self, seen: Sequence[Seen]) -> Tensor:
        """(D,) float32 of unit length, for all exemplars of a name together.

        Of each source the mean of what is unit length, seen through the words; then of all sources
        the mean, each of unit length (prototypes: Snell et al. 2017).

        Args:
            seen: Of one exemplar at least.
        """
        parts = []
        for source in dict.fromkeys(name for one in seen for name in one):
            own = [F.normalize(one[source].double(), dim=0) for one in seen if source in one]
            mean = torch.stack(own).mean(dim=0)
            if source == "encoder" and self.settings.centring and self._mean is not None:
                mean = mean - self.settings.centring * self._mean.to(mean)
            parts.append(F.normalize(self._through_words(mean), dim=0))
        return F.normalize(torch.stack(parts).sum(dim=0), dim=0).float()

    def _through_words(self, embedding: Tensor) -> Tensor:
        return embedding if self._filter is None else embedding @ self._filter.to(embedding)

    def encode(
        self,
        vocabulary: Vocabulary,
        encode: Callable[[Vocabulary], TextEmbeddings],
        look: Callable[[Sequence[Exemplar]], Sequence[Seen]],
    ) -> TextEmbeddings:
        """Embeddings of a vocabulary of which something is shown.

        Args:
            vocabulary: What is asked for.
            encode: Makes embeddings of what is said.
            look: Gives what is seen in exemplars.
        """
        shown = vocabulary.shown or {}
        every = [one for own in shown.values() for one in (*own.like, *own.not_like)]
        distinct = [*dict.fromkeys(every)]
        seen = dict(zip(distinct, look(distinct), strict=True))
        _refuse_contradictions(shown, seen)
        said = _said(vocabulary, encode)
        rows = [
            self._row(
                said.get(("name", name)),
                [seen[one] for one in (shown[name].like if name in shown else ())],
            )
            for name in vocabulary.names
        ]
        negatives = [
            row.to(said["labels", ""].embeddings)
            for own in (shown[name] for name in vocabulary.names if name in shown)
            for row in (
                *(said["phrase", phrase] for phrase in own.not_said),
                *(self.of([seen[one]]) for one in own.not_like),
            )
        ]
        own = said["labels", ""]
        return replace(
            own,
            vocabulary=vocabulary,
            embeddings=torch.stack([row.to(own.embeddings) for row in rows]),
            negatives=torch.stack(negatives) if negatives else None,
        )

    def _row(self, said: Tensor | None, seen: Sequence[Seen]) -> Tensor:
        if not seen:
            return said
        stand_in = self.of(seen)
        if said is None:
            return stand_in
        return F.normalize(
            torch.lerp(stand_in, said.to(stand_in), self.settings.text_weight), dim=0
        )


def _refuse_contradictions(shown: Mapping[str, Shown], seen: Mapping[Exemplar, Seen]) -> None:
    """Find what is seen to be the same, though it is shown in two forms: as a file and as pixels.

    Raises:
        ValueError: It is shown both as what a name means and as what it does not.
    """
    for name, own in shown.items():
        if not own.like or not own.not_like:
            continue
        like, not_like = (
            F.normalize(torch.stack([seen[one]["encoder"].double() for one in some]), dim=1)
            for some in (own.like, own.not_like)
        )
        for row, column in (like @ not_like.T > _SAME).nonzero().tolist():
            one, other = own.like[row], own.not_like[column]
            raise ValueError(
                f"{quoted(one.name)} looks the same as {quoted(other.name)}: {quoted(name)} cannot "
                "mean the one and not the other, leave one of them out"
            )


def _said(vocabulary: Vocabulary, encode: Callable[[Vocabulary], TextEmbeddings]) -> dict:
    """Rows of ("name", name) and ("phrase", phrase), and ("labels", ""), the embeddings of them."""
    shown = vocabulary.shown or {}
    names = {
        name: prompts
        for name, prompts in zip(vocabulary.names, vocabulary.prompts, strict=True)
        if prompts
    }
    phrases = dict.fromkeys(phrase for own in shown.values() for phrase in own.not_said)
    texts = [prompts for prompts in names.values()] + [(phrase,) for phrase in phrases]
    # Names do not matter to embeddings, and a phrase may be a name.
    labels = tuple(map(str, range(len(texts)))) or ("0",)
    # Even where all is shown an encoder has to say who it is.
    made = encode(Vocabulary(labels, tuple(texts) or (("a",),), vocabulary.templates))
    keys = [*(("name", name) for name in names), *(("phrase", phrase) for phrase in phrases)]
    return {**dict(zip(keys, made.embeddings, strict=False)), ("labels", ""): made}


def _filter(words: Tensor, ridge: float) -> Tensor | None:
    """(D, D) float64, symmetric."""
    if not ridge:
        return None
    words = F.normalize(words.detach().double(), dim=-1)
    moment = words.T @ words / len(words)
    noise = ridge * moment.diagonal().mean() * torch.eye(len(moment)).to(moment)
    return torch.linalg.solve(moment + noise, moment)
