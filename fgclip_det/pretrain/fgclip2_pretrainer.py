"""FG-CLIP 2's training as an MMEngine model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.registry import MODELS
from torch import Tensor, distributed

from fgclip_det.encoders import FGCLIP2, pack_images
from fgclip_det.encoders.picture_frames import normalize_pixels
from fgclip_det.pretrain.captions import pad_token_ids
from fgclip_det.pretrain.losses import (
    RowShares,
    contrastive_loss,
    group_contrastive_loss,
    group_logits,
    hard_negative_accuracy,
    hard_negative_loss,
    mean_margin,
    ranking_loss,
    sigmoid_loss,
    text_intra_modal_loss,
    world_size,
)
from fgclip_det.pretrain.region_text_pretrainer import (
    RegionEmbeddings,
    RegionTextPretrainer,
    unit_length,
)

# Of scores: more than a right caption is ahead of wrong ones is never asked for.
_MAX_THRESHOLD = 10.0


@MODELS.register_module()
class FGCLIP2Pretrainer(RegionTextPretrainer):
    """The objectives of FG-CLIP 2 (arXiv 2510.10921, section 3).

    The loss is the weighted sum of all objectives; one of weight 0 is not computed. The weights
    that stand here are those of the authors' code, which differ from the paper's equation 4:
    long, short, region, hard, intra-modal and ranking by 1, 1, 0.1, 0.5, 0.1 and 0.4.

    Args:
        encoder: Directory or hub id of an FG-CLIP 2 or a SigLIP 2 to go on from.
        weight_long: Weight of pictures against their long captions.
        weight_short: Weight of pictures against their short captions.
        weight_region: Weight of regions against their captions.
        weight_intra_modal: Weight of captions of regions against one another.
        weight_hard_contrastive: Weight of regions against the captions of all groups.
        weight_hard: Weight of regions against one right and M wrong captions.
        weight_ranking: Weight of the distance that right captions keep from wrong ones.
        gather_regions: See `RegionTextPretrainer`.
        adapters: See `RegionTextPretrainer`.
        recompute_activations: See `RegionTextPretrainer`.

    Attributes:
        ranking_threshold: Scalar buffer, the distance that is asked for: what there was at the
            step before, as a mean over processes, within 0 to 10.
    """

    region_objectives = ("region", "hard_contrastive", "hard", "ranking")
    region_text_objectives = ("region", "intra_modal", "hard_contrastive", "hard", "ranking")
    group_objectives = ("hard_contrastive", "hard", "ranking")

    ranking_threshold: Tensor

    def __init__(
        self,
        encoder: str,
        weight_long: float = 1.0,
        weight_short: float = 1.0,
        weight_region: float = 0.2,
        weight_intra_modal: float = 0.1,
        weight_hard_contrastive: float = 0.3,
        weight_hard: float = 1.5,
        weight_ranking: float = 0.2,
        gather_regions: bool = False,
        adapters: dict | None = None,
        recompute_activations: bool = False,
    ) -> None:
        model = FGCLIP2.from_pretrained(encoder)
        model.add_region_scales()
        weights = dict(
            long=weight_long,
            short=weight_short,
            region=weight_region,
            intra_modal=weight_intra_modal,
            hard_contrastive=weight_hard_contrastive,
            hard=weight_hard,
            ranking=weight_ranking,
        )
        model.requires_grad_(True)
        super().__init__(model, weights, gather_regions, adapters, recompute_activations)
        self.register_buffer("ranking_threshold", torch.zeros(()))

    def _encode_pictures(
        self, images: Sequence[Tensor], boxes: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        own = self.encoder
        for index, image in enumerate(images):
            if image.shape[-2] % own.patch_size or image.shape[-1] % own.patch_size:
                raise ValueError(
                    f"image {index} has {image.shape[-2]} x {image.shape[-1]} pixels: its sides "
                    f"must be multiples of the {own.patch_size}-pixel patch, resize it first"
                )
        pixels = [
            normalize_pixels(image.to(own.device).float(), own.image_mean, own.image_std)
            for image in images
        ]
        packed = pack_images(pixels, own.patch_size)
        if not self._has(self.region_objectives):
            pictures = unit_length(own.encode_image(packed))
            return pictures, pictures[:0]
        pictures, pooled = own.encode_image_and_regions(packed, boxes)
        return unit_length(pictures), unit_length(pooled)

    def _pad_token_ids(self, rows: Sequence[Sequence[int]], text_length: str) -> Tensor:
        # The tower pools the last place, padding or not: rows have the length it was trained on.
        width = self.encoder.text_model.max_length(text_length)
        is_padded = any(len(row) < width for row in rows)
        return pad_token_ids(rows, width, self.encoder.tokenizer.pad_token_id if is_padded else 0)

    def _global_losses(
        self, pictures: Tensor, texts: dict[str, Tensor], shares: RowShares
    ) -> dict[str, Tensor]:
        scale, bias = self.encoder.logit_scale.exp(), self.encoder.logit_bias
        return {
            f"loss_global_{length}": self.weights[length]
            * sigmoid_loss(pictures, of_length, scale, bias, shares)
            for length, of_length in texts.items()
        }

    def _region_losses(
        self, regions: RegionEmbeddings, shares: Sequence[RowShares]
    ) -> dict[str, Tensor]:
        of_regions, losses = shares[0], {}
        if self.weights["region"]:
            scale = self.encoder.logit_scale_finegraind.exp()
            loss = contrastive_loss(regions.regions, regions.texts, scale, of_regions)
            losses["loss_region"] = self.weights["region"] * loss
        if self.weights["intra_modal"]:
            loss = text_intra_modal_loss(regions.texts, of_regions)
            losses["loss_intra_modal"] = self.weights["intra_modal"] * loss
        if self._has(self.group_objectives):
            losses |= self._group_losses(regions, *shares[1:])
        return losses

    def _group_losses(
        self, regions: RegionEmbeddings, shares: RowShares, wrong_shares: RowShares
    ) -> dict[str, Tensor]:
        groups, scale, losses = regions.groups, self.encoder.logit_scale_hardneg.exp(), {}
        if self.weights["hard_contrastive"]:
            loss = group_contrastive_loss(groups, scale, shares, wrong_shares)
            losses["loss_hard_contrastive"] = self.weights["hard_contrastive"] * loss
        logits = group_logits(groups, scale)
        if self.weights["hard"]:
            loss = hard_negative_loss(logits, groups.valid, shares)
            losses["loss_hard_negative"] = self.weights["hard"] * loss
        if self.weights["ranking"]:
            loss = ranking_loss(logits, groups.valid, self.ranking_threshold.clone(), shares)
            losses["loss_ranking"] = self.weights["ranking"] * loss
            losses["ranking_threshold"] = self._next_threshold(logits, groups.valid, shares)
        losses["accuracy_hard_negative"] = hard_negative_accuracy(logits, groups.valid)
        return losses

    def _next_threshold(self, logits: Tensor, valid: Tensor, shares: RowShares) -> Tensor:
        """The threshold of this step; the one of the next is made of what is reached in this."""
        now = self.ranking_threshold.clone()
        # A process without a group has no say in how far captions are apart: it votes for what is.
        reached = mean_margin(logits, valid, shares) if shares.total else now.clone()
        if not self.training:
            return now
        if world_size() > 1:
            distributed.all_reduce(reached)
        self.ranking_threshold.copy_((reached / world_size()).clamp(0, _MAX_THRESHOLD))
        return now

    def _used_parts(self) -> dict[str, bool]:
        regions, box_texts = self.region_objectives, self.region_text_objectives
        tables = "text_model.embeddings.position_embedding"
        return {
            "logit_scale": self._has(["long", "short"]),
            "logit_bias": self._has(["long", "short"]),
            "logit_scale_finegraind": self._has(["region"]),
            "logit_scale_hardneg": self._has(self.group_objectives),
            "vision_model.head": self._has(["long", "short"]),
            "dense_feature_head.attention": self._has(regions),
            "dense_feature_head.layernorm": self._has(regions),
            "dense_feature_head.mlp": self._has(regions),
            # Each token asks for itself: no objective looks at the dense head's own question.
            "dense_feature_head.probe": False,
            "text_model.head": self._has(["short"]),
            "boxtext_head": self._has(box_texts),
            "longtext_head": self._has(["long"]),
            f"{tables}": self._has(["short", *box_texts]),
            f"{tables}_ori": self._has(["long"]),
            f"{tables}_res": self._has(["long"]),
        }
