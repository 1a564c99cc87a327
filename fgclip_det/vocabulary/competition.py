"""What competes unseen with each name that is asked for, whatever else is asked."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip_det.io import one_line, quoted
from fgclip_det.ops.finite import check_finite
from fgclip_det.vocabulary.attributes import Attributes
from fgclip_det.vocabulary.bank_words import BankWords
from fgclip_det.vocabulary.competing.competitors import Competitors as Competitors
from fgclip_det.vocabulary.competing.competitors import ToldApart
from fgclip_det.vocabulary.kept_texts import KeptTexts
from fgclip_det.vocabulary.region_bank import RegionBank
from fgclip_det.vocabulary.same_words import is_kind_of, same_words, words_said
from fgclip_det.vocabulary.text_embeddings import TextEmbeddings, TextEncoder
from fgclip_det.vocabulary.vocabulary import LONGEST_TEXT, Vocabulary
from fgclip_det.vocabulary.wording import check_wording, worded

# Results that are kept, and their rows together.
_MOST_KEPT, _MOST_ROWS = 8, 100_000
# Synonyms that a name may have in the bank under other words.
_MOST_ALIKE = 5
# Names whose cosines with the bank are there at once.
_BLOCK = 1024
# Above it the encoder cannot tell an exchanged phrase from the name: it cut both before the
# attribute, or does not know its words.
_INDISTINCT = 1 - 1e-6


class Competition:
    """Finds the competitors of names; keeps what it encoded.

    The bank holds the names of vocabularies, encoded in one plain sentence, as what users ask for
    is. For each name by itself those that say the same do not compete: they have the same words
    (see `same_words`), are kinds of it (see `is_kind_of`), or are among the five nearest and their
    cosine is above a bound. More than those few would leave nothing where all texts are alike to an
    encoder. What has the name's words and attributes beside speaks for it: "a cyan striped ring"
    where "a ring" is asked for.

    The exchanges of a name are made of its first prompt (see `Attributes.exchanges`), and encoded
    in its sentences. Those that the bank has in the very same sentence compete from there.

    Args:
        encoder: Of what is asked for.
        vocabularies: Any forms that `Vocabulary.parse` takes; none for no bank.
        max_cosine: That bound, in [-1, 1]; 1 leaves it to the words.
        attributes: The lists, or a file that `Attributes.load` reads; "packaged" for the package's,
            None for no exchanges.
        cache_dir: Folder that keeps the embeddings of the bank; None for none.
        max_exchanges: The most of one name. Memory is at most ``C * max_exchanges * D`` float32,
            for names that share none.
        region_bank: Regions with which names are compared beside, or their file; None for none.
        wording: Sentence such as "a {}" in which names without an article are judged, and compete;
            None for as they are typed.

    Raises:
        ValueError: A vocabulary, the lists or the regions cannot be read, a number is no such
            bound, or the regions are another encoder's.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        vocabularies: Iterable[Any] = ("coco", "lvis"),
        max_cosine: float = 0.9,
        attributes: Attributes | str | os.PathLike | None = "packaged",
        cache_dir: str | os.PathLike | None = None,
        max_exchanges: int = 24,
        region_bank: RegionBank | str | os.PathLike | None = None,
        wording: str | None = None,
    ) -> None:
        is_number = isinstance(max_cosine, int | float) and not isinstance(max_cosine, bool)
        if not is_number or not -1 <= max_cosine <= 1:
            raise ValueError(f"max_cosine of negatives is {quoted(max_cosine)}: give -1 to 1")
        if type(max_exchanges) is not int or max_exchanges < 0:
            raise ValueError(
                f"max_exchanges of negatives is {quoted(max_exchanges)}: give a whole number from "
                "0 on"
            )
        check_wording(wording)
        self.wording = wording
        self.max_cosine = max_cosine
        self.max_exchanges = max_exchanges
        bank = _joined(vocabularies)
        self.bank = None if bank is None else worded(bank, wording)
        self.attributes = _attributes(attributes)
        if isinstance(region_bank, str | os.PathLike):
            region_bank = RegionBank.load(region_bank)
        if region_bank is not None:
            region_bank.check_encoder(encoder.fingerprint)
        self.region_bank = region_bank
        self._encoder = encoder
        self._cache_dir = cache_dir
        self._bank: TextEmbeddings | None = None
        self._phrases = KeptTexts(encoder)
        self._words = BankWords(self.bank, self.attributes)
        # By identity: embeddings are compared by it, and a vocabulary is encoded once.
        self._kept: dict[int, tuple[TextEmbeddings, Competitors]] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides who competes, as JSON knows it: hashes, and numbers."""
        settings: dict[str, Any] = {
            "bank": self.bank and self.bank.hash,
            "attributes": self.attributes and self.attributes.hash,
            "max_cosine": self.max_cosine,
            "max_exchanges": self.max_exchanges,
            "kinds": "the mean of attributes added",
        }
        if self.region_bank is not None:
            settings["region_bank"] = self.region_bank.hash
        if self.wording is not None:
            settings["wording"] = self.wording
        return settings

    def against(self, asked: TextEmbeddings) -> Competitors:
        """Competitors of all that is asked for, on the device of its embeddings.

        Found once for the same object: the next picture is asked in the same words.

        Raises:
            ValueError: The embeddings are another encoder's, or hold NaN or an infinity.
        """
        asked.check_encoder(self._encoder.fingerprint)
        if id(asked) not in self._kept:
            check_finite({"embeddings": asked.embeddings}, "what is asked for")
            made = self._made(asked)
            rows = len(made) + sum(len(other) for _, other in self._kept.values())
            while self._kept and (len(self._kept) >= _MOST_KEPT or rows > _MOST_ROWS):
                rows -= len(self._kept.pop(next(iter(self._kept)))[1])
            # With what is asked for, so that no other object takes its id.
            self._kept[id(asked)] = asked, made
        return self._kept[id(asked)][1]

    @torch.no_grad()
    def _made(self, asked: TextEmbeddings) -> Competitors:
        vocabulary = self._worded(asked.vocabulary)
        judged = self.judged(asked)
        words = words_said(asked.names, asked.prompts)
        bank = self.bank_embeddings().to(asked.embeddings)
        size = len(bank)
        excluded = {
            (number, row)
            for number, said in enumerate(words)
            for word in said
            for row in self._words.rows_within(word)
        }
        excluded |= _alike(judged, bank, self.max_cosine)
        # Of what is shown alone nobody knows the name, which the bank may have.
        alone = [row for row, prompts in enumerate(asked.prompts) if not prompts]
        excluded |= {(alone[row], other) for row, other in _alike(judged[alone], bank, -1.0)}
        kinds = [
            (name, row)
            for name, said in enumerate(words)
            if asked.prompts[name]
            for row in self._words.kinds(said)
        ]
        rows: dict[str, int] = {}
        pairs: list[tuple[int, int]] = []
        in_bank = self._rows_of_texts(asked)
        for number, (said, prompts) in enumerate(zip(words, vocabulary.prompts, strict=True)):
            for phrase in self._exchanges(prompts[0], said) if prompts else ():
                if (number, in_bank.get(phrase)) in excluded or phrase not in in_bank:
                    pairs.append((number, rows.setdefault(phrase, size + len(rows))))
        embeddings = self._phrases.encode(list(rows), asked.templates, asked.text_length)
        embeddings = torch.cat([bank, embeddings.to(bank)])
        exchanges = _distinct_pairs(_pairs(pairs, bank.device), judged, embeddings)
        same = [self._words.rows_of(same_words(phrase)) for phrase in rows]
        for number, row in exchanges.tolist():
            excluded.update((number, other) for other in same[row - size])
        made = Competitors(
            (*(self.bank or ()), *rows),
            embeddings,
            size,
            _pairs(sorted(excluded), bank.device),
            exchanges,
            asked.encoder_fingerprint,
            self.region_bank,
            None if self.wording is None else judged,
            _pairs(kinds, bank.device) if kinds else None,
        )
        return Competitors.own(asked, made) or made

    def told_apart(self, asked: TextEmbeddings, texts: TextEmbeddings) -> Competitors:
        """Competitors of all that is asked for, which know what speaks for negatives of one's own.

        Args:
            asked: The C names.
            texts: These names, then Q negatives.

        Raises:
            ValueError: See `against`.
        """
        competitors = self.against(asked)
        # What something is called that is only shown says nothing of it.
        said = zip(words_said(texts.names, texts.prompts), texts.prompts, strict=True)
        words = [own if prompts else set() for own, prompts in said]
        names, negatives = words[: len(asked)], words[len(asked) :]
        kinds = [
            (place, row)
            for place, said in enumerate(negatives)
            for row in sorted(
                {*self._words.kinds(said), *(r for own in said for r in self._words.rows_of(own))}
            )
        ]
        known = {place for place, _ in kinds}
        narrower, vague = [], []
        for place, said in enumerate(negatives):
            for name, own in enumerate(names):
                if any(is_kind_of(kind, general) for kind in own for general in said):
                    narrower.append((name, place))
                elif place not in known and any(is_kind_of(a, b) for a in said for b in own):
                    vague.append((name, place))
        if not kinds and not vague:
            return competitors
        device = competitors.embeddings.device
        found = ToldApart(*(_pairs(pairs, device) for pairs in (kinds, narrower, vague)))
        return replace(competitors, told_apart=found)

    def _rows_of_texts(self, asked: TextEmbeddings) -> dict[str, int]:
        """The bank's rows by their text, if that is encoded as what is asked for is."""
        if self.bank is None:
            return {}
        here, there = self.bank.templates, asked.templates
        is_alike = (here, self._bank_length) == (there, asked.text_length)
        return self._words.rows_of_texts() if is_alike else {}

    def _worded(self, vocabulary: Vocabulary) -> Vocabulary:
        """Names in the wording that they are judged in, which is the bank's where it has the name.

        So "red striped circles" are judged as "a red striped circle".
        """
        vocabulary = worded(vocabulary, self.wording)
        if self.wording is None or self.bank is None or vocabulary.templates != self.bank.templates:
            return vocabulary
        return self._words.said_as_here(vocabulary)

    @torch.no_grad()
    def judged(self, asked: TextEmbeddings) -> Tensor:
        """(C, D) of unit length, names in the wording that they are judged in.

        Where there is none, and of what is shown, it is what is asked for; else the mean of each
        name's prompts, which are kept. Names that are in the wording already are encoded too: what
        was asked for is rounded as its batch was.
        """
        if self.wording is None:
            return asked.embeddings
        vocabulary = self._worded(asked.vocabulary)
        shown = vocabulary.shown or {}
        rows = {text: row for row, text in enumerate(dict.fromkeys(chain(*vocabulary.prompts)))}
        encoded = self._phrases.encode(list(rows), vocabulary.templates, asked.text_length)
        judged = asked.embeddings.to(encoded).clone()
        for row, (name, said) in enumerate(zip(asked.names, vocabulary.prompts, strict=True)):
            if name not in shown or not shown[name].like:
                judged[row] = encoded[[rows[text] for text in said]].mean(dim=0)
        return F.normalize(judged, dim=-1).to(asked.embeddings)

    def _exchanges(self, prompt: str, said: set[str]) -> list[str]:
        if self.attributes is None:
            return []
        return [
            phrase
            for phrase in self.attributes.exchanges(prompt, self.max_exchanges)
            if same_words(phrase) not in said and len(phrase) <= LONGEST_TEXT
        ]

    def bank_embeddings(self) -> Tensor:
        """(M, D) float32 of unit length, the names of the bank, on the encoder's device."""
        if self.bank is None:
            return torch.zeros(0, self._encoder.projection_dim)
        if self._bank is None or self._bank.encoder_fingerprint != self._encoder.fingerprint:
            self._bank = self._encoded_bank(self.bank)
        return self._bank.embeddings

    @property
    def _bank_length(self) -> str:
        return getattr(self._encoder, "region_text_length", "short")

    def _encoded_bank(self, bank: Vocabulary) -> TextEmbeddings:
        length = self._bank_length
        if self._cache_dir is not None:
            try:
                Path(self._cache_dir).mkdir(parents=True, exist_ok=True)
                return TextEmbeddings.encode(bank, self._encoder, length, cache_dir=self._cache_dir)
            except OSError as error:
                warnings.warn(
                    f"{str(self._cache_dir)!r} cannot keep the embeddings of negatives "
                    f"({one_line(error)}): they are made anew each time",
                    stacklevel=2,
                )
        return TextEmbeddings.encode(bank, self._encoder, length)


def _attributes(attributes: Attributes | str | os.PathLike | None) -> Attributes | None:
    if attributes is None or isinstance(attributes, Attributes):
        return attributes
    return Attributes.load(None if attributes == "packaged" else attributes)


def _joined(vocabularies: Iterable[Any]) -> Vocabulary | None:
    """The names of several, each once, in one plain sentence."""
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
    return Vocabulary(tuple(prompts), tuple(prompts.values())) if prompts else None


def _alike(asked: Tensor, bank: Tensor, max_cosine: float) -> set[tuple[int, int]]:
    """Pairs (name, row of the bank), the row being near to that name and above the bound."""
    found: set[tuple[int, int]] = set()
    for start in range(0, len(asked), _BLOCK):
        cosines = asked[start : start + _BLOCK].to(bank) @ bank.T
        nearest = cosines.topk(min(_MOST_ALIKE, len(bank)), dim=1)
        name, place = (nearest.values > max_cosine).nonzero(as_tuple=True)
        rows = nearest.indices[name, place]
        found.update(zip((name + start).tolist(), rows.tolist(), strict=True))
    return found


def _distinct_pairs(pairs: Tensor, asked: Tensor, embeddings: Tensor) -> Tensor:
    """The pairs (name, row) whose embeddings the encoder can tell from another."""
    if not len(pairs):
        return pairs
    cosines = [
        (asked[part[:, 0]].to(embeddings) * embeddings[part[:, 1]]).sum(dim=1)
        for part in pairs.split(_BLOCK)
    ]
    return pairs[torch.cat(cosines) < _INDISTINCT]


def _pairs(pairs: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    return torch.tensor(list(pairs), dtype=torch.int64, device=device).reshape(-1, 2)
