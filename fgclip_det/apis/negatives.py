"""Names that compete unseen, so that the share of one name that is asked for means something."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from fgclip_det.encoders import FGCLIP, FGCLIP2
from fgclip_det.hub import cache_folder
from fgclip_det.io import one_line, quoted
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from fgclip_det.vocabulary.same_words import same_words

_MOST_KEPT = 8
# Synonyms that a name may have in the vocabularies under other words.
_MOST_ALIKE = 5


class BuiltinNegatives:
    """The names of vocabularies, minus what says the same as what is asked for.

    The same is the same words, but for articles, case, plurals, and remarks in brackets; or a text
    whose cosine with one that is asked for is above a bound. Of the latter only the few nearest to
    each name: an encoder to which all texts are alike would leave nothing that competes.

    Args:
        encoder: Of what is asked for.
        vocabularies: Any forms that `Vocabulary.parse` takes.
        max_cosine: That bound, in [-1, 1]; 1 leaves it to the words.
        cache_dir: Folder that keeps the embeddings; None for one in the hub's cache.

    Raises:
        ValueError: There are no vocabularies, one cannot be read, or `max_cosine` is no such bound.
    """

    def __init__(
        self,
        encoder: FGCLIP | FGCLIP2,
        vocabularies: Iterable[Any] = ("coco", "lvis"),
        max_cosine: float = 0.9,
        cache_dir: str | os.PathLike | None = None,
    ) -> None:
        is_number = isinstance(max_cosine, int | float) and not isinstance(max_cosine, bool)
        if not is_number or not -1 <= max_cosine <= 1:
            raise ValueError(f"max_cosine of negatives is {quoted(max_cosine)}: give -1 to 1")
        self.max_cosine = max_cosine
        self.vocabulary = _joined(vocabularies)
        self._words = [
            {same_words(word) for word in (name, *prompts)}
            for name, prompts in zip(self.vocabulary.names, self.vocabulary.prompts, strict=True)
        ]
        self._encoder = encoder
        self._cache_dir = cache_dir
        self._encoded: TextEmbeddings | None = None
        # By identity: embeddings are compared by it, and a vocabulary is encoded once.
        self._kept: dict[tuple[int, int], tuple[Any, ...]] = {}

    @classmethod
    def of(cls, detector: Any) -> BuiltinNegatives | None:
        """Those that a detector's ``test_cfg`` asks for by ``negatives``: a dict of keywords.

        Raises:
            ValueError: They are no such dict.
        """
        settings = (getattr(detector, "test_cfg", None) or {}).get("negatives")
        if settings is None:
            return None
        unknown = not isinstance(settings, Mapping) or {*settings} - {"vocabularies", "max_cosine"}
        if unknown:
            raise ValueError(
                f"test_cfg.negatives is {quoted(settings)}: give dict(vocabularies=[...], "
                "max_cosine=...), or None"
            )
        return cls(detector.encoder, **settings, cache_dir=detector.text_cache_dir)

    def beside(self, asked: TextEmbeddings, own: TextEmbeddings | None = None) -> TextEmbeddings:
        """What is asked for, then negatives of one's own, then these, each if it adds something.

        Made once for the same objects: the next picture is asked in the same words.

        Raises:
            ValueError: The embeddings are another encoder's.
        """
        key = id(asked), id(own)
        if key not in self._kept:
            while len(self._kept) >= _MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))
            said = asked if own is None else asked.with_negatives(own)
            # With both of them, so that no other object takes their ids.
            self._kept[key] = self._joined(said), asked, own
        return self._kept[key][0]

    def _joined(self, asked: TextEmbeddings) -> TextEmbeddings:
        own = self._embeddings()
        own.check_encoder(asked.encoder_fingerprint)
        words = {same_words(word) for group in (asked.names, *asked.prompts) for word in group}
        cosines = own.embeddings @ asked.embeddings.to(own.embeddings).T
        nearest = cosines.topk(min(_MOST_ALIKE, len(own)), dim=0)
        alike = {*nearest.indices[nearest.values > self.max_cosine].tolist()}
        others = [
            name
            for place, (name, same) in enumerate(zip(own.names, self._words, strict=True))
            if place not in alike and not words & same
        ]
        return asked.with_negatives(own.subset(others)) if others else asked

    @torch.no_grad()
    def _embeddings(self) -> TextEmbeddings:
        if self._encoded is None:
            folder = self._cache_dir or cache_folder() / "fgclip_det" / "texts"
            length = self._encoder.region_text_length
            try:
                Path(folder).mkdir(parents=True, exist_ok=True)
                self._encoded = TextEmbeddings.encode(
                    self.vocabulary, self._encoder, length, cache_dir=folder
                )
            except OSError as error:
                warnings.warn(
                    f"{str(folder)!r} cannot keep the embeddings of negatives "
                    f"({one_line(error)}): they are made anew each time",
                    stacklevel=2,
                )
                self._encoded = TextEmbeddings.encode(self.vocabulary, self._encoder, length)
        return self._encoded


def _joined(vocabularies: Iterable[Any]) -> Vocabulary:
    """The names of several, each once, in one plain sentence, as what is asked for has it."""
    if isinstance(vocabularies, str):
        vocabularies = [vocabularies]
    prompts: dict[str, tuple[str, ...]] = {}
    seen: set[str] = set()
    for spec in vocabularies:
        vocabulary = Vocabulary.parse(spec)
        for name, said in zip(vocabulary.names, vocabulary.prompts, strict=True):
            if same_words(name) not in seen:
                prompts[name] = said
                seen.add(same_words(name))
    if not prompts:
        raise ValueError("negatives name no vocabularies: give some, or negatives=None")
    return Vocabulary(tuple(prompts), tuple(prompts.values()))
