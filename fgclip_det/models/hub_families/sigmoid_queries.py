"""RT-DETR and its heirs: queries with a probability of each class of its own."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fgclip_det.models.hub_families.family import HubFamily, to_corners
from fgclip_det.models.hub_families.loading import Checkpoint, read_network, read_processor


class SigmoidQueries(HubFamily):
    """A query is a box; its score is that of its likeliest class.

    The package's own post-processing ranks pairs of query and class instead, in which a box comes
    back once for each class that it may be: hundreds of places hold far fewer boxes.

    Args:
        directory: Of the checkpoint.
        checkpoint: What its ``config.json`` says.

    Raises:
        ValueError: See `read_network`, `read_processor`.
    """

    def __init__(self, directory: Path, checkpoint: Checkpoint) -> None:
        network = read_network(directory, checkpoint)
        processor, told = read_processor(directory)
        super().__init__(network, {"config": checkpoint.config, "processor": told})
        self._processor = processor

    @torch.no_grad()
    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """See `HubFamily`."""
        # Resized on the CPU: other devices round other pixels.
        given = self._processor(picture.cpu()).to(self.device)
        found = self.network(**given)
        boxes = to_corners(found.pred_boxes[0], tuple(picture.shape[-2:]))
        return boxes, found.logits[0].float().sigmoid().amax(dim=-1)
