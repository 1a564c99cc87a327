"""Many vocabularies asked of one image: FG-OVD's protocol in one pass per image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from fgclip_det.encoders import FGCLIP
from fgclip_det.models.regions.regions import Regions
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary

# Captions that are encoded at once. Of more, a CPU's caches hold too little: 256 took up to twice
# as long for each.
_BATCH = {"cpu": 64, "cuda": 256}


class RegionClassifier(Protocol):
    """Methods needed of the second stage; `OpenVocabRoIHead` has them."""

    def score(self, regions: Regions, text_embeddings: Tensor, is_base: Tensor) -> Tensor:
        """Scores (K, C) of regions against (C, D) texts."""

    def classify(
        self, regions: Regions, text_embeddings: Tensor, is_base: Tensor, rescale: bool = True
    ) -> InstanceData:
        """Detections, with ``regions``, their rows of `regions`."""


class CaptionEmbeddings:
    """Embeddings of captions, each encoded once however often it is asked for.

    Captions are taken as they stand, without templates.

    Args:
        encoder: The detector's.
        base_names: What the detector was trained on: base classes, where asked for.
        text_length: Which of the encoder's text lengths; longer captions are cut.
    """

    def __init__(
        self,
        encoder: FGCLIP,
        base_names: Sequence[str] = (),
        text_length: str = "short",
    ) -> None:
        self.encoder = encoder
        self.base_names = list(base_names)
        self.text_length = text_length
        self._rows: dict[str, int] = {}
        self._embeddings: Tensor | None = None
        self._is_base: Tensor | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, captions: Iterable[str], cache_dir: str | None = None) -> None:
        """Encode those captions that are new.

        Args:
            captions: In any order; they may repeat.
            cache_dir: Folder that keeps their embeddings in one file, and gives them back.
        """
        new = [text for text in dict.fromkeys(captions) if text not in self._rows]
        if not new:
            return
        vocabulary = Vocabulary(tuple(new), tuple((text,) for text in new))
        with torch.autocast(self.encoder.device.type, enabled=False):
            texts = TextEmbeddings.encode(
                vocabulary,
                self.encoder,
                self.text_length,
                batch_size=_BATCH.get(self.encoder.device.type, _BATCH["cuda"]),
                cache_dir=cache_dir,
            )
        is_base = texts.is_base(self.base_names)
        if self._embeddings is None or self._is_base is None:
            self._embeddings, self._is_base = texts.embeddings, is_base
        else:
            self._embeddings = torch.cat([self._embeddings, texts.embeddings])
            self._is_base = torch.cat([self._is_base, is_base])
        self._rows.update((text, len(self._rows)) for text in new)

    def rows(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(C, D) embeddings and (C,) bool "is a base class" of captions, which may repeat."""
        self.add(captions)
        assert self._embeddings is not None and self._is_base is not None
        device = self.encoder.device
        places = torch.tensor([self._rows[text] for text in captions], device=device)
        return self._embeddings.to(device)[places], self._is_base.to(device)[places]


def classify_vocabularies(
    head: RegionClassifier,
    regions: Regions,
    vocabularies: Sequence[Sequence[str]],
    captions: CaptionEmbeddings,
    rescale: bool = True,
) -> Iterator[InstanceData]:
    """Detections of one image for one vocabulary after another.

    The numbers are those of a detector that is run anew with each vocabulary.

    Args:
        head: Second stage of a detector.
        regions: Of the image, from `propose`.
        vocabularies: Captions to look for, vocabulary by vocabulary; they may repeat.
        captions: Embeddings; what is missing is encoded.
        rescale: Whether boxes are wanted in pixels of the original picture.

    Yields:
        For each vocabulary what `OpenVocabRoIHead.classify` gives, ``labels`` being places in it,
        and ``caption_scores`` (M, C), all its scores of each detection.
    """
    captions.add(text for vocabulary in vocabularies for text in vocabulary)
    for vocabulary in vocabularies:
        embeddings, is_base = captions.rows(vocabulary)
        found = head.classify(regions, embeddings, is_base, rescale=rescale)
        found.caption_scores = head.score(regions[found.regions], embeddings, is_base)
        yield found
