"""FG-CLIP's training as an MMEngine model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from mmdet.registry import MODELS
from mmengine.optim import OptimWrapper
from torch import Tensor
from torch.nn import Parameter

from fgclip_det.encoders import FGCLIP
from fgclip_det.encoders.picture_frames import normalize_pixels
from fgclip_det.pretrain.captions import pad_token_ids
from fgclip_det.pretrain.losses import (
    RowShares,
    contrastive_loss,
    group_logits,
    hard_negative_accuracy,
    hard_negative_loss,
)
from fgclip_det.pretrain.new_encoder import new_encoder
from fgclip_det.pretrain.region_text_pretrainer import (
    RegionEmbeddings,
    RegionTextPretrainer,
    unit_length,
)

_MAX_LOGIT_SCALE = math.log(100.0)


@MODELS.register_module()
class FGCLIPPretrainer(RegionTextPretrainer):
    """The global, region and hard-negative objectives of FG-CLIP (arXiv 2505.05071, section 3).

    ``L = weight_long * L_long + weight_short * L_short + weight_region * L_region
    + weight_hard * L_hard``. An objective of weight 0 is not computed.

    Args:
        encoder: Directory or hub id to go on from, or the sizes of a new model:
            ``dict(vision=dict(...), text=dict(...), projection_dim=...)``.
        tokenizer_captions: JSON-lines file as `RegionCaptionDataset` reads it, on whose captions
            a tokenizer of ``text.vocab_size`` tokens is trained; for a new model only.
        weight_long: Weight of images against their long captions.
        weight_short: Weight of images against their short captions.
        weight_region: Weight of regions against their captions.
        weight_hard: Weight of regions against one right and M wrong captions.
        gather_regions: See `RegionTextPretrainer`.
        adapters: See `RegionTextPretrainer`.
        recompute_activations: See `RegionTextPretrainer`.
    """

    region_objectives = ("region", "hard")
    region_text_objectives = ("region", "hard")
    group_objectives = ("hard",)

    def __init__(
        self,
        encoder: str | dict,
        tokenizer_captions: str | None = None,
        weight_long: float = 1.0,
        weight_short: float = 1.0,
        weight_region: float = 0.1,
        weight_hard: float = 0.5,
        gather_regions: bool = False,
        adapters: dict | None = None,
        recompute_activations: bool = False,
    ) -> None:
        if isinstance(encoder, str):
            model = FGCLIP.from_pretrained(encoder).requires_grad_(True)
        else:
            model = new_encoder(encoder, tokenizer_captions)
        weights = dict(long=weight_long, short=weight_short, region=weight_region, hard=weight_hard)
        super().__init__(model, weights, gather_regions, adapters, recompute_activations)

    def train_step(
        self, data: dict | list | tuple, optim_wrapper: OptimWrapper
    ) -> dict[str, Tensor]:
        """One step, see `BaseModel.train_step`; afterwards no scale is above 100.

        A sharded model's weights are its own between steps alone: what the forward pass bounds are
        gathered copies.
        """
        logged = super().train_step(data, optim_wrapper)
        self._bound_scales()
        return logged

    def published_weights(self) -> dict[str, Tensor]:
        """See `RegionTextPretrainer`; no trained scale is above 100.

        A distributed model takes its last step without asking this class.
        """
        self._bound_scales()
        return super().published_weights()

    def _bound_scales(self) -> None:
        own = self.encoder
        for scale in (own.logit_scale, own.logit_scale_finegraind, own.logit_scale_hardneg):
            _bound(scale)

    def _encode_pictures(
        self, images: Sequence[Tensor], boxes: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        sizes = {tuple(image.shape[-2:]) for image in images}
        if len(sizes) > 1:
            raise ValueError(
                f"images are of the sizes {sorted(sizes)[:4]}: FG-CLIP's are of one size, resize "
                "them first"
            )
        own = self.encoder
        stacked = torch.stack(list(images)).to(own.device).float()
        pixels = normalize_pixels(stacked, own.image_mean, own.image_std)
        tower = own.vision_model
        if not self._has(self.region_objectives):
            pictures = unit_length(own.visual_projection(tower(pixels)))
            return pictures, pictures[:0]
        class_tokens, dense = tower.forward_class_and_dense(pixels)
        pooled = own.pool_regions(own.visual_projection(dense), boxes)
        return unit_length(own.visual_projection(class_tokens)), unit_length(pooled)

    def _pad_token_ids(self, rows: Sequence[Sequence[int]], text_length: str) -> Tensor:
        width = max(map(len, rows), default=1)
        return pad_token_ids(rows, width, self.encoder.config.text.eos_token_id)

    def _global_losses(
        self, pictures: Tensor, texts: dict[str, Tensor], shares: RowShares
    ) -> dict[str, Tensor]:
        scale = _bounded(self.encoder.logit_scale)
        return {
            f"loss_global_{length}": self.weights[length]
            * contrastive_loss(pictures, of_length, scale, shares)
            for length, of_length in texts.items()
        }

    def _region_losses(
        self, regions: RegionEmbeddings, shares: Sequence[RowShares]
    ) -> dict[str, Tensor]:
        losses = {}
        if self.weights["region"]:
            scale = _bounded(self.encoder.logit_scale_finegraind)
            loss = contrastive_loss(regions.regions, regions.texts, scale, shares[0])
            losses["loss_region"] = self.weights["region"] * loss
        if self.weights["hard"]:
            scale, valid = _bounded(self.encoder.logit_scale_hardneg), regions.groups.valid
            logits = group_logits(regions.groups, scale)
            loss = hard_negative_loss(logits, valid, shares[1])
            losses["loss_hard_negative"] = self.weights["hard"] * loss
            losses["accuracy_hard_negative"] = hard_negative_accuracy(logits, valid)
        return losses

    def _used_parts(self) -> dict[str, bool]:
        long, short_texts = self._has(["long"]), self._has(["short", *self.region_objectives])
        tables = "text_model.embeddings.position_embedding"
        whole = self._has(["long", "short"])
        # Boxes are pooled from the value path, on which the last block compares no tokens.
        last = f"vision_model.encoder.layers.{len(self.encoder.vision_model.blocks) - 1}.self_attn"
        return {
            f"{last}.q_proj": whole,
            f"{last}.k_proj": whole,
            "logit_scale": whole,
            "logit_scale_finegraind": self._has(["region"]),
            "logit_scale_hardneg": self._has(["hard"]),
            "text_projection": short_texts,
            f"{tables}": short_texts,
            "text_filip_projection": long,
            f"{tables}_ori": long,
            f"{tables}_res": long,
        }


def _bounded(logit_scale: Parameter) -> Tensor:
    """The factor of a logarithmic scale, kept at 100 or below as CLIP does it.

    FG-CLIP's authors bound none. A distributed model takes its steps without asking this class, so
    it is done where a scale is used; of a sharded one that is a copy, see `train_step`.
    """
    _bound(logit_scale)
    return logit_scale.exp()


def _bound(logit_scale: Parameter) -> None:
    if logit_scale.requires_grad:  # a frozen one stays as it was published
        with torch.no_grad():
            logit_scale.clamp_(max=_MAX_LOGIT_SCALE)
