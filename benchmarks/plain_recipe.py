"""The package's detector as it would be put together from what mmcv and torchvision offer.

Every line of it is the package's, but for three things: the encoder's maps are copied to
(N, C, h, w), boxes are pooled from such maps by torchvision's RoIAlign, level by level as
MMDetection does it, and the dense map is made in training too, which has no use for it. With the
same weights it gives the same losses and detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from mmengine.config import Config
from torch import Tensor

from fgclip_det.models import FGCLIPViT, OpenVocabRoIHead, RoIAlignExtractor


class PlainFeatures(NamedTuple):
    """`FGCLIPFeatures` with the dense map in it, made whether it is asked for or not."""

    maps: tuple[Tensor, ...]
    grid: tuple[int, int]
    tokens: Tensor


class PlainViT(FGCLIPViT):
    """Contiguous (N, C, h, w) maps, and the dense map in each pass."""

    @torch.no_grad()
    def forward(self, images: Tensor) -> PlainFeatures:
        """(N, 3, H, W) normalised pixels -> maps and dense tokens (N, h * w, D)."""
        features = super().forward(images)
        tokens = super().dense(features)
        maps = tuple(one.contiguous() for one in features.maps)
        return PlainFeatures(maps, features.grid, tokens)

    def dense(self, features: PlainFeatures) -> Tensor:
        """The dense tokens that `forward` made."""
        return features.tokens


class PlainExtractor(RoIAlignExtractor):
    """torchvision's RoIAlign on each level, into one result by index, as MMDetection has it."""

    def forward(self, feats: Sequence[Tensor], rois: Tensor) -> Tensor:
        """See `RoIAlignExtractor`."""
        levels = self.map_roi_levels(rois)
        shape = (len(rois), self.out_channels, self.output_size, self.output_size)
        pooled = feats[0].new_zeros(shape)
        for level, (features, stride) in enumerate(zip(feats, self.featmap_strides, strict=True)):
            rows = (levels == level).nonzero().squeeze(1)
            cells = torch.cat([rois[rows, :1], _in_cells(rois[rows, 1:], stride)], dim=1)
            found = torchvision.ops.roi_align(
                features, cells, self.output_size, 1.0, self.sampling_ratio, True
            )
            pooled[rows] = found.to(pooled.dtype)
        return pooled


class PlainRoIHead(OpenVocabRoIHead):
    """torchvision's RoIAlign on the dense tokens, permuted to a map."""

    def pool_tokens(
        self, tokens: Tensor, grid: tuple[int, int], stride: float, boxes: Sequence[Tensor]
    ) -> Tensor:
        """See `OpenVocabRoIHead.pool_tokens`."""
        maps = tokens.transpose(1, 2).unflatten(2, grid).contiguous()
        cells = [_in_cells(own, stride) for own in boxes]
        pooled = torchvision.ops.roi_align(maps, cells, 1, 1.0, -1, True)
        return F.normalize(pooled.flatten(1).float(), dim=-1)


def _in_cells(boxes: Tensor, stride: float) -> Tensor:
    """Pixels -> cells, in float64 as the package does it: see `map_boxes`."""
    return (boxes.double() / stride).float()


def make_plain(config: Config) -> None:
    """Turn the detector that a config describes into the plain one, in place."""
    model = config.model
    model.backbone.type = PlainViT
    model.roi_head.type = PlainRoIHead
    model.roi_head.bbox_roi_extractor.type = PlainExtractor
