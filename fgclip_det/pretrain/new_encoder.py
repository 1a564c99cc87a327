"""An FG-CLIP of one's own sizes, as its training starts: random weights, a tokenizer trained."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from fgclip_det.encoders import FGCLIP, FGCLIPConfig, TextConfig, VisionConfig, train_tokenizer
from fgclip_det.io import read_json_lines


def new_encoder(sizes: dict, tokenizer_captions: str | None) -> FGCLIP:
    """An encoder with CLIP's random start.

    Args:
        sizes: ``dict(vision=dict(...), text=dict(...), projection_dim=...)``.
        tokenizer_captions: JSON-lines file as `RegionCaptionDataset` reads it, on whose captions
            a tokenizer of ``text.vocab_size`` tokens is trained.

    Raises:
        ValueError: There is no such file, or the tokens do not fit.
    """
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
