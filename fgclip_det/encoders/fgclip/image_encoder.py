"""The image tower: a CLIP vision transformer that also gives dense, region-aligned features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgclip_det.encoders.fgclip.config import VisionConfig
from fgclip_det.encoders.layers import Transformer, TransformerBlock


class PatchEmbeddings(nn.Module):
    """Pixels to tokens: patches, the class token in front, positions added."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.table_grid = config.grid
        width = config.hidden_size
        self.class_embedding = nn.Parameter(torch.empty(width))
        nn.init.normal_(self.class_embedding, std=width**-0.5)
        self.patch_embedding = nn.Conv2d(
            3, width, config.patch_size, stride=config.patch_size, bias=False
        )
        rows, columns = self.table_grid
        self.position_embedding = nn.Embedding(1 + rows * columns, width)

    def forward(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(N, 3, H, W) normalised pixels -> tokens (N, 1 + h * w, E) and the grid (h, w)."""
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (N, 3, H, W), got {tuple(images.shape)}")
        if min(images.shape[-2:]) < self.patch_size:
            raise ValueError(
                f"images of {images.shape[-2]}x{images.shape[-1]} pixels are smaller than one "
                f"{self.patch_size}-pixel patch: resize them first"
            )
        patches = self.patch_embedding(images)
        grid = (patches.shape[-2], patches.shape[-1])
        class_token = self.class_embedding.expand(images.shape[0], 1, -1)
        tokens = torch.cat([class_token, patches.flatten(2).transpose(1, 2)], dim=1)
        return tokens + self.positions(grid), grid

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Position table (1 + h * w, E) for a grid (h, w), resized bicubically where needed."""
        table = self.position_embedding.weight
        if grid == self.table_grid:
            return table
        square = table[1:].unflatten(0, self.table_grid).permute(2, 0, 1)[None]
        resized = F.interpolate(square, size=grid, mode="bicubic", align_corners=False)
        return torch.cat([table[:1], resized[0].flatten(1).transpose(0, 1)])


class FGCLIPImageEncoder(nn.Module):
    """Vision transformer of FG-CLIP.

    Attributes are named as in the published checkpoints (``pre_layrnorm`` included).
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = PatchEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder = Transformer(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    @property
    def blocks(self) -> list[TransformerBlock]:
        """The transformer's blocks, first to last."""
        return cast("list[TransformerBlock]", list(self.encoder.layers))

    def forward(self, images: Tensor) -> Tensor:
        """Class token of images.

        Args:
            images: (N, 3, H, W) normalised pixels, H and W at least one patch.

        Returns:
            (N, E), after the final norm, before the visual projection.
        """
        hidden, _ = self._before_last_block(images)
        return self._class_token(hidden)

    def forward_dense(self, images: Tensor) -> Tensor:
        """Value-path features (N, h, w, E), after the final norm, before the projection."""
        last = self.config.num_hidden_layers - 1
        return self.post_layernorm(self.forward_taps(images, [last])[0])

    def forward_class_and_dense(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` and `forward_dense` from one pass: (N, E) and (N, h, w, E)."""
        hidden, grid = self._before_last_block(images)
        dense = self.blocks[-1].forward_value_path(hidden[:, 1:])
        return self._class_token(hidden), self.post_layernorm(dense).unflatten(1, grid)

    def forward_taps(self, images: Tensor, out_indices: Sequence[int]) -> list[Tensor]:
        """Hidden states after the blocks `out_indices` (0-based), for a detector's pyramid.

        The class token is dropped and no final norm is applied. The last block, where asked for,
        is in its value-only form, so that its map stays aligned with regions.

        Args:
            images: (N, 3, H, W) normalised pixels.
            out_indices: Rising block numbers in [0, num_hidden_layers).

        Returns:
            One (N, h, w, E) map for each index.

        Raises:
            ValueError: An index is out of range or the indices do not rise.
        """
        depth = self.config.num_hidden_layers
        wanted = list(out_indices)
        if wanted != sorted(set(wanted)) or not all(0 <= index < depth for index in wanted):
            raise ValueError(f"out_indices {wanted} must rise within [0, {depth})")
        tokens, grid = self.embeddings(images)
        hidden = self.pre_layrnorm(tokens)
        taps = []
        for index, block in enumerate(self.blocks[: wanted[-1] + 1]):
            hidden = block.forward_value_path(hidden) if index == depth - 1 else block(hidden)
            if index in wanted:
                taps.append(hidden[:, 1:].unflatten(1, grid))
        return taps

    def _before_last_block(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        tokens, grid = self.embeddings(images)
        hidden = self.pre_layrnorm(tokens)
        for block in self.blocks[:-1]:
            hidden = block(hidden)
        return hidden, grid

    def _class_token(self, hidden: Tensor) -> Tensor:
        return self.post_layernorm(self.blocks[-1](hidden)[:, 0])
