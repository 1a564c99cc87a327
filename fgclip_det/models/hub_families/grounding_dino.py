"""Grounding DINO with one prompt for all pictures: boxes of "object", named by somebody else."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fgclip_det.models.hub_families.family import HubFamily, to_corners
from fgclip_det.models.hub_families.loading import (
    Checkpoint,
    read_network,
    read_processor,
    read_tokenizer,
)

# Heads of the layers of MM-Grounding-DINO's decoder are their own. transformers 5 ties them where
# a config does not say so, as none did that was written before, and keeps those of the first.
_OWN_HEADS = ("decoder_bbox_embed_share", "decoder_cls_embed_share")


class GroundedQueries(HubFamily):
    """A query is a box; its score is that of the likeliest token of the prompt.

    Args:
        directory: Of the checkpoint.
        checkpoint: What its ``config.json`` says.
        prompt: What to look for in all pictures, such as "object." or "a person. a car."; it is
            put in small letters, and ended by a full stop.

    Raises:
        ValueError: The prompt is empty or too long; see `read_network`, `read_processor`,
            `read_tokenizer`.
    """

    def __init__(self, directory: Path, checkpoint: Checkpoint, prompt: str) -> None:
        changes = {}
        if checkpoint.model_type == "mm-grounding-dino":
            changes = {key: False for key in _OWN_HEADS if key not in checkpoint.config}
        text = " ".join(prompt.lower().split())
        if not text.strip(". "):
            raise ValueError(f"prompt is {prompt!r}: name what is looked for, such as 'object.'")
        text = text if text.endswith(".") else f"{text}."
        network = read_network(directory, checkpoint, changes)
        processor, told = read_processor(directory)
        tokens = read_tokenizer(directory)(text)
        most, given = int(network.config.max_text_len), tokens["input_ids"].shape[1]
        if given > most:
            raise ValueError(
                f"prompt has {given} tokens, and the detector reads {most}: shorten it"
            )
        ids = tokens["input_ids"].tolist()
        super().__init__(
            network, {"config": checkpoint.config, "processor": told, "prompt": [text, ids]}
        )
        self._processor = processor
        self._tokens = dict(tokens)

    @torch.no_grad()
    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """See `HubFamily`."""
        given = self._processor(picture.cpu()).to(self.device)
        tokens = {key: value.to(self.device) for key, value in self._tokens.items()}
        found = self.network(**given, **tokens)
        boxes = to_corners(found.pred_boxes[0], tuple(picture.shape[-2:]))
        return boxes, found.logits[0].float().sigmoid().amax(dim=-1)
