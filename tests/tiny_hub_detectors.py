"""Detectors of the hub with random weights, small enough to run in milliseconds, as published."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils import logging

SIDE = 64
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "object", "a", "thing"]
NEEDS_5 = ("deimv2", "lw_detr", "rf_detr")
ON_BOTH = ("rt_detr", "rt_detr_v2", "d_fine", "owlv2", "grounding-dino", "mm-grounding-dino")
IS_5 = int(transformers.__version__.split(".")[0]) >= 5
FAMILIES = ON_BOTH + NEEDS_5 if IS_5 else ON_BOTH
# Boxes that random weights give lie all on one another: weights of these are spread.
_SPREAD = 0.2

_QUERIES = dict(
    num_queries=20, num_labels=5, encoder_hidden_dim=32, encoder_ffn_dim=32, d_model=32,
    encoder_attention_heads=4, decoder_attention_heads=4, decoder_ffn_dim=32, decoder_layers=2,
    decoder_in_channels=[32, 32, 32], encoder_layers=1, num_denoising=4,
)  # fmt: skip
_RESNET = dict(
    model_type="rt_detr_resnet", embedding_size=8, hidden_sizes=[8, 16, 24, 32],
    depths=[1, 1, 1, 1], out_features=["stage2", "stage3", "stage4"], layer_type="basic",
)  # fmt: skip
_HGNET = dict(
    model_type="hgnet_v2", stem_channels=[3, 8, 8], embedding_size=8,
    hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], out_features=["stage2", "stage3", "stage4"],
    out_indices=[2, 3, 4], stage_in_channels=[8, 8, 16, 24], stage_mid_channels=[4, 8, 8, 8],
    stage_out_channels=[8, 16, 24, 32], stage_num_blocks=[1, 1, 1, 1], stage_numb_of_layers=[1] * 4,
    stage_downsample=[False, True, True, True], stage_light_block=[False, False, True, True],
    stage_kernel_size=[3, 3, 5, 5],
)  # fmt: skip
_GROUNDED = dict(
    backbone_config=dict(
        model_type="swin", embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
        image_size=SIDE, out_features=["stage2", "stage3", "stage4"], out_indices=[2, 3, 4],
    ),
    text_config=dict(
        model_type="bert", vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=32, max_position_embeddings=64,
    ),
    num_queries=20, d_model=32, encoder_layers=1, encoder_ffn_dim=32, encoder_attention_heads=4,
    decoder_layers=2, decoder_ffn_dim=32, decoder_attention_heads=4, max_text_len=16,
)  # fmt: skip
_VIT = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, out_indices=[1, 2])
_GROUPED = dict(
    d_model=32, num_labels=5, decoder_ffn_dim=32, decoder_layers=2, num_queries=10, group_detr=2,
    decoder_self_attention_heads=4, decoder_cross_attention_heads=4,
)  # fmt: skip


def _owlv2() -> dict[str, Any]:
    sizes = dict(hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4)
    return dict(
        vision_config=dict(**sizes, image_size=SIDE, patch_size=16),
        text_config=dict(
            **sizes, vocab_size=99, max_position_embeddings=8, bos_token_id=97, eos_token_id=98
        ),
        projection_dim=16,
    )


# Of each: the stem of its classes, its sizes, and the class of its processor.
_PARTS: dict[str, tuple[str, Callable[[], dict], str]] = {
    "rt_detr": ("RTDetr", lambda: _sized(_RESNET), "RTDetrImageProcessor"),
    "rt_detr_v2": ("RTDetrV2", lambda: _sized(_RESNET), "RTDetrImageProcessor"),
    "d_fine": ("DFine", lambda: _sized(_HGNET), "RTDetrImageProcessor"),
    "deimv2": ("Deimv2", lambda: _sized(_HGNET), "RTDetrImageProcessor"),
    "owlv2": ("Owlv2", _owlv2, "Owlv2ImageProcessor"),
    "grounding-dino": ("GroundingDino", lambda: _GROUNDED, "GroundingDinoImageProcessor"),
    "mm-grounding-dino": ("MMGroundingDino", lambda: _GROUNDED, "GroundingDinoImageProcessor"),
    "lw_detr": (
        "LwDetr",
        lambda: dict(
            **_GROUPED,
            projector_scale_factors=[1.0],
            backbone_config=dict(
                model_type="lw_detr_vit", **_VIT, image_size=SIDE, pretrain_image_size=SIDE,
                num_windows=4, window_block_indices=[0],
            ),
        ),
        "DeformableDetrImageProcessor",
    ),
    "rf_detr": (
        "RfDetr",
        lambda: dict(
            **_GROUPED,
            backbone_config=dict(
                model_type="rf_detr_dinov2", **_VIT, image_size=SIDE, patch_size=16, num_windows=2,
            ),
        ),
        "RfDetrImageProcessor",
    ),
}  # fmt: skip


def _sized(backbone: dict) -> dict[str, Any]:
    return dict(**_QUERIES, encoder_in_channels=[16, 24, 32], backbone_config=dict(backbone))


def write_tiny(family: str, directory: str | Path, seed: int = 0, **sizes: Any) -> Path:
    """Write a detector of random weights in the published layout.

    Args:
        family: One of `FAMILIES`, as ``model_type`` names it; "_" for "-" is fine.
        directory: Made where it is missing.
        seed: Of the weights. torch's generator is left as it was.
        **sizes: Entries of the config other than the tiny ones.

    Returns:
        The directory.
    """
    family = family if family in _PARTS else family.replace("_", "-")
    stem, settings, processor = _PARTS[family]
    directory = Path(directory)
    values = json.loads(json.dumps({**settings(), **sizes}))
    if family == "mm-grounding-dino" and IS_5:
        values.update(decoder_bbox_embed_share=False, decoder_cls_embed_share=False)
    config = getattr(transformers, f"{stem}Config")(**_configs(values))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, f"{stem}ForObjectDetection")(config).eval()
        _spread(model)
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    model.save_pretrained(directory)
    if bars:
        logging.enable_progress_bar()
    if family == "mm-grounding-dino" and IS_5:
        # As those that were published before 5.x had these settings.
        values = json.loads((directory / "config.json").read_text())
        del values["decoder_bbox_embed_share"], values["decoder_cls_embed_share"]
        (directory / "config.json").write_text(json.dumps(values))
    _write_processor(family, processor, directory)
    return directory


def _configs(values: dict[str, Any]) -> dict[str, Any]:
    """4.57 takes some parts of a config as objects alone."""
    for key, value in values.items():
        if isinstance(value, dict) and "model_type" in value:
            rest = {name: entry for name, entry in value.items() if name != "model_type"}
            if "out_features" in rest:
                rest.pop("out_indices", None)
            values[key] = transformers.AutoConfig.for_model(value["model_type"], **rest)
    return values


@torch.no_grad()
def _spread(model: torch.nn.Module) -> None:
    heads = ("bbox_embed", "class_embed", "score_head", "box_head", "objectness_head")
    for name, value in model.named_parameters():
        if any(part in name for part in heads):
            if "box_head" in name or "objectness" in name:
                value.zero_()  # OWLv2's own are so large that all scores are 0 or 1
            value.add_(torch.randn_like(value) * _SPREAD)


def _write_processor(family: str, kind: str, directory: Path) -> None:
    """The file that the hub's repositories have, under the name that both releases read."""
    side = {"height": SIDE, "width": SIDE}
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    values: dict[str, Any] = {"image_processor_type": kind, "do_resize": True, "do_rescale": True}
    values |= {"rescale_factor": 1 / 255, "resample": 2, "size": side}
    if family in ("rt_detr", "rt_detr_v2", "d_fine", "deimv2"):
        values |= {"do_normalize": False, "do_pad": False}
    elif family == "owlv2":
        mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
        values |= {"do_normalize": True, "do_pad": True, "processor_class": "Owlv2Processor"}
    else:
        values |= {"do_normalize": True, "do_pad": True}
    if "grounding" in family:
        values["size"] = {"shortest_edge": 2 * SIDE, "longest_edge": 4 * SIDE}
        (directory / "vocab.txt").write_text("\n".join(WORDS) + "\n")
        tokenizer = transformers.BertTokenizer(str(directory / "vocab.txt"))
        tokenizer.save_pretrained(directory)
    values |= {"image_mean": mean, "image_std": std}
    (directory / "preprocessor_config.json").write_text(json.dumps(values, indent=2))
