"""What all families of detectors have in common: a picture in, a box and a score a query out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class HubFamily(nn.Module):
    """A network that was trained elsewhere, frozen, in float32.

    Attributes:
        nms_iou: Overlap above which the weaker of two boxes goes, where nobody says otherwise;
            None for networks that find each object once.
        told: Contents of the files, beside the weights, that decide what it finds.
    """

    nms_iou: float | None = None

    def __init__(self, network: nn.Module, told: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.told = dict(told)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.network.parameters()).device

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """The box of each query, and how sure the network is that it holds anything.

        Args:
            picture: (3, H, W) uint8, RGB.

        Returns:
            ``boxes`` (Q, 4) float32, xyxy, in pixels of `picture`, and ``scores`` (Q,) float32 in
            [0, 1].
        """
        raise NotImplementedError


def to_corners(boxes: Tensor, size: tuple[float, float]) -> Tensor:
    """Boxes in pixels from shares of a frame.

    Args:
        boxes: (Q, 4), centre x, centre y, width, height, each a share of the frame's side.
        size: Height and width of the frame in pixels.

    Returns:
        (Q, 4) float32, xyxy.
    """
    centres, sides = boxes.float().split(2, dim=-1)
    corners = torch.cat([centres - sides / 2, centres + sides / 2], dim=-1)
    height, width = size
    return corners * corners.new_tensor([width, height, width, height])
