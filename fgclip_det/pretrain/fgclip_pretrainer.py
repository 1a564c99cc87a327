"""FG-CLIP's training as an MMEngine model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.model import BaseModel
from torch import Tensor, nn

from fgclip_det.encoders import FGCLIP, FGCLIPConfig, TextConfig, VisionConfig, train_tokenizer
from fgclip_det.io import read_json_lines
from fgclip_det.pretrain.losses import contrastive_loss, hard_negative_loss

_MAX_LOGIT_SCALE = math.log(100.0)


@MODELS.register_module()
class FGCLIPPretrainer(BaseModel):
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
    """

    def __init__(
        self,
        encoder: str | dict,
        tokenizer_captions: str | None = None,
        weight_long: float = 1.0,
        weight_short: float = 1.0,
        weight_region: float = 0.1,
        weight_hard: float = 0.5,
    ) -> None:
        super().__init__()
        self.weight_long = weight_long
        self.weight_short = weight_short
        self.weight_region = weight_region
        self.weight_hard = weight_hard
        if isinstance(encoder, str):
            self.encoder = FGCLIP.from_pretrained(encoder).requires_grad_(True)
        else:
            self.encoder = _new_encoder(encoder, tokenizer_captions)
        pixels = 255.0
        mean, std = torch.tensor(self.encoder.image_mean), torch.tensor(self.encoder.image_std)
        self.register_buffer("pixel_mean", (mean * pixels).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", (std * pixels).view(1, 3, 1, 1), persistent=False)

    def forward(
        self,
        image: Sequence[Tensor],
        short_caption: Sequence[str],
        long_caption: Sequence[str],
        boxes: Sequence[Tensor],
        region_captions: Sequence[Sequence[str]],
        hard_captions: Sequence[Sequence[Sequence[str]]],
        mode: str = "loss",
    ) -> dict[str, Tensor]:
        """Losses of a batch of N images, each argument a list with one entry for each image.

        Args:
            image: (3, H, W) uint8 RGB, all of one size.
            short_caption: Caption of the image in a few words.
            long_caption: Caption of the image in several sentences.
            boxes: (K_i, 4) float, xyxy, in pixels of the image.
            region_captions: K_i captions.
            hard_captions: K_i lists of the right caption followed by M wrong ones.
            mode: Only "loss" has a meaning here.

        Returns:
            The weighted losses (keys with "loss") and the hard-negative accuracy.

        Raises:
            ValueError: Another mode than "loss".
        """
        if mode != "loss":
            raise ValueError(f"FGCLIPPretrainer only trains: mode {mode!r} is not supported")
        images = (torch.stack(list(image)).float() - self.pixel_mean) / self.pixel_std
        class_tokens, dense = self.encoder.vision_model.forward_class_and_dense(images)
        global_embeddings = F.normalize(self.encoder.visual_projection(class_tokens), dim=-1)
        losses = {}
        for length, captions, weight in (
            ("long", long_caption, self.weight_long),
            ("short", short_caption, self.weight_short),
        ):
            if weight:
                texts = self.encoder.encode_text(captions, length, normalize=True)
                scale = self.encoder.logit_scale.exp()
                loss = contrastive_loss(global_embeddings, texts, scale)
                losses[f"loss_global_{length}"] = weight * loss
        if self.weight_region or self.weight_hard:
            dense = self.encoder.visual_projection(dense)
            regions = F.normalize(self.encoder.pool_regions(dense, boxes), dim=-1)
            losses |= self._region_losses(regions, region_captions, hard_captions)
        return losses

    def _region_losses(
        self,
        regions: Tensor,
        region_captions: Sequence[Sequence[str]],
        hard_captions: Sequence[Sequence[Sequence[str]]],
    ) -> dict[str, Tensor]:
        """Objectives of regions (K, D), unit length, with captions as `forward` takes them."""
        # Captions of simple regions recur, within a batch and as each other's negatives: each is
        # encoded once.
        rows: dict[str, int] = {}

        def rows_of(captions: Sequence[str]) -> list[int]:
            return [rows.setdefault(caption, len(rows)) for caption in captions]

        region_rows = rows_of([c for of_image in region_captions for c in of_image])
        groups = [group for of_image in hard_captions for group in of_image]
        hard_rows = [rows_of(group) for group in groups] if self.weight_hard else []
        texts = self.encoder.encode_text(list(rows), "short", normalize=True)
        losses = {}
        if self.weight_region:
            scale = self.encoder.logit_scale_finegraind.exp()
            loss = contrastive_loss(regions, texts[region_rows], scale)
            losses["loss_region"] = self.weight_region * loss
        if self.weight_hard:
            candidates, valid = _pad(hard_rows)
            scale = self.encoder.logit_scale_hardneg.exp()
            loss, accuracy = hard_negative_loss(
                regions, texts[candidates], scale, valid.to(regions.device)
            )
            losses["loss_hard_negative"] = self.weight_hard * loss
            losses["accuracy_hard_negative"] = accuracy
        return losses

    def train_step(self, data, optim_wrapper) -> dict[str, Tensor]:
        """One optimisation step; temperatures are kept at 100 or below, as CLIP does."""
        log = super().train_step(data, optim_wrapper)
        with torch.no_grad():
            for scale in (
                self.encoder.logit_scale,
                self.encoder.logit_scale_finegraind,
                self.encoder.logit_scale_hardneg,
            ):
                scale.clamp_(max=_MAX_LOGIT_SCALE)
        return log


def _pad(groups: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of uneven groups as (K, longest) int64, and (K, longest) bool: which are real."""
    longest = max(map(len, groups), default=1)
    rows = torch.tensor([[*g, *[0] * (longest - len(g))] for g in groups], dtype=torch.long)
    counts = torch.tensor([len(group) for group in groups], dtype=torch.long)
    return rows.view(-1, longest), torch.arange(longest) < counts[:, None]


def _new_encoder(sizes: dict, tokenizer_captions: str | None) -> FGCLIP:
    vision = VisionConfig(**sizes["vision"])
    # The token of the end is the tokenizer's, which is not there yet.
    text = TextConfig(**{**sizes["text"], "eos_token_id": 0})
    if tokenizer_captions is None:
        raise ValueError("a new encoder needs tokenizer_captions: a JSON-lines file of captions")
    tokenizer = train_tokenizer(_read_captions(tokenizer_captions), text.vocab_size)
    if len(tokenizer) > text.vocab_size:
        raise ValueError(f"vocab_size {text.vocab_size} holds not the {len(tokenizer)} tokens")
    # Few captions may give fewer merges than asked for: the table follows the tokenizer.
    text = TextConfig(
        **{**sizes["text"], "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    )
    config = FGCLIPConfig(vision, text, sizes["projection_dim"])
    model = FGCLIP(config, tokenizer)
    _initialise(model)
    return model


def _initialise(model: FGCLIP) -> None:
    """CLIP's own start: small normal weights, the last layer of a branch scaled by depth."""
    for tower in (model.vision_model, model.text_model):
        width, depth = tower.config.hidden_size, tower.config.num_hidden_layers
        for block in tower.encoder.layers:
            attention, mlp = block.self_attn, block.mlp
            for linear in (attention.q_proj, attention.k_proj, attention.v_proj):
                nn.init.normal_(linear.weight, std=width**-0.5)
            nn.init.normal_(attention.out_proj.weight, std=(2 * width * depth) ** -0.5)
            nn.init.normal_(mlp.fc1.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(mlp.fc2.weight, std=(2 * width * depth) ** -0.5)
            for linear in (attention.q_proj, attention.k_proj, attention.v_proj):
                nn.init.zeros_(linear.bias)
            for linear in (attention.out_proj, mlp.fc1, mlp.fc2):
                nn.init.zeros_(linear.bias)
    nn.init.normal_(model.vision_model.embeddings.patch_embedding.weight, std=0.02)
    nn.init.normal_(model.vision_model.embeddings.position_embedding.weight, std=0.02)
    embeddings = model.text_model.embeddings
    nn.init.normal_(embeddings.token_embedding.weight, std=0.02)
    for table in (
        embeddings.position_embedding,
        embeddings.position_embedding_ori,
        embeddings.position_embedding_res,
    ):
        nn.init.normal_(table.weight, std=0.01)
    for projection in (
        model.visual_projection,
        model.text_projection,
        model.text_filip_projection,
    ):
        nn.init.normal_(projection.weight, std=projection.in_features**-0.5)


def _read_captions(path: str) -> list[str]:
    if not Path(path).is_file():
        raise ValueError(
            f"no caption file {path!r}: make it first (tools/prepare_shapes.py for Shapes)"
        )
    captions = []
    for _, entry in read_json_lines(path, "caption file"):
        captions += [entry["short_caption"], entry["long_caption"]]
        captions += [region["caption"] for region in entry["regions"]]
    return captions
