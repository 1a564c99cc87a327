"""A feature pyramid from maps that all have one stride, as a vision transformer's."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mmcv.cnn import build_norm_layer
from mmdet.models.necks import FPN
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn


@MODELS.register_module()
class ViTFeaturePyramid(BaseModule):
    """Resample the maps of tapped blocks to rising strides, then a feature pyramid network.

    The shallowest tap becomes the finest level (ViTDet, arXiv 2203.16527; F-ViT, CLIPSelf, arXiv
    2310.01403). Levels beyond the taps are made by max-pooling.

    Args:
        in_channels: Channels of each map; the detector asks the backbone for them.
        stride: Pixels per cell of each map; the detector asks the backbone for it.
        out_channels: Channels of each level.
        scales: For each tap, by how much its resolution is multiplied: powers of two.
        num_outs: Levels given, at least as many as `scales`.
        norm_cfg: Norm layer of the resamplers and of the pyramid.

    Raises:
        ValueError: A scale is no power of two, or there are fewer outputs than taps.
    """

    def __init__(
        self,
        in_channels: int,
        stride: float,
        out_channels: int = 256,
        scales: Sequence[float] = (4, 2, 1, 0.5),
        num_outs: int = 5,
        norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        norm_cfg = norm_cfg or {"type": "SyncBN", "requires_grad": True}
        if num_outs < len(scales):
            raise ValueError(f"num_outs {num_outs} is less than the {len(scales)} scales")
        self.out_channels = out_channels
        strides = [stride / scale for scale in scales]
        while len(strides) < num_outs:
            strides.append(2 * strides[-1])
        self.strides = tuple(int(s) if float(s).is_integer() else s for s in strides)
        self.num_taps = len(scales)
        self.resamplers = nn.ModuleList(_resampler(in_channels, s, norm_cfg) for s in scales)
        self.fpn = FPN([in_channels] * len(scales), out_channels, num_outs, norm_cfg=norm_cfg)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """One (N, E, h, w) map for each scale -> one (N, C, h_l, w_l) map for each level.

        Raises:
            ValueError: Not as many maps as scales.
        """
        if len(maps) != self.num_taps:
            raise ValueError(
                f"{len(maps)} maps for {self.num_taps} scales: neck.scales needs one scale for "
                "each of backbone.out_indices"
            )
        resampled = [f(m) for f, m in zip(self.resamplers, maps, strict=True)]
        return self.fpn(resampled)


def _resampler(channels: int, scale: float, norm_cfg: dict) -> nn.Module:
    octaves = math.log2(scale) if scale > 0 else math.nan
    if octaves != octaves or octaves != round(octaves):
        raise ValueError(f"scale {scale} is no power of two: use 4, 2, 1, 0.5 or the like")
    if octaves < 0:
        factor = 2 ** round(-octaves)
        return nn.MaxPool2d(factor, factor)
    layers: list[nn.Module] = []
    for _ in range(round(octaves)):
        if layers:
            layers += [build_norm_layer(norm_cfg, channels)[1], nn.GELU()]
        layers.append(nn.ConvTranspose2d(channels, channels, 2, stride=2))
    return nn.Sequential(*layers)
