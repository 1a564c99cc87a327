"""RoIAlign on the levels of a pyramid, one level for each box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor

from fgclip_det.encoders.picture_frames import boxes_in_cells
from fgclip_det.ops import roi_align_pyramid


@MODELS.register_module()
class RoIAlignExtractor(BaseModule):
    """Pool each box from the level that suits its size (FPN, arXiv 1612.03144, section 4.2).

    MMDetection's `SingleRoIExtractor` casts boxes to the dtype of the features, which moves them
    by pixels under mixed precision; here they stay float32.

    Args:
        out_channels: Channels of each level; the detector asks the neck for them.
        featmap_strides: Pixels per cell of each level; the detector asks the neck for them.
        output_size: Bins per side.
        finest_scale: Boxes of a geometric mean side below twice this, in pixels, go to the first
            level, below four times this to the second, and so on.
        sampling_ratio: Samples per bin and axis; -1 takes as many as it covers cells.
    """

    def __init__(
        self,
        out_channels: int,
        featmap_strides: Sequence[float],
        output_size: int = 7,
        finest_scale: float = 56,
        sampling_ratio: int = -1,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.out_channels = out_channels
        self.featmap_strides = tuple(featmap_strides)
        self.output_size = output_size
        self.finest_scale = finest_scale
        self.sampling_ratio = sampling_ratio

    @property
    def num_inputs(self) -> int:
        """Levels it pools from."""
        return len(self.featmap_strides)

    def map_roi_levels(self, rois: Tensor) -> Tensor:
        """(K, 5) rois -> (K,) int64 levels."""
        sides = (rois[:, 3:5] - rois[:, 1:3]).clamp(min=0)
        octaves = torch.log2(sides.prod(dim=1).sqrt() / self.finest_scale + 1e-6).floor()
        return octaves.clamp(min=0, max=self.num_inputs - 1).long()

    def forward(self, feats: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Pool boxes.

        Args:
            feats: One (N, C, h_l, w_l) map for each of `featmap_strides`, of any float dtype.
            rois: (K, 5) float32: index of the image, then xyxy in pixels of the network input.

        Returns:
            (K, C, output_size, output_size) in the dtype of `feats`.

        Raises:
            ValueError: Another number of levels than of strides.
        """
        if len(feats) != self.num_inputs:
            raise ValueError(f"{len(feats)} levels for {self.num_inputs} featmap_strides")
        rois = rois.float()
        levels = self.map_roi_levels(rois)
        strides = torch.tensor(self.featmap_strides, dtype=torch.float64, device=rois.device)
        cells = boxes_in_cells(rois[:, 1:], strides[levels][:, None])
        # Every level is in the graph, with boxes or without, on every rank of a distributed run.
        return roi_align_pyramid(
            feats,
            torch.cat([rois[:, :1], cells], dim=1),
            levels,
            self.output_size,
            (1.0,) * self.num_inputs,
            self.sampling_ratio,
        )
