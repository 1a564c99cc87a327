"""SAM 2 with random weights, small enough to run in milliseconds, as published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import Sam2VideoConfig, Sam2VideoModel
from transformers.utils import logging

SIDE = 64
_BACKBONE = dict(
    model_type="sam2_hiera_det_model", hidden_size=8, image_size=[SIDE, SIDE],
    blocks_per_stage=[1, 1, 2, 1], embed_dim_per_stage=[8, 16, 32, 64],
    num_attention_heads_per_stage=[1, 1, 2, 2], window_size_per_stage=[4, 2, 2, 2],
    global_attention_blocks=[3], window_positional_embedding_background_size=[2, 2],
)  # fmt: skip
_VISION = dict(
    model_type="sam2_vision_model", backbone_config=_BACKBONE, fpn_hidden_size=32,
    backbone_channel_list=[64, 32, 16, 8], backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
)  # fmt: skip
_MEMORY = dict(
    image_size=SIDE, memory_attention_hidden_size=32, memory_attention_num_layers=1,
    memory_attention_feed_forward_hidden_size=32, memory_attention_rope_feat_sizes=[4, 4],
    memory_encoder_hidden_size=32, memory_encoder_output_channels=8, memory_fuser_embed_dim=32,
    memory_fuser_intermediate_dim=32, mask_downsampler_embed_dim=32,
)  # fmt: skip
_SPREAD = 0.3


def write_tiny_sam2(directory: str | Path, seed: int = 7) -> Path:
    """Write a network of videos, as the hub's repositories hold it, and its processor's files.

    Args:
        directory: Made where it is missing.
        seed: Of the weights. torch's generator is left as it was.

    Returns:
        The directory.
    """
    directory = Path(directory)
    config = Sam2VideoConfig(
        vision_config=dict(_VISION),
        prompt_encoder_config=dict(
            hidden_size=32, image_size=SIDE, patch_size=16, mask_input_channels=4
        ),
        mask_decoder_config=dict(
            hidden_size=32, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16
        ),
        **_MEMORY,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = Sam2VideoModel(config)
        # Else all masks are nearly one. Releases draw the first values in orders of their own.
        for name, value in sorted(model.named_parameters()):
            if "shared_embedding" in name:
                continue  # a second name of one matrix, which some releases list
            start = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            value.copy_(start + torch.randn_like(value) * _SPREAD)
        first = model.shared_image_embedding.positional_embedding
        model.prompt_encoder.shared_embedding.positional_embedding.copy_(first)
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    model.save_pretrained(directory)
    if bars:
        logging.enable_progress_bar()
    side = {"height": SIDE, "width": SIDE}
    values: dict[str, Any] = dict(
        image_processor_type="Sam2ImageProcessorFast", processor_class="Sam2VideoProcessor",
        size=side, mask_size={"height": SIDE // 4, "width": SIDE // 4}, resample=2,
        do_resize=True, do_rescale=True, do_normalize=True, do_convert_rgb=True,
        rescale_factor=1 / 255, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225],
    )  # fmt: skip
    (directory / "preprocessor_config.json").write_text(json.dumps(values))
    values = dict(point_pad_value=-10, processor_class="Sam2VideoProcessor", target_size=SIDE)
    (directory / "processor_config.json").write_text(json.dumps(values))
    return directory


def change_weights(directory: Path, removed: str | None = None, **added: torch.Tensor) -> None:
    """Write the weights again, without one of them or with more."""
    path = directory / "model.safetensors"
    weights = {**load_file(path), **added}
    weights.pop(removed, None)
    save_file(weights, path, metadata={"format": "pt"})


def change_json(directory: Path, name: str, **changes: Any) -> None:
    """Write a JSON file again, with other entries."""
    path = directory / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
