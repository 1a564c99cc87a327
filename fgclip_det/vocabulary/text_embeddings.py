"""Embeddings of a vocabulary, with all that tells whose they are."""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from tqdm import tqdm

from fgclip_det.io import (
    bars_are_shown,
    one_line,
    parse_json,
    quoted,
    read_tensor_header,
    write_bytes,
)
from fgclip_det.ops.finite import check_finite
from fgclip_det.vocabulary.same_words import Said
from fgclip_det.vocabulary.shown.exemplars import Shown
from fgclip_det.vocabulary.vocabulary import Vocabulary

_KIND = "fgclip_det.TextEmbeddings"
# Seconds: what takes less needs no bar.
_BAR_AFTER = 2.0
# A matrix product of few rows is rounded otherwise than one of many.
_LEAST_BATCH, _FILLER = 8, "a"


class TextEncoder(Protocol):
    """Attributes and method needed of an encoder; `FGCLIP` has them."""

    fingerprint: str
    projection_dim: int

    def encode_text(
        self, texts: Sequence[str], text_length: str = "short", normalize: bool = False
    ) -> Tensor:
        """B texts -> (B, D)."""


# Compared by identity: a generated == would fail on the tensors; `hash` compares the contents.
@dataclass(frozen=True, eq=False)
class TextEmbeddings:
    """Embeddings of the names of a vocabulary; stands in for the text tower.

    Attributes:
        vocabulary: Names, prompts, templates and groups.
        embeddings: (C, D) float32, unit length, one row for each name.
        encoder_fingerprint: Of the encoder that made them.
        text_length: The text length they were made with.
        negatives: (Q, D) float32, unit length, what single names are told apart from: a row for
            each of `Vocabulary.negatives`. None for none.
    """

    vocabulary: Vocabulary
    embeddings: Tensor
    encoder_fingerprint: str
    text_length: str = "short"
    negatives: Tensor | None = None

    @classmethod
    @torch.no_grad()
    def encode(
        cls,
        vocabulary: Vocabulary,
        encoder: TextEncoder,
        text_length: str = "short",
        batch_size: int = 256,
        cache_dir: str | os.PathLike | None = None,
        steady: bool = False,
    ) -> TextEmbeddings:
        """Encode each prompt in each template, normalise, average over a name, normalise.

        Args:
            vocabulary: What to encode.
            encoder: For example an `FGCLIP`.
            text_length: "short" or "long".
            batch_size: Texts encoded at once.
            cache_dir: Folder to keep results in and look for them; one that is broken is remade.
            steady: Whether rounding is to be the same whatever else is encoded: only texts of as
                many tokens share a batch, and none is small.

        Returns:
            The embeddings, on the encoder's device.

        Raises:
            ValueError: Something is shown, which a text encoder cannot see.
        """
        if vocabulary.shown is not None:
            raise ValueError(
                f"{quoted(next(iter(vocabulary.shown)))} is shown, which no text encoder can see: "
                "ask a detector (OpenVocabInferencer.encode), or give embeddings that it saved"
            )
        cached = None
        if cache_dir is not None:
            name = f"{vocabulary.hash}-{encoder.fingerprint}-{text_length}.safetensors"
            cached = Path(cache_dir) / name
            found = _load_cached(cls, cached, vocabulary, encoder.fingerprint)
            if found is not None:
                # The kept ones may have other thresholds, which are no part of the name.
                found = replace(found, vocabulary=vocabulary)
                return found.to(getattr(encoder, "device", "cpu"))
        sentences = vocabulary.sentences()
        rows = {text: i for i, text in enumerate(dict.fromkeys(_flatten(sentences)))}
        encoded = _encode_texts(list(rows), encoder, text_length, batch_size, steady)
        row_of_text = torch.tensor([rows[text] for text in _flatten(sentences)])
        name_of_text = torch.tensor([i for i, group in enumerate(sentences) for _ in group])
        sums = torch.zeros(len(vocabulary), encoded.shape[1], device=encoded.device)
        sums.index_add_(0, name_of_text.to(encoded.device), encoded[row_of_text])
        made = cls(vocabulary, F.normalize(sums, dim=-1), encoder.fingerprint, text_length)
        if cached is not None:
            made.save(cached)
        return made

    @property
    def names(self) -> tuple[str, ...]:
        """Names, in the order of the rows."""
        return self.vocabulary.names

    @property
    def prompts(self) -> tuple[tuple[str, ...], ...]:
        """Prompts of each name."""
        return self.vocabulary.prompts

    @property
    def templates(self) -> tuple[str, ...]:
        """Sentences the prompts were put into."""
        return self.vocabulary.templates

    @property
    def groups(self) -> dict[str, list[str]] | None:
        """Base and novel names, if the vocabulary tells them."""
        return self.vocabulary.groups

    @property
    def dim(self) -> int:
        """Width D of the space."""
        return self.embeddings.shape[1]

    @property
    def hash(self) -> str:
        """16 hex digits of the labels, the encoder and the numbers."""
        digest = hashlib.sha256(self.vocabulary.hash.encode())
        digest.update(f"{self.encoder_fingerprint} {self.text_length}".encode())
        if self.vocabulary.thresholds is not None:
            digest.update(json.dumps(self.vocabulary.thresholds, sort_keys=True).encode())
        for tensor in self._tensors().values():
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.vocabulary)

    def to(self, device: torch.device | str) -> TextEmbeddings:
        """The same with the numbers on `device`."""
        negatives = None if self.negatives is None else self.negatives.to(device)
        return replace(self, embeddings=self.embeddings.to(device), negatives=negatives)

    def subset(self, which: Any) -> TextEmbeddings:
        """The rows of a group or of the given names; see `Vocabulary.subset`."""
        kept = self.vocabulary.subset(which)
        position = {name: i for i, name in enumerate(self.names)}
        rows = [position[name] for name in kept.names]
        negatives = self.negatives
        if negatives is not None:
            own = [self.names[row] in kept.names for row, _ in self.vocabulary.negatives]
            negatives = negatives[torch.tensor(own)] if any(own) else None
        return replace(self, vocabulary=kept, embeddings=self.embeddings[rows], negatives=negatives)

    def with_thresholds(self, calibration: Any) -> TextEmbeddings:
        """The same with the thresholds of a calibration; see `Vocabulary.with_thresholds`."""
        return replace(self, vocabulary=self.vocabulary.with_thresholds(calibration))

    def with_negatives(self, negatives: TextEmbeddings) -> TextEmbeddings:
        """These names, then those of `negatives` that do not say the same as one of them.

        The labels of these names stay what they are, and so do their groups.

        Raises:
            ValueError: The two are of different encoders.
        """
        negatives.check_encoder(self.encoder_fingerprint)
        asked = Said(word for words in (self.names, *self.prompts) for word in words)
        rows = [
            i
            for i, (name, prompts) in enumerate(
                zip(negatives.names, negatives.prompts, strict=True)
            )
            if not any(word in asked for word in (name, *prompts))
        ]
        vocabulary = Vocabulary(
            (*self.names, *(negatives.names[i] for i in rows)),
            (*self.prompts, *(negatives.prompts[i] for i in rows)),
            groups=self.groups and self._joined_groups(negatives, rows),
            shown=self._joined_shown(negatives, rows),
        )
        others = negatives.embeddings[rows].to(self.embeddings)
        return replace(self, vocabulary=vocabulary, embeddings=torch.cat([self.embeddings, others]))

    def _joined_shown(self, negatives: TextEmbeddings, rows: list[int]) -> dict[str, Shown] | None:
        added = {negatives.names[row] for row in rows}
        others = (negatives.vocabulary.shown or {}).items()
        others = {name: one.without_negatives for name, one in others if name in added}
        return {**(self.vocabulary.shown or {}), **others} or None

    def _joined_groups(self, negatives: TextEmbeddings, rows: list[int]) -> dict[str, list[str]]:
        base = negatives.is_base(self.vocabulary.base_classes).tolist()
        added = {"base": [negatives.names[i] for i in rows if base[i]]}
        return {
            group: [*members, *added.get(group, ())]
            for group, members in {"base": [], **(self.groups or {})}.items()
        }

    def _tensors(self) -> dict[str, Tensor]:
        given = {"embeddings": self.embeddings, "negatives": self.negatives}
        return {
            name: tensor.detach().to("cpu", torch.float32).contiguous()
            for name, tensor in given.items()
            if tensor is not None
        }

    def is_base(self, default_base_classes: Iterable[str] | None = None) -> Tensor:
        """(C,) bool: which names are base classes.

        By the vocabulary's own groups; without groups a name is base if it, or one of its prompts,
        is among `default_base_classes`, articles and case aside. All others are novel.
        """
        if self.groups is None:
            return self.find(default_base_classes or ()) >= 0
        base = set(self.groups.get("base", ()))
        return torch.tensor(
            [name in base for name in self.names], dtype=torch.bool, device=self.embeddings.device
        )

    def find(self, names: Iterable[str]) -> Tensor:
        """(C,) int64: which of `names` each name, or one of its prompts, is; -1 where none.

        Articles and case do not matter.
        """
        found = self.vocabulary.places_in(names)
        return torch.tensor(found, dtype=torch.int64, device=self.embeddings.device)

    def check_encoder(self, encoder: TextEncoder | str) -> None:
        """Make sure that `encoder` (or the one of that fingerprint) made these embeddings.

        Raises:
            ValueError: Another one did.
        """
        fingerprint = encoder if isinstance(encoder, str) else encoder.fingerprint
        if fingerprint != self.encoder_fingerprint:
            raise ValueError(
                f"text embeddings of encoder {self.encoder_fingerprint} cannot be used with "
                f"encoder {fingerprint}: encode the vocabulary again with this encoder"
            )

    def save(self, path: str | os.PathLike) -> None:
        """Write everything to one ``.safetensors`` file, or nothing; makes its folder.

        Raises:
            ValueError: The embeddings hold NaN or an infinity.
            OSError: Writing failed.
        """
        path = Path(path)
        labels = {
            "kind": _KIND,
            "vocabulary": json.dumps(self.vocabulary.to_dict()),
            "encoder_fingerprint": self.encoder_fingerprint,
            "text_length": self.text_length,
            "hash": self.hash,
        }
        tensors = self._tensors()
        check_finite(tensors, f"what would be written to {str(path)!r}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, save(tensors, labels))

    @classmethod
    def load(cls, path: str | os.PathLike) -> TextEmbeddings:
        """Read what `save` wrote.

        Raises:
            ValueError: The file is missing, truncated, of another kind, or was altered, or holds
                NaN or an infinity.
        """
        where = repr(str(path))
        labels = read_tensor_header(path, "file of text embeddings").labels
        if labels.get("kind") != _KIND:
            raise ValueError(
                f"{where} holds no text embeddings of fgclip_det: make them with "
                "TextEmbeddings.encode(...).save(path)"
            )
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(f"{where} cannot be read ({one_line(error)}): truncated?") from None
        altered = f"{where} was altered after it was written: encode again"
        try:
            embeddings, form = tensors["embeddings"], parse_json(labels["vocabulary"], "vocabulary")
            # Not a name or a text, which may lead to another file.
            if not isinstance(form, dict) or not isinstance(form["names"], dict):
                raise ValueError(altered)
            vocabulary = Vocabulary.parse(form)
            fingerprint, text_length = labels["encoder_fingerprint"], labels["text_length"]
        except (KeyError, ValueError):
            raise ValueError(altered) from None
        negatives = tensors.get("negatives")
        loaded = cls(vocabulary, embeddings, fingerprint, text_length, negatives)
        counts = {"embeddings": len(vocabulary)}
        counts |= {"negatives": len(vocabulary.negatives)} if vocabulary.negatives else {}
        if {*tensors} != {*counts} or not all(
            tensor.ndim == 2
            and tensor.shape == (counts[name], embeddings.shape[1])
            and tensor.is_floating_point()
            for name, tensor in tensors.items()
        ):
            raise ValueError(altered)
        check_finite(tensors, where)
        if loaded.hash != labels.get("hash"):
            raise ValueError(altered)
        return loaded


def _flatten(groups: Iterable[Iterable[str]]) -> list[str]:
    return [text for group in groups for text in group]


def _encode_texts(
    texts: list[str], encoder: TextEncoder, text_length: str, batch_size: int, steady: bool
) -> Tensor:
    # Sorted by length, so that a batch is padded little and its result depends on it little.
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    groups = _of_equal_width(order, texts, encoder, text_length) if steady else [order]
    batches = [
        group[i : i + batch_size] for group in groups for i in range(0, len(group), batch_size)
    ]
    rows: list[Tensor] = []
    shown = tqdm(batches, desc="texts", delay=_BAR_AFTER, disable=not bars_are_shown())
    for batch in shown:
        said = [texts[i] for i in batch]
        if steady:
            said += [_FILLER] * (_LEAST_BATCH - len(said))
        encoded = encoder.encode_text(said, text_length, normalize=True)
        rows.append(encoded[: len(batch)].float())
    order = [i for batch in batches for i in batch]
    inverse = torch.empty(len(order), dtype=torch.long)
    inverse[torch.tensor(order)] = torch.arange(len(order))
    return torch.cat(rows)[inverse]


def _of_equal_width(
    order: list[int], texts: list[str], encoder: Any, text_length: str
) -> list[list[int]]:
    """Texts by their numbers of tokens, where the encoder tells them."""
    if not hasattr(encoder, "tokenize"):
        return [order]
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for i in order:
        groups[encoder.tokenize([texts[i]], text_length).shape[1]].append(i)
    return [*groups.values()]


def _load_cached(
    cls: type[TextEmbeddings], path: Path, vocabulary: Vocabulary, fingerprint: str
) -> TextEmbeddings | None:
    if not path.is_file():
        return None
    try:
        found = cls.load(path)
        found.check_encoder(fingerprint)
    except ValueError:
        return None
    return found if found.vocabulary == vocabulary else None
