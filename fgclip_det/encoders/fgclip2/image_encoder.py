"""The image tower of FG-CLIP 2: SigLIP 2's, for images of any aspect ratio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgclip_det.encoders.fgclip2.config import FGCLIP2VisionConfig
from fgclip_det.encoders.fgclip2.packed_images import PackedImages, to_patches
from fgclip_det.encoders.fgclip2.pooling_head import PoolingHead
from fgclip_det.encoders.layers import Transformer, TransformerBlock


class ImageTokens(NamedTuple):
    """Tokens of a batch of images.

    Attributes:
        hidden: (N, L, E), one for each patch.
        mask: (N, 1, 1, L) bool, True for patches and False for padding; None without padding.
        grid: Rows and columns (h, w) of images of one shape; None for packed images.
    """

    hidden: Tensor
    mask: Tensor | None
    grid: tuple[int, int] | None


class FlatPatchEmbeddings(nn.Module):
    """Flattened patches to tokens, positions added."""

    def __init__(self, config: FGCLIP2VisionConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.table_grid = config.grid
        self.patch_embedding = nn.Linear(3 * config.patch_size**2, config.hidden_size)
        self.position_embedding = nn.Embedding(config.num_patches, config.hidden_size)

    def forward(self, images: Tensor | PackedImages) -> ImageTokens:
        """(N, 3, H, W) normalised pixels, or packed images, to tokens before the first block."""
        if isinstance(images, PackedImages):
            values = images.pixel_values
            if values.shape[2] != self.patch_embedding.in_features:
                raise ValueError(
                    f"pixel_values have rows of {values.shape[2]} numbers, but a patch of "
                    f"{self.patch_size} x {self.patch_size} pixels has "
                    f"{self.patch_embedding.in_features}: pack with patch_size {self.patch_size}"
                )
            positions = [self._padded(grid, values.shape[1]) for grid in images.grids]
            table = torch.stack(positions) if positions else values.new_zeros(())
            mask = images.pixel_attention_mask.bool()[:, None, None]
            return ImageTokens(self.patch_embedding(values) + table, mask, None)
        patches, grid = to_patches(images, self.patch_size)
        return ImageTokens(self.patch_embedding(patches) + self.positions(grid), None, grid)

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Position table (h * w, E) for a grid (h, w), resized where needed."""
        table = self.position_embedding.weight
        if grid == self.table_grid:
            return table
        square = table.unflatten(0, self.table_grid).permute(2, 0, 1)[None]
        if square.dtype in (torch.float16, torch.bfloat16):
            # The antialiasing resize of the CPU knows no half precision.
            square = square.float()
        resized = F.interpolate(
            square, size=grid, mode="bilinear", align_corners=False, antialias=True
        )
        return resized[0].flatten(1).transpose(0, 1).to(table.dtype)

    def _padded(self, grid: tuple[int, int], rows: int) -> Tensor:
        # Padding takes the first position, as in SigLIP 2: nothing attends to it, but what a
        # packed batch returns for it stays the same.
        table = self.positions(grid)
        return torch.cat([table, table[:1].expand(rows - len(table), -1)])


class FGCLIP2ImageEncoder(nn.Module):
    """Vision transformer of FG-CLIP 2. Attributes are named as in the published checkpoints."""

    def __init__(self, config: FGCLIP2VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = FlatPatchEmbeddings(config)
        self.encoder = Transformer(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.head = PoolingHead(config)

    @property
    def blocks(self) -> list[TransformerBlock]:
        """The transformer's blocks, first to last."""
        return cast("list[TransformerBlock]", list(self.encoder.layers))

    def forward_tokens(self, images: Tensor | PackedImages) -> ImageTokens:
        """Tokens behind the last block and the final norm.

        Args:
            images: (N, 3, H, W) normalised pixels, H and W at least one patch, or packed images.
        """
        hidden, mask, grid = self.embeddings(images)
        for block in self.blocks:
            hidden = block(hidden, mask=mask)
        return ImageTokens(self.post_layernorm(hidden), mask, grid)

    def forward(self, images: Tensor | PackedImages) -> Tensor:
        """Features (N, E) of whole images by attention pooling."""
        tokens = self.forward_tokens(images)
        return self.head(tokens.hidden, tokens.mask)

    def forward_taps(self, images: Tensor, out_indices: Sequence[int]) -> list[Tensor]:
        """Hidden states after the blocks `out_indices` (0-based), for a detector's pyramid.

        Args:
            images: (N, 3, H, W) normalised pixels.
            out_indices: Rising block numbers in [0, num_hidden_layers).

        Returns:
            One (N, h, w, E) map for each index, without the final norm.

        Raises:
            ValueError: An index is out of range or the indices do not rise.
        """
        depth = self.config.num_hidden_layers
        wanted = list(out_indices)
        if wanted != sorted(set(wanted)) or not all(0 <= index < depth for index in wanted):
            raise ValueError(f"out_indices {wanted} must rise within [0, {depth})")
        hidden, _, grid = self.embeddings(images)
        taps = []
        for index, block in enumerate(self.blocks[: wanted[-1] + 1]):
            hidden = block(hidden)
            if index in wanted:
                taps.append(hidden.unflatten(1, grid))
        return taps
