"""Encoders of both generations with random weights, small enough to be built in milliseconds."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
from transformers import CLIPTokenizerFast

from fgclip_det.encoders import FGCLIP, FGCLIP2, FGCLIP2Config, FGCLIPConfig, train_tokenizer

# What the tokenizer has merges for; it spells all other words byte by byte.
NAMES = ["red circle", "blue star", "green square", "red star", "blue circle", "green star"]


@cache
def tiny_tokenizer() -> CLIPTokenizerFast:
    """530 tokens; the same object for all callers."""
    return train_tokenizer(NAMES, 530)


def tiny_fgclip(
    *,
    speaks: bool = False,
    depth: int = 2,
    patch_size: int = 16,
    projection_dim: int = 20,
    seed: int = 0,
) -> FGCLIP:
    """An `FGCLIP` of ``FGCLIPConfig.tiny()``, frozen as one that was read from disk.

    Args:
        speaks: Give it `tiny_tokenizer` and a text tower of as many tokens.
        depth: Blocks of the image tower.
        patch_size: In pixels; the position table has 4 x 4 entries at any size.
        projection_dim: Width of the space of images and texts.
        seed: Of the weights. torch's generator is left as it was.
    """
    config = FGCLIPConfig.tiny()
    vision = replace(
        config.vision, num_hidden_layers=depth, patch_size=patch_size, image_size=4 * patch_size
    )
    text, tokenizer = config.text, tiny_tokenizer() if speaks else None
    if tokenizer:
        text = replace(text, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    config = replace(config, vision=vision, text=text, projection_dim=projection_dim)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FGCLIP(config, tokenizer).eval().requires_grad_(False)


def tiny_fgclip2(
    *, speaks: bool = False, depth: int = 2, patch_size: int = 16, seed: int = 0
) -> FGCLIP2:
    """An `FGCLIP2` of ``FGCLIP2Config.tiny()``; see `tiny_fgclip`.

    It pads texts as published checkpoints do only after it was saved and read.
    """
    config = FGCLIP2Config.tiny()
    vision = replace(config.vision, num_hidden_layers=depth, patch_size=patch_size)
    text, tokenizer = config.text, tiny_tokenizer() if speaks else None
    if tokenizer:
        text = replace(text, vocab_size=len(tokenizer))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FGCLIP2(FGCLIP2Config(vision, text), tokenizer).eval().requires_grad_(False)
