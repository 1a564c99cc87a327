"""What `propose` hands to `classify`: boxes that know nothing of any vocabulary."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import torch
from torch import Tensor


@dataclass
class Regions:
    """Regions of one image.

    Attributes:
        boxes: (K, 4) float32, xyxy, in pixels of the network input, clipped to the picture.
        objectness: (K,) float32 in [0, 1], from the region proposal network.
        detector_embeddings: (K, D) float32 of unit length, from the trained box head.
        region_embeddings: (K, D) float32 of unit length, from the frozen FG-CLIP.
        image_meta: ``img_shape`` and ``ori_shape`` (height, width) in pixels of the network
            input and of the original picture, ``scale_factor`` (x, y) from the latter to the
            former; MMDetection's names and meanings.
    """

    boxes: Tensor
    objectness: Tensor
    detector_embeddings: Tensor
    region_embeddings: Tensor
    image_meta: dict = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.boxes)

    def to(self, device: torch.device | str) -> Regions:
        """The same regions on `device`."""
        return self._map(lambda tensor: tensor.to(device))

    def __getitem__(self, rows: Tensor | slice) -> Regions:
        """The regions that an index tensor, a mask or a slice picks."""
        return self._map(lambda tensor: tensor[rows])

    def _map(self, function) -> Regions:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        meta = values.pop("image_meta")
        return Regions(**{k: function(v) for k, v in values.items()}, image_meta=dict(meta))
