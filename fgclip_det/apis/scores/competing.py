"""What competes unseen with the names that a detector is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fgclip_det.hub import cache_folder
from fgclip_det.io import quoted
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from fgclip_det.vocabulary.competition import Competition, Competitors

_SETTINGS = (
    "vocabularies",
    "max_cosine",
    "attributes",
    "max_exchanges",
    "region_bank",
    "wording",
)
_MOST_KEPT = 8


def competition_of(detector: Any) -> Competition | None:
    """What competes by default: as ``test_cfg.negatives`` of a detector says, a dict of keywords.

    Where it says nothing the vocabularies and lists of the package compete; where it says None,
    or where the detector's head has scores of its own and cannot tell who fits better, nothing
    does.

    Raises:
        ValueError: It is no such dict, or what it names cannot be read.
    """
    settings = (getattr(detector, "test_cfg", None) or {}).get("negatives", {})
    if settings is None or not _judges(detector.region_classifier):
        return None
    if not isinstance(settings, Mapping) or {*settings} - {*_SETTINGS}:
        raise ValueError(
            f"test_cfg.negatives is {quoted(settings)}: give dict(vocabularies=[...], "
            "max_cosine=..., attributes=...), or None"
        )
    folder = detector.text_cache_dir or cache_folder() / "fgclip_det" / "texts"
    return Competition(detector.encoder, **settings, cache_dir=folder)


def _judges(head: Any) -> bool:
    """Whether a head judges where others compete, by the class that its scores are of."""
    for cls in type(head).__mro__:
        if "judge" in vars(cls) or "score" in vars(cls):
            return "judge" in vars(cls)
    return False


@dataclass(frozen=True, eq=False)
class Asked:
    """What is asked for, with what competes.

    Attributes:
        texts: The C names that are asked for, then negatives of one's own, which are not reported.
        vocabulary: The C names.
        competitors: Of each of the C; None where nothing else competes.
        contradictory: (P, 2) int64 pairs of the C of which an object is one.
    """

    texts: TextEmbeddings
    vocabulary: Vocabulary
    competitors: Competitors | None = None
    contradictory: Tensor | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The C names."""
        return self.vocabulary.names

    @property
    def is_shown(self) -> bool:
        """Whether something of it is shown, so that there are no confidences."""
        return self.texts.vocabulary.shown is not None

    @property
    def count(self) -> int:
        """C."""
        return len(self.vocabulary)


class Negatives:
    """Puts what competes beside what is asked for, once for the same objects.

    Args:
        competition: What competes by itself; None for nothing.
        own: Names that compete and are not reported.
    """

    def __init__(
        self, competition: Competition | None = None, own: TextEmbeddings | None = None
    ) -> None:
        self.competition = competition
        self.own = own
        # By identity: embeddings are compared by it, and a vocabulary is encoded once.
        self._kept: dict[int, tuple[TextEmbeddings, Asked]] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides who competes, as JSON knows it."""
        own = self.own and [self.own.vocabulary.hash, self.own.text_length]
        return {"auto": self.competition and self.competition.settings, "own": own}

    def beside(self, asked: TextEmbeddings) -> Asked:
        """What is asked for, with what competes.

        Raises:
            ValueError: The embeddings are another encoder's.
        """
        if id(asked) not in self._kept:
            while len(self._kept) >= _MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))
            # With what is asked for, so that no other object takes its id.
            self._kept[id(asked)] = asked, self._joined(asked)
        return self._kept[id(asked)][1]

    def _joined(self, asked: TextEmbeddings) -> Asked:
        texts = asked if self.own is None else asked.with_negatives(self.own)
        if self.competition is None:
            return Asked(texts, asked.vocabulary, Competitors.own(asked))
        pairs: list[tuple[int, int]] = []
        if self.competition.attributes is not None:
            said = [prompts[0] if prompts else "" for prompts in asked.prompts]
            pairs = self.competition.attributes.contradictory(said)
        contradictory = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
        if self.own is None:
            competitors = self.competition.against(asked)
        else:
            competitors = self.competition.told_apart(asked, texts)
        return Asked(texts, asked.vocabulary, competitors, contradictory)
