"""OWLv2 by its objectness alone: what looks like a thing, whatever it may be called."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip_det.models.hub_families.family import HubFamily, to_corners
from fgclip_det.models.hub_families.loading import Checkpoint, read_network, read_processor

# What the network saw around pictures when it was trained.
_GREY = 0.5
# Parts that only words need.
_OF_WORDS = ("text_model", "text_projection", "visual_projection")


class Owlv2Objectness(HubFamily):
    """Each patch is a box; its score is the objectness, and the text tower is not kept.

    Neighbouring patches find the same object, so that boxes must be suppressed.

    Args:
        directory: Of the checkpoint.
        checkpoint: What its ``config.json`` says.

    Raises:
        ValueError: See `read_network`, `read_processor`.
    """

    nms_iou = 0.7

    def __init__(self, directory: Path, checkpoint: Checkpoint) -> None:
        network = read_network(directory, checkpoint)
        for name in _OF_WORDS:
            delattr(network.owlv2, name)
        del network.class_head, network.owlv2.logit_scale
        processor, told = read_processor(directory)
        super().__init__(network, {"config": checkpoint.config, "processor": told})
        self._processor = processor

    def pixel_values(self, picture: Tensor) -> Tensor:
        """What the network reads: (1, 3, S, S) float32 on the CPU, of (3, H, W) uint8 pixels."""
        height, width = picture.shape[-2:]
        side = max(height, width)
        # Padded here: releases of transformers pad with grey or with black.
        square = F.pad(
            picture.cpu().float() / 255, (0, side - width, 0, side - height), value=_GREY
        )
        return self._processor(square, do_rescale=False, do_pad=False)["pixel_values"]

    @torch.no_grad()
    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """See `HubFamily`."""
        side = max(picture.shape[-2:])
        features, _ = self.network.image_embedder(self.pixel_values(picture).to(self.device))
        patches = features.flatten(1, 2)
        boxes = self.network.box_predictor(patches, features)
        scores = self.network.objectness_predictor(patches).float().sigmoid()
        return to_corners(boxes[0], (side, side)), scores[0]
