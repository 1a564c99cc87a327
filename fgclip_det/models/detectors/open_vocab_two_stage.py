"""Two-stage open-vocabulary detector: `propose` boxes without words, `classify` them with words."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.detectors import TwoStageDetector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from fgclip_det.encoders import FGCLIP, build_encoder
from fgclip_det.models.detectors.detector_boxes import check_finite
from fgclip_det.models.detectors.detector_inputs import (
    build_preprocessor,
    for_each_canvas,
    image_metas,
    without_names,
)
from fgclip_det.models.detectors.open_vocabulary import OpenVocabulary, Texts
from fgclip_det.models.detectors.strict_loading import StrictLoading
from fgclip_det.models.regions.caption_targets import caption_targets
from fgclip_det.models.regions.regions import Regions
from fgclip_det.models.roi_heads.open_vocab_roi_head import OpenVocabRoIHead
from fgclip_det.vocabulary import Vocabulary

_BACKGROUND = "background"


@MODELS.register_module()
class OpenVocabTwoStageDetector(OpenVocabulary, StrictLoading, TwoStageDetector):
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
        backbone = {key: value for key, value in backbone.items() if key != "encoder"}
        self._parts = copy.deepcopy([backbone, neck, rpn_head, roi_head])
        self._build_neck_and_heads(neck, rpn_head, roi_head)
        # Filled here, while the weights are as they were read: a half model has other bytes.
        fingerprint = bytes.fromhex(encoder.fingerprint)
        self.register_buffer(
            "encoder_fingerprint", torch.tensor(list(fingerprint), dtype=torch.uint8)
        )
        self._init_vocabulary(vocabulary, text_cache_dir)
        self._start_background()
        self._init_strict_loading()

    @property
    def encoder(self) -> FGCLIP:
        """The frozen FG-CLIP in the backbone."""
        return self.backbone.encoder

    @property
    def region_classifier(self) -> OpenVocabRoIHead:
        """The module that turns regions and texts into detections."""
        return self.roi_head

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) normalised pixels -> the levels of the pyramid, for training."""
        maps = self.backbone(batch_inputs).maps
        if batch_inputs.device.type == "cpu":
            # Tokens lie channels last, and oneDNN's gradients of convolutions take half as long
            # again that way; at 640 pixels a step as a whole takes a tenth longer.
            maps = tuple(level.contiguous() for level in maps)
        return self.neck(maps)

    @torch.no_grad()
    def propose(
        self, batch_inputs: Tensor, batch_data_samples: Sequence[DetDataSample] | None = None
    ) -> list[Regions]:
        """Regions of a batch, whatever may be looked for in them.

        Pictures of one padded size go through the network together: see `for_each_canvas`.

        Args:
            batch_inputs: (N, 3, H, W) normalised pixels.
            batch_data_samples: Their metainfo is read; None means N images of H x W pixels that
                were neither resized nor padded.

        Returns:
            One for each image.

        Raises:
            ValueError: Boxes are NaN, or there are none since weights or features are.
        """
        metas = image_metas(batch_inputs, batch_data_samples)
        multiple = getattr(self.data_preprocessor, "pad_size_divisor", 1)
        return for_each_canvas(self._propose, batch_inputs, metas, multiple)

    @torch.no_grad()
    def regions_at(self, batch_input: Tensor, meta: dict, boxes: Tensor) -> Regions:
        """Regions of one picture at boxes that are given.

        Args:
            batch_input: (1, 3, H, W) normalised pixels.
            meta: Metainfo of the picture.
            boxes: (K, 4) float32, xyxy, in those pixels; embeddings are of them.
        """
        given = InstanceData(bboxes=boxes, scores=boxes.new_ones(len(boxes)))
        return self._propose(batch_input, [meta], [given])[0]

    def _propose(
        self,
        batch_inputs: Tensor,
        metas: list[dict],
        proposals: list[InstanceData] | None = None,
    ) -> list[Regions]:
        features = self.backbone(batch_inputs)
        levels = self.neck(features.maps)
        if proposals is None:
            proposals = self.rpn_head.predict_by_feat(
                *self.rpn_head(levels), batch_img_metas=metas, rescale=False
            )
        regions = self.roi_head.propose(
            levels,
            self.backbone.dense(features),
            features.grid,
            self.backbone.stride,
            proposals,
            metas,
        )
        for image in regions:
            image.encoder_fingerprint = self.encoder.fingerprint
        found = [InstanceData(bboxes=image.boxes, scores=image.objectness) for image in regions]
        check_finite(self, found, batch_inputs)
        return regions

    def loss(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]
    ) -> dict[str, Tensor | list[Tensor]]:
        """Losses of both stages.

        Labels index the base group of `training_vocabulary`, or the sample's own ``vocabularies``
        where it has some: see `caption_targets`.

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
        targets = self._targets(batch_data_samples)
        losses.update(self.roi_head.loss(levels, proposals, *targets))
        return losses

    def _targets(
        self, samples: list[DetDataSample]
    ) -> tuple[list[DetDataSample], Tensor, Tensor | None]:
        """The arguments of `OpenVocabRoIHead.loss` behind the proposals."""
        if not any("vocabularies" in sample for sample in samples):
            return samples, self._training_embeddings(), None
        with_captions = caption_targets(
            samples, lambda captions: self.captions.rows(captions)[0], self._training_embeddings
        )
        return with_captions.samples, with_captions.text_embeddings, with_captions.competitors

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: Sequence[DetDataSample] | None = None
    ) -> list[Regions]:
        return self.propose(batch_inputs, batch_data_samples)

    def _region_settings(self) -> dict[str, Any]:
        return {"parts": self._parts, "rpn": self.test_cfg.rpn}

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

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *rest) -> None:
        stored = state_dict.get(f"{prefix}encoder_fingerprint")
        own = self.encoder_fingerprint
        if stored is not None and not torch.equal(stored.cpu(), own.cpu()):
            raise ValueError(
                f"these weights were trained on the encoder {_hex(stored)}, but the detector has "
                f"{_hex(own)}: set backbone.encoder to the one they were trained on"
            )
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _hex(fingerprint: Tensor) -> str:
    if fingerprint.dtype != torch.uint8 or fingerprint.ndim != 1:
        return f"? ({tuple(fingerprint.shape)} {fingerprint.dtype} is no fingerprint)"
    return bytes(fingerprint.tolist()).hex()
