"""Second stage: regions from proposals, and detections from regions and texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch import Tensor

from fgclip_det.models.regions.competition import log_shares
from fgclip_det.models.regions.detection_selection import Candidates
from fgclip_det.models.regions.region_classification import kept_meta, pool_tokens
from fgclip_det.models.regions.regions import Regions
from fgclip_det.models.regions.rivals import Rivals
from fgclip_det.models.regions.streams import Source, Streams
from fgclip_det.models.roi_heads.judging_head import JudgingHead
from fgclip_det.models.roi_heads.score_fusion import encoder_weight, ensemble_of_logits
from fgclip_det.models.roi_heads.settings import check_test_cfg
from fgclip_det.models.roi_heads.zero_shot_classifier import ZeroShotClassifier
from fgclip_det.models.task_modules.batched_sampling import (
    can_batch,
    check_labels,
    sample_batch,
)
from fgclip_det.ops.score_ensemble import is_served, score_ensemble_above


@MODELS.register_module()
class OpenVocabRoIHead(JudgingHead, StandardRoIHead):
    """Boxes, embeddings and scores (F-ViT, CLIPSelf, arXiv 2310.01403, section 4.1).

    Args:
        bbox_roi_extractor: Pools the pyramid.
        bbox_head: An `OpenVocabBBoxHead`.
        region_embedding_boxes: Which boxes FG-CLIP's features are pooled over: the "proposals" of
            the first stage, or the boxes as "refined" by the second.
        train_cfg: ``assigner`` and ``sampler``, and perhaps ``batched_targets``: see
            `Float32RPNHead`.
        test_cfg: ``alpha``, ``beta`` (see `geometric_score_ensemble`), ``vlm_temperature``,
            ``score_thr``, ``nms`` with ``iou_threshold`` and perhaps ``class_agnostic``,
            ``max_per_img``.

    Raises:
        ValueError: A setting is unknown or out of range.
    """

    def __init__(
        self,
        bbox_roi_extractor: dict,
        bbox_head: dict,
        region_embedding_boxes: Literal["proposals", "refined"] = "proposals",
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(
            bbox_roi_extractor=bbox_roi_extractor,
            bbox_head=bbox_head,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            init_cfg=init_cfg,
        )
        if region_embedding_boxes not in ("proposals", "refined"):
            raise ValueError(
                'region_embedding_boxes must be "proposals" or "refined", '
                f"got {region_embedding_boxes!r}"
            )
        self.region_embedding_boxes = region_embedding_boxes
        check_test_cfg(self.test_cfg)
        embed_dim = self.bbox_head.fc_embed.out_features
        self.vlm_classifier = ZeroShotClassifier(embed_dim, self.test_cfg["vlm_temperature"])

    def set_background(self, embedding: Tensor) -> None:
        """Take (D,), the text embedding of "background", as it or as where training starts."""
        self.bbox_head.classifier.set_background(embedding)
        self.vlm_classifier.set_background(embedding)

    def loss(
        self,
        x: Sequence[Tensor],
        rpn_results_list: list[InstanceData],
        batch_data_samples: list[DetDataSample],
        text_embeddings: Tensor,
        competitors: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            x: One (N, C, h_l, w_l) map for each level.
            rpn_results_list: Proposals of each image, ``bboxes`` (K_i, 4) in pixels of the input.
            batch_data_samples: Ground truth; labels are rows of `text_embeddings`.
            text_embeddings: (C, D) of the categories that are trained.
            competitors: See `CaptionTargets`; all categories compete where None.

        Returns:
            See `OpenVocabBBoxHead.loss`.

        Raises:
            ValueError: A label is no row of `text_embeddings`.
        """
        samples = self._sample(rpn_results_list, batch_data_samples, len(text_embeddings))
        return self._losses(x, samples, batch_data_samples, text_embeddings, competitors)

    def _losses(
        self,
        x: Sequence[Tensor],
        samples: list[SamplingResult],
        batch_data_samples: list[DetDataSample],
        text_embeddings: Tensor,
        competitors: Tensor | None,
    ) -> dict[str, Tensor]:
        """Losses of sampled boxes; `batch_data_samples` are for heads beside the box head."""
        rois = bbox2roi([sample.priors for sample in samples])
        embeddings, deltas = self.bbox_head(self._pool(x, rois))
        count = len(text_embeddings)
        labels, delta_targets = self.bbox_head.get_targets(samples, count)
        if competitors is not None:
            rows = torch.where(labels < count, labels, count + rois[:, 0].long())
            competitors = competitors[rows]
        # Known here, so that nobody has to ask the device.
        positives = sum(len(sample.pos_priors) for sample in samples)
        return self.bbox_head.loss(
            embeddings, deltas, text_embeddings, labels, delta_targets, competitors, positives
        )

    def propose(
        self,
        x: Sequence[Tensor],
        tokens: Tensor,
        grid: tuple[int, int],
        stride: float,
        rpn_results_list: list[InstanceData],
        batch_img_metas: list[dict],
    ) -> list[Regions]:
        """Regions of a batch.

        Args:
            x: One (N, C, h_l, w_l) map for each level.
            tokens: (N, h * w, D) of unit length each, in the space of the texts.
            grid: Rows and columns (h, w) of `tokens`.
            stride: Pixels of the network input per cell of `tokens`.
            rpn_results_list: Proposals of each image, ``bboxes`` (K_i, 4) in pixels of the input
                and ``scores`` (K_i,).
            batch_img_metas: See `Regions`.

        Returns:
            One for each image.
        """
        proposals = [result.bboxes.float() for result in rpn_results_list]
        counts = [len(boxes) for boxes in proposals]
        embeddings, deltas = self.bbox_head(self._pool(x, bbox2roi(proposals)))
        boxes = [
            self.bbox_head.decode(*pair, meta["img_shape"])
            for *pair, meta in zip(proposals, deltas.split(counts), batch_img_metas, strict=True)
        ]
        pooled_over = proposals if self.region_embedding_boxes == "proposals" else boxes
        pooled = self.pool_tokens(tokens, grid, stride, pooled_over)
        return [
            Regions(
                boxes=image_boxes,
                objectness=result.scores.float(),
                detector_embeddings=detector,
                region_embeddings=region,
                image_meta=kept_meta(meta),
            )
            for image_boxes, result, detector, region, meta in zip(
                boxes,
                rpn_results_list,
                embeddings.split(counts),
                pooled.split(counts),
                batch_img_metas,
                strict=True,
            )
        ]

    def pool_tokens(
        self, tokens: Tensor, grid: tuple[int, int], stride: float, boxes: Sequence[Tensor]
    ) -> Tensor:
        """See `pool_tokens`; `propose` gives tokens of unit length."""
        return pool_tokens(tokens, grid, stride, boxes)

    def evidence_settings(self) -> dict[str, Any]:
        """Settings that evidence depends on; what is learned is told by the weights."""
        return {"vlm_temperature": self.test_cfg["vlm_temperature"]}

    def _scores(
        self, regions: Regions, text_embeddings: Tensor, is_base: Tensor, classes: Tensor | None
    ) -> Tensor:
        cfg = self.test_cfg
        det = self.bbox_head.classifier(regions.detector_embeddings, text_embeddings)
        vlm = self.vlm_classifier(regions.region_embeddings, text_embeddings)
        return ensemble_of_logits(det, vlm, cfg["alpha"], cfg["beta"], is_base)

    def _likely(
        self, regions: Regions, text_embeddings: Tensor, is_base: Tensor
    ) -> Candidates | None:
        cfg = self.test_cfg
        if is_base.shape != text_embeddings.shape[:1]:
            raise ValueError(
                f"is_base is of shape {tuple(is_base.shape)}: give one bool for each of "
                f"{len(text_embeddings)} texts"
            )
        # Where each region is a candidate for each name, a matrix is the shorter list of them.
        if cfg["score_thr"] <= 0:
            return None
        det, names = self.bbox_head.classifier.factors(regions.detector_embeddings, text_embeddings)
        vlm, others = self.vlm_classifier.factors(regions.region_embeddings, text_embeddings)
        weight = encoder_weight(cfg["alpha"], cfg["beta"], is_base, like=det)
        given = (det, vlm, names[:-1], torch.stack([names[-1], others[-1]]), weight)
        if not is_served(*given):
            return None
        rows, columns, scores = score_ensemble_above(*given, cfg["score_thr"])
        return Candidates(rows, columns, scores, {"scores": scores}, len(regions))

    def _sources(self, regions: Regions, is_base: Tensor, like: Tensor) -> dict[str, Source]:
        cfg = self.test_cfg
        weight = encoder_weight(cfg["alpha"], cfg["beta"], is_base, like)
        det, vlm = self.bbox_head.classifier, self.vlm_classifier
        return {
            "detector": Source(
                regions.detector_embeddings, det.temperature, 1 - weight, det.background_embedding
            ),
            "encoder": Source(
                regions.region_embeddings, vlm.temperature, weight, vlm.background_embedding
            ),
        }

    def _fused(
        self,
        streams: Streams,
        rivals: Rivals,
        is_base: Tensor,
        regions: Regions,
        classes: Tensor | None,
        rows: Tensor | None,
    ) -> Tensor:
        shares = (log_shares(streams[name], rivals) for name in ("detector", "encoder"))
        return torch.lerp(*shares, streams["encoder"].weight).exp_().float()

    def _pool(self, x: Sequence[Tensor], rois: Tensor) -> Tensor:
        return self.bbox_roi_extractor(x[: self.bbox_roi_extractor.num_inputs], rois.float())

    def _sample(
        self,
        rpn_results_list: list[InstanceData],
        batch_data_samples: list[DetDataSample],
        num_classes: int,
    ) -> list[SamplingResult]:
        ground_truth, ignored, _ = unpack_gt_instances(batch_data_samples)
        by_batch = self.train_cfg.get("batched_targets", True)
        if by_batch and can_batch(self.bbox_assigner, self.bbox_sampler, ground_truth):
            return sample_batch(
                self.bbox_assigner,
                self.bbox_sampler,
                [proposals.bboxes.float() for proposals in rpn_results_list],
                ground_truth,
                ignored,
                num_classes=num_classes,
            )
        check_labels([gt.labels for gt in ground_truth], num_classes)
        samples = []
        for proposals, gt, gt_ignored in zip(rpn_results_list, ground_truth, ignored, strict=True):
            priors = InstanceData(priors=proposals.bboxes.float(), scores=proposals.scores)
            assigned = self.bbox_assigner.assign(priors, gt, gt_ignored)
            samples.append(self.bbox_sampler.sample(assigned, priors, gt))
        return samples
