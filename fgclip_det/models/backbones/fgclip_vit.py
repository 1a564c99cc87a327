"""FG-CLIP's frozen image tower as a detector backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn

from fgclip_det.encoders import FGCLIP
from fgclip_det.models.backbones.frozen_encoder import FrozenEncoder


class FGCLIPFeatures(NamedTuple):
    """Features of a batch from the backbone; the same in training and in testing.

    Attributes:
        maps: One (N, E, h, w) map for each tapped block, shallow to deep, all at the stride of
            a patch; the last one is of the last block, which FG-CLIP v1 has in its value-only
            form there.
        grid: Rows and columns (h, w) of the maps.
    """

    maps: tuple[Tensor, ...]
    grid: tuple[int, int]


@MODELS.register_module()
class FGCLIPViT(FrozenEncoder):
    """Frozen FG-CLIP: intermediate maps for a pyramid, and dense tokens in the text's space.

    Args:
        encoder: See `build_encoder`.
        out_indices: Blocks to tap, 0-based and rising, negative ones counted from the end; the
            last one must be the last block, since the dense tokens come from it.

    Raises:
        ValueError: `out_indices` does not fit the depth of the encoder, or it is an FG-CLIP 2.
    """

    encoder_class: type[nn.Module] = FGCLIP

    def __init__(
        self,
        encoder: FGCLIP | str | Mapping,
        out_indices: Sequence[int] = (3, 5, 7, 11),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(encoder, init_cfg=init_cfg)
        if not isinstance(self.encoder, self.encoder_class):
            kind = type(self.encoder).__name__
            raise ValueError(
                f"backbone.encoder is an {kind}, which {type(self).__name__} cannot hold: set "
                f"backbone.type to '{kind}ViT'"
            )
        depth = self.encoder.num_layers
        self.out_indices = tuple(i + depth if i < 0 else i for i in out_indices)
        rising = self.out_indices == tuple(sorted(set(self.out_indices)))
        if not rising or not self.out_indices or self.out_indices[0] < 0:
            raise ValueError(f"out_indices {tuple(out_indices)} must rise within {depth} blocks")
        if self.out_indices[-1] != depth - 1:
            raise ValueError(
                f"out_indices {tuple(out_indices)} must end with the last block of the encoder, "
                f"{depth - 1}: set backbone.out_indices to fit its {depth} blocks"
            )

    @property
    def out_channels(self) -> int:
        """Channels of each map."""
        return self.encoder.embed_dim

    @property
    def stride(self) -> int:
        """Pixels per cell of each map."""
        return self.encoder.patch_size

    @torch.no_grad()
    def forward(self, images: Tensor) -> FGCLIPFeatures:
        """Maps of the tapped blocks: (N, 3, H, W) normalised pixels -> `FGCLIPFeatures`."""
        taps = self.encoder.vision_model.forward_taps(images, self.out_indices)
        grid = (taps[0].shape[1], taps[0].shape[2])
        return FGCLIPFeatures(tuple(tap.permute(0, 3, 1, 2) for tap in taps), grid)

    @torch.no_grad()
    def dense(self, features: FGCLIPFeatures) -> Tensor:
        """Tokens in the space of the texts, of unit length each.

        Training does not need them, so they cost nothing until asked for.

        Returns:
            (N, h * w, D), row by row of the grid, in the dtype of the maps.
        """
        tokens = self.encoder.project_dense(features.maps[-1].permute(0, 2, 3, 1))
        return F.normalize(tokens, dim=-1).flatten(1, 2)
