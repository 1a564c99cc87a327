"""The mixin of all open-vocabulary detectors: their vocabularies and text embeddings."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import scale_boxes
from mmengine.structures import InstanceData
from torch import Tensor, nn

from fgclip_det.encoders import FGCLIP
from fgclip_det.encoders.pretrained import fingerprint
from fgclip_det.models.detectors.calibrated import Calibrated
from fgclip_det.models.regions.image_vocabularies import (
    CaptionEmbeddings,
    RegionClassifier,
    classify_vocabularies,
)
from fgclip_det.models.regions.regions import Regions
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from fgclip_det.vocabulary.competition import Competitors

# Settings that decide nothing once a detector is trained.
_OF_TRAINING = ("init_cfg", "pretrained", "train_cfg")

Texts = TextEmbeddings | Vocabulary | str | os.PathLike | Sequence[str]


class OpenVocabulary(Calibrated):
    """Mixed into a detector of MMDetection's that has `encoder`, `propose`, `region_classifier`."""

    encoder: FGCLIP
    region_classifier: RegionClassifier
    data_preprocessor: nn.Module
    test_cfg: Any

    @property
    def regions_hash(self) -> str:
        """16 hex digits of all that makes regions, beside the encoder's weights.

        Regions of a detector with another one are not those that this one would give. What is
        decided when they are asked, such as thresholds of detections, is no part of it.
        """
        settings = {"class": type(self).__name__, **self._region_settings()}
        preprocessing = {
            key: getattr(self.data_preprocessor, key, None)
            for key in ("mean", "std", "_channel_conversion", "pad_size_divisor", "pad_value")
        }
        told = _told({**settings, "preprocessing": preprocessing})
        text = json.dumps(told, sort_keys=True, default=_named)
        return fingerprint({"settings": text}, self.state_dict())

    def _region_settings(self) -> dict[str, Any]:
        """Settings that regions depend on, as far as weights do not tell them."""
        raise NotImplementedError

    def _init_vocabulary(self, vocabulary: Texts | None, text_cache_dir: str | None) -> None:
        """To be called by the constructor.

        Args:
            vocabulary: What training labels index (its base group, or all of it where it has no
                groups), and what `predict` looks for until `set_vocabulary` is called.
            text_cache_dir: Directory that keeps encoded vocabularies; None keeps none.
        """
        self.text_cache_dir = text_cache_dir
        self.training_vocabulary = read_texts(vocabulary) if vocabulary is not None else None
        self._texts: TextEmbeddings | Vocabulary | None = self.training_vocabulary
        self._training_texts: Tensor | None = None
        self._captions: CaptionEmbeddings | None = None

    @property
    def vocabulary(self) -> Vocabulary | TextEmbeddings | None:
        """The vocabulary of `predict`."""
        return self._texts

    @property
    def text_embeddings(self) -> TextEmbeddings:
        """Embeddings of what `predict` looks for, encoded when first asked for.

        Raises:
            ValueError: The detector has no vocabulary.
        """
        if self._texts is None:
            raise ValueError("the detector has no vocabulary: call set_vocabulary first")
        self._texts = self.encode_vocabulary(self._texts)
        return self._texts

    def encode_vocabulary(self, vocabulary: Texts) -> TextEmbeddings:
        """Embeddings of a vocabulary by this detector's encoder.

        Raises:
            ValueError: It cannot be parsed, or its embeddings are another encoder's.
        """
        texts = read_texts(vocabulary)
        if isinstance(texts, TextEmbeddings):
            texts.check_encoder(self.encoder)
            return texts
        device_type = self.encoder.device.type
        with torch.no_grad(), torch.autocast(device_type, enabled=False):
            return TextEmbeddings.encode(
                texts,
                self.encoder,
                self.encoder.region_text_length,
                cache_dir=self.text_cache_dir,
                steady=True,
            )

    def set_vocabulary(self, vocabulary: Texts) -> None:
        """Change what `predict` looks for; what training labels index stays as it is."""
        self._texts = self.encode_vocabulary(vocabulary)

    @property
    def captions(self) -> CaptionEmbeddings:
        """Embeddings of the captions that images brought with them, or that were added before."""
        if self._captions is None:
            self._captions = CaptionEmbeddings(
                self.encoder, self._base_names(), self.encoder.region_text_length
            )
        return self._captions

    @torch.no_grad()
    def classify(
        self,
        regions: Sequence[Regions],
        text_embeddings: TextEmbeddings | Sequence[TextEmbeddings],
        rescale: bool = True,
        competitors: Competitors | Sequence[Competitors] | None = None,
        contradictory: Tensor | Sequence[Tensor] | None = None,
        one_name: bool = False,
        counts: Sequence[int] | None = None,
        hides: bool = True,
    ) -> list[InstanceData]:
        """Detections in regions.

        Without `competitors`, scores are shares among the names that are asked for. With them,
        they are shares among these too, what fits one of them better is not detected, and where
        the detector has a calibration the detections are chosen by ``confidences``.

        Args:
            regions: One for each image, from `propose`.
            text_embeddings: What to look for, in all images or one for each.
            rescale: Whether boxes are wanted in pixels of the original picture; otherwise they
                are in pixels of the network input.
            competitors: Of the names, see `Competition`; None for none.
            contradictory: (P, 2) int64 pairs of names of which an object has only one; None for
                none. As `competitors`, of all images or one for each.
            one_name: Whether a place has one name only, whatever the config says.
            counts: Of each image how many names are asked for, those that `competitors` are of.
                Names beyond are negatives: what fits one better is not detected. None for all.
            hides: Whether competitors take their shares, and hide what they fit better. If not,
                scores are as without them, and confidences alone know of them.

        Returns:
            For each image ``bboxes`` (M, 4) xyxy, ``scores`` (M,), ``labels`` (M,) int64 rows of
            its text embeddings, ``regions`` (M,) int64 rows of its regions, and with competitors
            and a calibration ``confidences`` (M,) in [0, 1], or where that has no fitted curve
            ``evidence`` (M,); by falling confidence, evidence, or else score.

        Raises:
            ValueError: Not as many text embeddings, competitors or pairs as images, or some or the
                regions are another encoder's.
        """
        texts = _one_each(text_embeddings, TextEmbeddings, len(regions), "text embeddings")
        rivals = _one_each(competitors, Competitors | None, len(regions), "competitors")
        pairs = _one_each(contradictory, Tensor | None, len(regions), "contradictory pairs")
        numbers = _one_each(counts, int | None, len(regions), "counts")
        for image in regions:
            image.check_encoder(self.encoder.fingerprint)
        asked = list(zip(texts, rivals, pairs, numbers, strict=True))
        # By identity: what is asked of all images is made ready once.
        ready: dict[tuple[int | None, ...], dict[str, Any]] = {}
        for *three, count in asked:
            key = (*map(id, three), count)
            if key not in ready:
                ready[key] = self.ready_to_classify(*three, one_name, count, hides)
        return [
            self.region_classifier.classify(
                image, **ready[(*map(id, three), count)], rescale=rescale
            )
            for image, (*three, count) in zip(regions, asked, strict=True)
        ]

    def predict(
        self,
        batch_inputs: Tensor,
        batch_data_samples: list[DetDataSample],
        rescale: bool = True,
    ) -> list[DetDataSample]:
        """`propose`, then `classify` with `text_embeddings`, into ``pred_instances``.

        With ``test_cfg.keep_proposals``, ``proposals`` holds what `classify` chose from: the
        ``bboxes`` of all regions, in the frame of the detections, with objectness as ``scores``.

        Samples with ``vocabularies`` (`FGOVDDataset`) get ``vocabulary_predictions`` instead, from
        one `propose`: a list of what `classify_vocabularies` yields. Samples with ``text``
        (`D3Dataset`), a list of phrases each, are asked those, and labels are places in it.

        Scores are those of the benchmarks' protocols: nothing competes but the names. Where there
        is a calibration, detections are the same, and each has its confidence beside its score, but
        for those of phrases, and of what is shown.
        """
        regions = self.propose(batch_inputs, batch_data_samples)
        if "vocabularies" in batch_data_samples[0]:
            for sample, image in zip(batch_data_samples, regions, strict=True):
                asked = [vocabulary["captions"] for vocabulary in sample.vocabularies]
                found = classify_vocabularies(
                    self.region_classifier, image, asked, self.captions, rescale
                )
                sample.vocabulary_predictions = list(found)
            return batch_data_samples
        if "text" in batch_data_samples[0]:
            phrases = [sample.text for sample in batch_data_samples]
            detections = [
                self._classify_phrases(image, own, rescale)
                for image, own in zip(regions, phrases, strict=True)
            ]
        else:
            texts = self.text_embeddings
            detections = self.classify(regions, texts, rescale)
            if self.calibration is not None and texts.vocabulary.shown is None:
                self.add_figures(detections, regions, texts)
        if self.test_cfg.get("keep_proposals", False):
            for sample, image in zip(batch_data_samples, regions, strict=True):
                x, y = image.image_meta.get("scale_factor", (1, 1))[:2] if rescale else (1, 1)
                boxes = scale_boxes(image.boxes, (1 / x, 1 / y))
                sample.proposals = InstanceData(bboxes=boxes, scores=image.objectness)
        return self.add_pred_to_datasample(batch_data_samples, detections)

    def _classify_phrases(
        self, regions: Regions, phrases: Sequence[str], rescale: bool
    ) -> InstanceData:
        if isinstance(phrases, str) or not phrases:
            raise ValueError(f"a picture comes with the text {phrases!r}: give a list of phrases")
        embeddings, is_base = self.captions.rows(phrases)
        return self.region_classifier.classify(regions, embeddings, is_base, rescale=rescale)

    def _ready(self, texts: TextEmbeddings) -> dict[str, Tensor]:
        """Text embeddings as the second stage takes them, on the detector's device."""
        texts.check_encoder(self.encoder)
        check_directions(texts)
        device = self.encoder.device
        is_base = texts.is_base(self._base_names())
        return {"text_embeddings": texts.embeddings.to(device), "is_base": is_base.to(device)}

    def _base_names(self) -> list[str]:
        vocabulary = self.training_vocabulary
        if vocabulary is None:
            return []
        return list((vocabulary.groups or {}).get("base", vocabulary.names))

    def _training_embeddings(self) -> Tensor:
        if self._training_texts is None:
            if self.training_vocabulary is None:
                raise ValueError(
                    "the detector has no vocabulary to train on: set model.vocabulary in the config"
                )
            texts = self.encode_vocabulary(self.training_vocabulary)
            self._training_texts = texts.embeddings[texts.is_base(self._base_names())]
        self._training_texts = self._training_texts.to(self.encoder.device)
        return self._training_texts


def _one_each(given: Any, kind: Any, count: int, what: str) -> list[Any]:
    """What is given for all images, or one for each, as one for each.

    Raises:
        ValueError: There are not as many as images.
    """
    if isinstance(given, kind):
        return [given] * count
    if len(given) != count:
        raise ValueError(f"{len(given)} {what} for {count} images")
    return list(given)


def _told(settings: Any) -> Any:
    """Settings without those of training."""
    if isinstance(settings, Mapping):
        return {str(k): _told(value) for k, value in settings.items() if k not in _OF_TRAINING}
    return [_told(value) for value in settings] if isinstance(settings, list | tuple) else settings


def _named(value: Any) -> Any:
    """What JSON does not know; names of classes are the same in each process, addresses are not."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return getattr(value, "__name__", type(value).__name__)


def check_directions(texts: TextEmbeddings) -> None:
    """Make sure that each text embedding has a direction, so that cosines with it mean something.

    Raises:
        ValueError: Some are all zero, NaN or infinite; the first is named.
    """
    lengths = texts.embeddings.detach().float().norm(dim=-1)
    broken = (~(lengths.isfinite() & (lengths > 0))).nonzero().flatten().tolist()
    if broken:
        raise ValueError(
            f"{len(broken)} of {len(lengths)} text embeddings are all zero, NaN or infinite, the "
            f"first is that of {texts.names[broken[0]]!r}: encode the texts again, with an encoder "
            "whose weights are whole"
        )


def read_texts(texts: Texts) -> TextEmbeddings | Vocabulary:
    """Read texts of any form: a `Vocabulary`, or `TextEmbeddings` where they are encoded.

    Args:
        texts: What `Vocabulary.parse` takes, or `TextEmbeddings` or their ``.safetensors`` file.

    Raises:
        ValueError: They name nothing or cannot be read.
    """
    if isinstance(texts, TextEmbeddings | Vocabulary):
        return texts
    if isinstance(texts, str | os.PathLike) and Path(texts).suffix == ".safetensors":
        return TextEmbeddings.load(texts)
    return Vocabulary.parse(texts)
