"""Second stage with masks that, as its boxes, know nothing of any vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch import Tensor

from fgclip_det.models.regions.region_classification import NO_RULES, Rules
from fgclip_det.models.regions.regions import Regions
from fgclip_det.models.roi_heads.open_vocab_roi_head import OpenVocabRoIHead

# Boxes that go through the mask head together: 28 x 28 maps of 256 channels are 0.8 MB each.
_BOXES_AT_ONCE = 256


@dataclass(kw_only=True)
class MaskRegions(Regions):
    """Regions of one image with a mask each.

    Attributes:
        mask_logits: (K, m, m) float32, positive where the object is; cells divide the box evenly.
    """

    mask_logits: Tensor


@MODELS.register_module()
class OpenVocabMaskRoIHead(OpenVocabRoIHead):
    """`OpenVocabRoIHead` with class-agnostic masks (Mask R-CNN, arXiv 1703.06870).

    Masks are part of `propose`: one for each region, so that another vocabulary costs no mask.

    Args:
        bbox_roi_extractor: See `OpenVocabRoIHead`.
        bbox_head: See `OpenVocabRoIHead`.
        mask_roi_extractor: Pools the pyramid for the mask head; what it leaves out is as in
            `bbox_roi_extractor`.
        mask_head: MMDetection's `FCNMaskHead` with ``class_agnostic=True``.
        region_embedding_boxes: See `OpenVocabRoIHead`.
        train_cfg: Beside the keys of `OpenVocabRoIHead`, ``mask_size``: cells per side of the
            masks that `mask_head` gives.
        test_cfg: Beside the keys of `OpenVocabRoIHead`, ``mask_thr_binary``: the probability from
            which on a pixel belongs to the object.

    Raises:
        ValueError: `mask_head` is not class-agnostic.
    """

    def __init__(
        self,
        bbox_roi_extractor: dict,
        bbox_head: dict,
        mask_roi_extractor: dict,
        mask_head: dict,
        region_embedding_boxes: Literal["proposals", "refined"] = "proposals",
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if not mask_head.get("class_agnostic", False):
            raise ValueError("mask_head needs class_agnostic=True: no category is part of a model")
        super().__init__(
            bbox_roi_extractor=bbox_roi_extractor,
            bbox_head=bbox_head,
            region_embedding_boxes=region_embedding_boxes,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            init_cfg=init_cfg,
        )
        extractor = {**bbox_roi_extractor, **mask_roi_extractor}
        head = {"in_channels": extractor["out_channels"], **mask_head}
        self.init_mask_head(extractor, head)

    def propose(
        self,
        x: Sequence[Tensor],
        tokens: Tensor,
        grid: tuple[int, int],
        stride: float,
        rpn_results_list: list[InstanceData],
        batch_img_metas: list[dict],
    ) -> list[MaskRegions]:
        """Regions of a batch with their masks; arguments as of `OpenVocabRoIHead.propose`."""
        regions = super().propose(x, tokens, grid, stride, rpn_results_list, batch_img_metas)
        logits = self._mask_logits(x, bbox2roi([image.boxes for image in regions]))
        masks = logits.squeeze(1).float().split([len(image) for image in regions])
        return [
            MaskRegions(**vars(image), mask_logits=mask)
            for image, mask in zip(regions, masks, strict=True)
        ]

    def classify(
        self,
        regions: MaskRegions,
        text_embeddings: Tensor,
        is_base: Tensor,
        rescale: bool = True,
        classes: Tensor | None = None,
        rules: Rules = NO_RULES,
    ) -> InstanceData:
        """Detections of one image, as of `OpenVocabRoIHead`, with ``masks``.

        Returns:
            Also ``masks`` (M, H, W) bool, of the size of the original picture, or where not
            `rescale` of the network input without its padding.
        """
        detections = super().classify(regions, text_embeddings, is_base, rescale, classes, rules)
        meta = regions.image_meta
        shape = meta.get("ori_shape", meta["img_shape"]) if rescale else meta["img_shape"]
        # Boxes and the size of the canvas are in one frame already: nothing is left to scale.
        canvas = {"ori_shape": tuple(shape[:2]), "scale_factor": (1.0, 1.0)}
        return self.mask_head.predict_by_feat(
            [regions.mask_logits[detections.regions][:, None]],
            [detections],
            [canvas],
            self.test_cfg,
            rescale=True,
        )[0]

    def _losses(
        self,
        x: Sequence[Tensor],
        samples: list[SamplingResult],
        batch_data_samples: list[DetDataSample],
        text_embeddings: Tensor,
        competitors: Tensor | None,
    ) -> dict[str, Tensor]:
        losses = super()._losses(x, samples, batch_data_samples, text_embeddings, competitors)
        rois = bbox2roi([sample.pos_priors for sample in samples])
        logits = self._mask_logits(x, rois)
        ground_truth = [sample.gt_instances for sample in batch_data_samples]
        found = self.mask_head.loss_and_target(logits, samples, ground_truth, self.train_cfg)
        return {**losses, **found["loss_mask"]}

    def _mask_logits(self, x: Sequence[Tensor], rois: Tensor) -> Tensor:
        """(K, 5) rois -> (K, 1, m, m) logits."""
        levels = x[: self.mask_roi_extractor.num_inputs]
        chunks = rois.float().split(_BOXES_AT_ONCE) if len(rois) else [rois.float()]
        return torch.cat([self.mask_head(self.mask_roi_extractor(levels, c)) for c in chunks])
