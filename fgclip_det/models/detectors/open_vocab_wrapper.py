"""Any detector of MMDetection's, asked in words: its boxes, FG-CLIP's names."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from fgclip_det.compat import load_checkpoint_file
from fgclip_det.encoders import FGCLIP, FGCLIP2, RegionEncoder
from fgclip_det.models.backbones.frozen_encoder import FrozenEncoder
from fgclip_det.models.detectors.box_source import BoxSource, Source
from fgclip_det.models.detectors.detector_boxes import (
    BoxScore,
    check_detector,
    detector_boxes,
    merge_classes,
)
from fgclip_det.models.detectors.detector_inputs import for_each_canvas, image_metas
from fgclip_det.models.detectors.open_vocabulary import OpenVocabulary, Texts
from fgclip_det.models.detectors.picture_detector import PictureDetector
from fgclip_det.models.detectors.strict_loading import StrictLoading
from fgclip_det.models.regions.detector_pixels import check_preprocessor, picture_slices, to_rgb
from fgclip_det.models.regions.region_classification import kept_meta
from fgclip_det.models.regions.regions import Regions
from fgclip_det.models.roi_heads.region_text_head import RegionTextHead
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary


@MODELS.register_module()
class OpenVocabWrapper(OpenVocabulary, StrictLoading, BaseDetector):
    """A detector that was trained on whatever classes, with texts in their place.

    Nothing is trained: the detector gives boxes, and how sure it is of them; a frozen FG-CLIP pools
    an embedding for each box from the same picture, once; `RegionTextHead` compares those with
    texts. So the vocabulary may change from call to call, as of `OpenVocabTwoStageDetector`.

    Masks of the detector are not computed: what is named are boxes.

    The detector's settings stay its own. What it suppresses or leaves out as too unlikely is lost
    here too: lower ``score_thr`` and raise ``max_per_img`` in its ``test_cfg`` to be given more.

    Its checkpoint is loaded as it is: keys may begin with ``detector.`` or not.

    Args:
        detector: A detector of MMDetection's, built, or the ``model`` of a config of its, whose
            pretrained backbone is not fetched; or a function that gives boxes of a picture, see
            `BoxSource`.
        encoder: See `build_encoder`.
        frame: At which size the encoder reads pictures: keywords of `RegionEncoder`, by default
            FG-CLIP's own protocol.
        region_head: Keywords of `RegionTextHead`, or with a ``type`` of another head that is
            registered in ``mmdet.registry.MODELS`` and classifies as it does.
        box_score: How sure the detector is of a box: the "max" of its class scores, or their
            "sum", see `merge_classes`; or "rpn", for a two-stage detector, whose first stage is
            then asked alone, for its boxes and their objectness.
        class_names: The names that the detector was trained on, in the order of its labels, in any
            form that `Vocabulary.parse` takes; for ``fusion="ensemble"``.
        vocabulary: What `predict` looks for until `set_vocabulary` is called: what
            `Vocabulary.parse` reads, or a ``.safetensors`` file of `TextEmbeddings`.
        detector_checkpoint: Weights of the detector, ``.pth`` or ``.safetensors``.
        test_cfg: Perhaps ``keep_proposals``: see `predict`.
        data_preprocessor: The detector's, where its own config names none.
        text_cache_dir: Directory that keeps encoded vocabularies; None keeps none.

    Raises:
        ValueError: Parts do not fit each other, or a checkpoint cannot be read.
    """

    def __init__(
        self,
        detector: dict | BaseDetector | Source,
        encoder: FGCLIP | FGCLIP2 | str | Mapping,
        frame: dict | None = None,
        region_head: dict | None = None,
        box_score: BoxScore = "max",
        class_names: Any = None,
        vocabulary: Texts | None = None,
        detector_checkpoint: str | os.PathLike | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        text_cache_dir: str | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if not isinstance(detector, Mapping | BaseDetector) and callable(detector):
            detector = BoxSource(detector)
        told = detector if isinstance(detector, Mapping) else {"type": type(detector).__name__}
        detector = _build(detector, data_preprocessor)
        check_detector(detector, box_score)
        check_preprocessor(detector.data_preprocessor)
        super().__init__(data_preprocessor=detector.data_preprocessor, init_cfg=init_cfg)
        self.detector = detector
        self._detector_config = copy.deepcopy(
            {
                key: value
                for key, value in told.items()
                if key not in ("data_preprocessor", "source")
            }
        )
        if isinstance(detector, BoxSource):
            self._detector_config |= {"source": detector.source_name, "name": detector.name}
        self.box_score = box_score
        self.frozen_encoder = FrozenEncoder(encoder)
        self.region_encoder = RegionEncoder(self.encoder, **(frame or {}))
        head = {"type": RegionTextHead, **(region_head or {})}
        self.region_head: RegionTextHead = MODELS.build(head)
        self.test_cfg = ConfigDict(test_cfg or {})
        self._init_vocabulary(vocabulary, text_cache_dir)
        self.class_names: list[str] = []
        if class_names is not None:
            self.class_names = list(Vocabulary.parse(class_names).names)
        if self._asks_classes and (box_score == "rpn" or not self.class_names):
            raise ValueError(
                'fusion="ensemble" needs class_names, and a box_score of "max" or "sum": the '
                "detector's scores of its classes are part of it"
            )
        self._init_strict_loading()
        if detector_checkpoint is not None:
            self.load_state_dict(load_checkpoint_file(detector_checkpoint)["state_dict"])

    @property
    def encoder(self) -> FGCLIP | FGCLIP2:
        """The frozen FG-CLIP."""
        return self.frozen_encoder.encoder

    @property
    def _asks_classes(self) -> bool:
        """Whether the head reads the detector's scores of its own classes."""
        return getattr(self.region_head, "fusion", None) == "ensemble"

    @property
    def region_classifier(self) -> RegionTextHead:
        """The module that turns regions and texts into detections."""
        return self.region_head

    def init_weights(self) -> None:
        """Nothing: the weights are those of a trained detector, and come from its checkpoint."""

    def train(self, mode: bool = True) -> OpenVocabWrapper:
        """Set the mode of this module; the detector stays in eval mode."""
        super().train(mode)
        self.detector.eval()
        return self

    @torch.no_grad()
    def propose(
        self, batch_inputs: Tensor, batch_data_samples: Sequence[DetDataSample] | None = None
    ) -> list[Regions]:
        """Regions of a batch, whatever may be looked for in them.

        Pictures of one padded size go through the detector together: see `for_each_canvas`.

        Args:
            batch_inputs: (N, 3, H, W) as the detector's preprocessor gives them.
            batch_data_samples: Their metainfo is read; None means N images of H x W pixels that
                were neither resized nor padded.

        Returns:
            One for each image.

        Raises:
            ValueError: The detector gives no boxes or boxes of NaN, or cannot run here.
        """
        metas = image_metas(batch_inputs, batch_data_samples)
        multiple = getattr(self.data_preprocessor, "pad_size_divisor", 1)
        return for_each_canvas(self._propose, batch_inputs, metas, multiple)

    def loss(self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]) -> NoReturn:
        """Refused: there is nothing to train.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"OpenVocabWrapper trains nothing: train the {type(self.detector).__name__} with a "
            "config of its own, then give its checkpoint to this one"
        )

    def extract_feat(self, batch_inputs: Tensor) -> Any:
        """The detector's own features, of (N, 3, H, W) pixels."""
        return self.detector.extract_feat(batch_inputs)

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: Sequence[DetDataSample] | None = None
    ) -> list[Regions]:
        return self.propose(batch_inputs, batch_data_samples)

    @torch.no_grad()
    def regions_at(self, batch_input: Tensor, meta: dict, boxes: Tensor) -> Regions:
        """Regions of one picture at boxes that are given; the detector is not asked.

        Args:
            batch_input: (1, 3, H, W) as the detector's preprocessor gives it.
            meta: Metainfo of the picture.
            boxes: (K, 4) float32, xyxy, in those pixels.
        """
        return self._embedded(batch_input, [meta], [(boxes, boxes.new_ones(len(boxes)), None)])[0]

    def _propose(self, batch_inputs: Tensor, metas: list[dict]) -> list[Regions]:
        found = detector_boxes(self.detector, batch_inputs, metas, self.box_score)
        shown = [picture_slices(meta) for meta in metas]
        sizes = [(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in shown]
        num_classes = len(self.class_names) if self._asks_classes else 0
        merged = [
            merge_classes(instances, size, self.box_score, num_classes)
            for instances, size in zip(found, sizes, strict=True)
        ]
        return self._embedded(batch_inputs, metas, merged)

    def _embedded(
        self,
        batch_inputs: Tensor,
        metas: list[dict],
        merged: Sequence[tuple[Tensor, Tensor, Tensor | None]],
    ) -> list[Regions]:
        """Boxes, their scores and those of their classes, with embeddings."""
        shown = [picture_slices(meta) for meta in metas]
        rgb = to_rgb(batch_inputs, self.data_preprocessor)
        embeddings = self.region_encoder(
            [pixels[:, rows, columns] for pixels, (rows, columns) in zip(rgb, shown, strict=True)],
            [boxes for boxes, *_ in merged],
            [tuple(meta.get("ori_shape", meta["img_shape"])[:2]) for meta in metas],
        )
        return [
            Regions(
                boxes=boxes,
                objectness=scores,
                region_embeddings=own,
                class_scores=class_scores,
                image_meta=kept_meta(meta),
                encoder_fingerprint=self.encoder.fingerprint,
            )
            for (boxes, scores, class_scores), own, meta in zip(
                merged, embeddings, metas, strict=True
            )
        ]

    def _ready(self, texts: TextEmbeddings) -> dict[str, Tensor]:
        # What the detector was trained on is told by its classes, not by a vocabulary's groups.
        classes = texts.find(self.class_names).to(self.encoder.device)
        return {**super()._ready(texts), "is_base": classes >= 0, "classes": classes}

    def _base_names(self) -> list[str]:
        return self.class_names

    def _region_settings(self) -> dict[str, Any]:
        reader, detector = vars(self.region_encoder), self.detector
        told = detector.region_settings() if isinstance(detector, PictureDetector) else None
        if told is None:
            told = {**self._detector_config, "test_cfg": getattr(detector, "test_cfg", None)}
        return {
            "detector": told,
            "frame": {key: value for key, value in reader.items() if key != "encoder"},
            "box_score": self.box_score,
            "class_names": self.class_names if self._asks_classes else None,
        }

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *rest) -> None:
        own = f"{prefix}detector."
        if not any(key.startswith(own) for key in state_dict):
            for key in [key for key in state_dict if key.startswith(prefix)]:
                state_dict[own + key[len(prefix) :]] = state_dict.pop(key)
            # Versions of modules, by their names: old ones may be converted when they load.
            versions = getattr(state_dict, "_metadata", None) or {}
            versions.update({(own + name).rstrip("."): v for name, v in list(versions.items())})
        super()._load_from_state_dict(state_dict, prefix, *rest)


def brings_weights(detector: dict | BaseDetector | Source) -> bool:
    """Whether no checkpoint of it is needed: of functions, and of `PictureDetector`s."""
    if isinstance(detector, Mapping):
        named = detector.get("type")
        found = MODELS.get(named) if isinstance(named, str) else named
        return isinstance(found, type) and issubclass(found, PictureDetector)
    is_function = callable(detector) and not isinstance(detector, BaseDetector)
    return isinstance(detector, PictureDetector) or is_function


def _build(detector: dict | BaseDetector, data_preprocessor: dict | nn.Module | None) -> nn.Module:
    reads_texts = "language_model" in (
        detector if isinstance(detector, Mapping) else getattr(detector, "_modules", ())
    )
    if reads_texts:
        raise ValueError(
            "the detector reads texts itself, which are not known yet when boxes are proposed: "
            "give its results to tools/rescore.py"
        )
    if isinstance(detector, nn.Module):
        return detector.eval()
    if not isinstance(detector, Mapping):
        raise ValueError(
            f"detector is {detector!r}: give the model of one of MMDetection's configs, or a "
            "detector built from it, or a function, see BoxSource"
        )
    # MMEngine finds MMDetection's classes, such as preprocessors, only under its scope.
    with DefaultScope.overwrite_default_scope("mmdet"):
        settings = ConfigDict(copy.deepcopy(detector))
        settings.setdefault("data_preprocessor", data_preprocessor)
        try:
            return MODELS.build(settings).eval()
        except RuntimeError as error:  # such as of a package that a detector needs
            raise ValueError(f"the detector cannot be built: {error}") from error
