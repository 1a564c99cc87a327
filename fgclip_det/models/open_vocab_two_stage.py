"""Two-stage open-vocabulary detector: `propose` boxes without words, `classify` them with words."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from mmdet.models.detectors import TwoStageDetector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import scale_boxes
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from fgclip_det.encoders import FGCLIP
from fgclip_det.models.detector_inputs import (
    build_preprocessor,
    image_metas,
    without_names,
)
from fgclip_det.models.fgclip_vit import build_encoder
from fgclip_det.models.regions import Regions
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary

_BACKGROUND = "background"

# Faults that an error about unfitting weights lists; the wrong kind of file has hundreds.
_SHOWN_FAULTS = 6

Texts = TextEmbeddings | Vocabulary | str | os.PathLike | Sequence[str]


@MODELS.register_module()
class OpenVocabTwoStageDetector(TwoStageDetector):
    """Detector on a frozen FG-CLIP whose categories are the texts handed to `classify`.

    Sizes that the encoder decides (channels, strides, pixel mean and deviation) are asked from it
    wherever a config leaves them out.

    Args:
        backbone: An `FGCLIPViT`.
        neck: A `ViTFeaturePyramid`.
        rpn_head: A class-agnostic region proposal network.
        roi_head: An `OpenVocabRoIHead`.
        train_cfg: ``rpn``, ``rpn_proposal`` and ``rcnn``; None for a detector that is not trained.
        test_cfg: ``rpn`` and ``rcnn``, and perhaps ``keep_proposals``: see `predict`.
        vocabulary: What `Vocabulary.parse` reads, or a ``.safetensors`` file of `TextEmbeddings`.
            Its base group (all of it where it has no groups) is what training labels index; all
            of it is what `predict` looks for until `set_vocabulary` is called.
        data_preprocessor: MMDetection's; pixel values are the encoder's where it names none.
        text_cache_dir: Directory that keeps encoded vocabularies; None keeps none.

    Raises:
        ValueError: Parts do not fit each other or the encoder.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        rpn_head: dict,
        roi_head: dict,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        vocabulary: Texts | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        text_cache_dir: str | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        encoder = build_encoder(backbone["encoder"])
        super().__init__(
            backbone={**backbone, "encoder": encoder},
            train_cfg=ConfigDict(train_cfg) if train_cfg else None,
            test_cfg=ConfigDict(test_cfg or {}),
            data_preprocessor=build_preprocessor(data_preprocessor, encoder),
            init_cfg=init_cfg,
        )
        self._build_neck_and_heads(neck, rpn_head, roi_head)
        self.text_cache_dir = text_cache_dir
        # Filled here, while the weights are as they were read: a half model has other bytes.
        fingerprint = bytes.fromhex(encoder.fingerprint)
        self.register_buffer(
            "encoder_fingerprint", torch.tensor(list(fingerprint), dtype=torch.uint8)
        )
        self.training_vocabulary = _parse(vocabulary) if vocabulary is not None else None
        self._texts: TextEmbeddings | Vocabulary | None = self.training_vocabulary
        self._training_texts: Tensor | None = None
        self._start_background()
        self._load_faults: list[list[str]] | None = None
        self.register_load_state_dict_post_hook(_raise_load_faults)

    @property
    def encoder(self) -> FGCLIP:
        """The frozen FG-CLIP in the backbone."""
        return self.backbone.encoder

    @property
    def vocabulary(self) -> Vocabulary | TextEmbeddings | None:
        """What `predict` looks for."""
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
        texts = _parse(vocabulary)
        if isinstance(texts, TextEmbeddings):
            texts.check_encoder(self.encoder)
            return texts
        device_type = self.encoder.device.type
        with torch.no_grad(), torch.autocast(device_type, enabled=False):
            return TextEmbeddings.encode(texts, self.encoder, cache_dir=self.text_cache_dir)

    def set_vocabulary(self, vocabulary: Texts) -> None:
        """Change what `predict` looks for; what training labels index stays as it is."""
        self._texts = self.encode_vocabulary(vocabulary)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) normalised pixels -> the levels of the pyramid."""
        return self.neck(self.backbone(batch_inputs).maps)

    @torch.no_grad()
    def propose(
        self, batch_inputs: Tensor, batch_data_samples: Sequence[DetDataSample] | None = None
    ) -> list[Regions]:
        """Regions of a batch, whatever may be looked for in them.

        Pictures of one size go through the network together, others by themselves: attention sees
        padding, so what a picture gives would depend on its neighbours.

        Args:
            batch_inputs: (N, 3, H, W) normalised pixels.
            batch_data_samples: Their metainfo is read; None means N images of H x W pixels that
                were neither resized nor padded.

        Returns:
            One for each image.
        """
        metas = image_metas(batch_inputs, batch_data_samples)
        rows_of: dict[tuple[int, int], list[int]] = {}
        for row, meta in enumerate(metas):
            rows_of.setdefault(tuple(meta["img_shape"][:2]), []).append(row)
        if len(rows_of) <= 1:
            return self._propose(batch_inputs, metas)
        multiple = getattr(self.data_preprocessor, "pad_size_divisor", 1)
        regions: dict[int, Regions] = {}
        for shape, rows in rows_of.items():
            height, width = (-(-side // multiple) * multiple for side in shape)
            pixels = batch_inputs[rows, :, :height, :width]
            found = self._propose(pixels, [metas[row] for row in rows])
            regions.update(zip(rows, found, strict=True))
        return [regions[row] for row in range(len(metas))]

    def _propose(self, batch_inputs: Tensor, metas: list[dict]) -> list[Regions]:
        features = self.backbone(batch_inputs)
        levels = self.neck(features.maps)
        proposals = self.rpn_head.predict_by_feat(
            *self.rpn_head(levels), batch_img_metas=metas, rescale=False
        )
        return self.roi_head.propose(
            levels,
            self.backbone.dense(features),
            features.grid,
            self.backbone.stride,
            proposals,
            metas,
        )

    @torch.no_grad()
    def classify(
        self,
        regions: Sequence[Regions],
        text_embeddings: TextEmbeddings | Sequence[TextEmbeddings],
        rescale: bool = True,
    ) -> list[InstanceData]:
        """Detections in regions.

        Args:
            regions: One for each image, from `propose`.
            text_embeddings: What to look for, in all images or one for each.
            rescale: Whether boxes are wanted in pixels of the original picture; otherwise they
                are in pixels of the network input.

        Returns:
            For each image ``bboxes`` (M, 4) xyxy, ``scores`` (M,) falling, ``labels`` (M,) int64
            rows of its text embeddings, ``regions`` (M,) int64 rows of its regions.

        Raises:
            ValueError: Not as many text embeddings as images, or another encoder's.
        """
        if isinstance(text_embeddings, TextEmbeddings):
            texts = [text_embeddings] * len(regions)
        else:
            texts = list(text_embeddings)
        if len(texts) != len(regions):
            raise ValueError(f"{len(texts)} text embeddings for {len(regions)} images")
        ready = {id(text): self._ready(text) for text in texts}
        return [
            self.roi_head.classify(image, *ready[id(text)], rescale=rescale)
            for image, text in zip(regions, texts, strict=True)
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
        """
        regions = self.propose(batch_inputs, batch_data_samples)
        detections = self.classify(regions, self.text_embeddings, rescale)
        if self.test_cfg.get("keep_proposals", False):
            for sample, image in zip(batch_data_samples, regions, strict=True):
                x, y = image.image_meta.get("scale_factor", (1, 1))[:2] if rescale else (1, 1)
                boxes = scale_boxes(image.boxes, (1 / x, 1 / y))
                sample.proposals = InstanceData(bboxes=boxes, scores=image.objectness)
        return self.add_pred_to_datasample(batch_data_samples, detections)

    def loss(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]
    ) -> dict[str, Tensor | list[Tensor]]:
        """Losses of both stages; labels index the base group of `training_vocabulary`.

        Raises:
            ValueError: The detector has no vocabulary to train on or no ``train_cfg``.
        """
        if self.train_cfg is None:
            raise ValueError("the detector was built without train_cfg: it cannot be trained")
        levels = self.extract_feat(batch_inputs)
        boxes_only = [without_names(sample) for sample in batch_data_samples]
        losses, proposals = self.rpn_head.loss_and_predict(
            levels, boxes_only, proposal_cfg=self.train_cfg.get("rpn_proposal", self.test_cfg.rpn)
        )
        losses.update(
            self.roi_head.loss(levels, proposals, batch_data_samples, self._training_embeddings())
        )
        return losses

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: Sequence[DetDataSample] | None = None
    ) -> list[Regions]:
        return self.propose(batch_inputs, batch_data_samples)

    def _build_neck_and_heads(self, neck: dict, rpn_head: dict, roi_head: dict) -> None:
        self.neck = MODELS.build(
            {"in_channels": self.backbone.out_channels, "stride": self.backbone.stride, **neck}
        )
        channels, strides = self.neck.out_channels, list(self.neck.strides)
        self.rpn_head = MODELS.build(
            {
                "in_channels": channels,
                "feat_channels": channels,
                **rpn_head,
                "anchor_generator": {"strides": strides, **rpn_head["anchor_generator"]},
                "train_cfg": self.train_cfg.rpn if self.train_cfg else None,
                "test_cfg": self.test_cfg.rpn,
            }
        )
        # The levels beyond the taps are the proposal network's alone.
        extractor = {
            "out_channels": channels,
            "featmap_strides": strides[: self.neck.num_taps],
            **roi_head["bbox_roi_extractor"],
        }
        bbox_head = {
            "in_channels": channels,
            "embed_dim": self.encoder.projection_dim,
            **roi_head["bbox_head"],
        }
        if "output_size" in extractor:
            bbox_head.setdefault("roi_feat_size", extractor["output_size"])
        self.roi_head = MODELS.build(
            {
                **roi_head,
                "bbox_roi_extractor": extractor,
                "bbox_head": bbox_head,
                "train_cfg": self.train_cfg.rcnn if self.train_cfg else None,
                "test_cfg": self.test_cfg.rcnn,
            }
        )

    def _start_background(self) -> None:
        try:
            _ = self.encoder.tokenizer
        except ValueError as error:
            warnings.warn(
                f"the background starts from an arbitrary direction, not its text: {error}",
                stacklevel=3,
            )
            return
        vocabulary = self.training_vocabulary
        templates = list(vocabulary.templates) if vocabulary is not None else None
        background = Vocabulary.parse([_BACKGROUND], templates=templates or None)
        self.roi_head.set_background(self.encode_vocabulary(background).embeddings[0])

    def _ready(self, texts: TextEmbeddings) -> tuple[Tensor, Tensor]:
        """(C, D) embeddings and (C,) bool `is_base`, on the detector's device."""
        texts.check_encoder(self.encoder)
        device = self.encoder.device
        return texts.embeddings.to(device), texts.is_base(self._base_names()).to(device)

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

    def _load_from_state_dict(
        self,
        state_dict: dict,
        prefix: str,
        local_metadata: dict,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        stored = state_dict.get(f"{prefix}encoder_fingerprint")
        own = self.encoder_fingerprint
        if stored is not None and not torch.equal(stored.cpu(), own.cpu()):
            raise ValueError(
                f"these weights were trained on the encoder {_hex(stored)}, but the detector has "
                f"{_hex(own)}: set backbone.encoder to the one they were trained on"
            )
        # MMEngine only logs what does not fit; see `_raise_load_faults`.
        self._load_faults = [missing_keys, unexpected_keys, error_msgs] if strict else None
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )


def _raise_load_faults(module: OpenVocabTwoStageDetector, incompatible_keys) -> None:
    faults, module._load_faults = module._load_faults, None
    if faults is None:
        return
    missing = [key for key in faults[0] if not key.endswith("num_batches_tracked")]
    listed = [f"missing {key}" for key in missing]
    listed += [f"unexpected {key}" for key in faults[1]] + faults[2]
    if listed:
        more = f"; and {len(listed) - _SHOWN_FAULTS} more" if len(listed) > _SHOWN_FAULTS else ""
        raise ValueError(
            f"the weights do not fit the detector: {'; '.join(listed[:_SHOWN_FAULTS])}{more}: "
            "give a checkpoint that was trained with this config"
        )


def _parse(vocabulary: Texts) -> TextEmbeddings | Vocabulary:
    if isinstance(vocabulary, TextEmbeddings | Vocabulary):
        return vocabulary
    if isinstance(vocabulary, str | os.PathLike) and Path(vocabulary).suffix == ".safetensors":
        return TextEmbeddings.load(vocabulary)
    return Vocabulary.parse(vocabulary)


def _hex(fingerprint: Tensor) -> str:
    return bytes(fingerprint.tolist()).hex()
