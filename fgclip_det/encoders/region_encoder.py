"""Embeddings of boxes in pictures of any size: the one region encoder.

Pictures are read at the encoder's resolution; boxes go to the cells of its map in one step
(`picture_frames`), and are pooled from it by `DualEncoder.pool_cells`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip_det.encoders.fgclip.fgclip import FGCLIP
from fgclip_det.encoders.fgclip2.fgclip2 import FGCLIP2
from fgclip_det.encoders.fgclip2.packed_images import keep_ratio_size
from fgclip_det.encoders.loading import build_encoder
from fgclip_det.encoders.picture_frames import (
    Interpolation,
    Resampler,
    Size,
    map_boxes,
    normalize_and_pad,
    resize_picture,
)

Resize = Literal["canvas", "squash", "keep_ratio", "patches"]


class RegionEncoder:
    """Embeddings of boxes, each picture read once at the encoder's own resolution.

    How a picture becomes the encoder's input:

    * "canvas": as it is, padded to whole patches;
    * "squash": resized to a square, which is FG-CLIP v1's own protocol (arXiv 2505.05071);
    * "keep_ratio": resized to `size` pixels on the longer side, the aspect ratio kept up to whole
      patches;
    * "patches": resized to as many patches as `max_patches` has room for, the aspect ratio kept up
      to whole patches, which is FG-CLIP 2's own protocol (arXiv 2510.10921).

    It computes on the encoder's device, without gradients. It is no module: whoever holds it in one
    says where the encoder's weights belong.

    Args:
        encoder: An FG-CLIP, which is used as it is, or what `build_encoder` makes one of.
        resize: See above; None for "squash" with an FG-CLIP v1, "patches" with an FG-CLIP 2.
        size: Of "squash" and "keep_ratio", in pixels; None for what the encoder was trained at.
        max_patches: Of "patches"; None for what FG-CLIP 2's own evaluation grants a picture of its
            original size, at most 1024.
        interpolation: None for what the encoder's own image processor takes, "bicubic" for FG-CLIP
            v1 and "bilinear" for FG-CLIP 2.
        resampler: Whose interpolation: "pillow", as FG-CLIP's own, or "tensor", which stays on the
            device of the picture; see `resize_picture`.

    Raises:
        ValueError: A setting is unknown, out of range, or not for this encoder.
    """

    def __init__(
        self,
        encoder: FGCLIP | FGCLIP2 | str | os.PathLike | Mapping,
        resize: Resize | None = None,
        size: int | None = None,
        max_patches: int | None = None,
        interpolation: Interpolation | None = None,
        resampler: Resampler = "pillow",
    ) -> None:
        if isinstance(encoder, str | os.PathLike | Mapping):
            encoder = build_encoder(encoder)
        self.encoder = encoder
        second = isinstance(self.encoder, FGCLIP2)
        self.resize: Resize = resize or ("patches" if second else "squash")
        self.size = size
        self.max_patches = max_patches
        self.interpolation: Interpolation = interpolation or ("bilinear" if second else "bicubic")
        self.resampler = resampler
        self._check_settings()

    def frame_size(self, picture: Size, original: Size) -> Size:
        """Height and width at which the encoder reads a picture, without padding.

        Args:
            picture: Its height and width.
            original: Those that it once had, for a budget of patches.
        """
        if isinstance(self.encoder, FGCLIP2) and self.resize == "patches":
            budget = self.max_patches or self.encoder.patch_budget(*original)
            return self.encoder.resized_shape(*picture, budget)
        if self.resize == "canvas":
            return picture
        longest = self.size or self.encoder.image_size
        if self.resize == "squash":
            return longest, longest
        return keep_ratio_size(picture, longest, self.encoder.patch_size)

    @torch.no_grad()
    def __call__(
        self,
        pictures: Sequence[Tensor],
        boxes: Sequence[Tensor],
        original_sizes: Sequence[Size] | None = None,
        normalize: bool = True,
    ) -> list[Tensor]:
        """Embeddings of boxes; pictures that are read at one size are read together.

        Args:
            pictures: One (3, h_i, w_i) float32 or uint8 tensor each, RGB, from 0 to 255.
            boxes: One (K_i, 4) tensor for each picture, xyxy, in pixels of it; K_i may be 0.
            original_sizes: Height and width of each before it was resized, for a budget of
                patches; None for those that they have.
            normalize: Whether to scale each row to unit length.

        Returns:
            One (K_i, D) float32 tensor for each picture, to be compared with texts of the
            encoder's ``region_text_length``; zeros for a box that covers no cell of the map.

        Raises:
            ValueError: Not as many box tensors, or sizes, as pictures.
        """
        sizes = [(picture.shape[1], picture.shape[2]) for picture in pictures]
        originals = sizes if original_sizes is None else list(original_sizes)
        if not len(pictures) == len(boxes) == len(originals):
            raise ValueError(
                f"{len(pictures)} pictures, {len(boxes)} box tensors and {len(originals)} sizes: "
                "give one each"
            )
        frames = [self.frame_size(*pair) for pair in zip(sizes, originals, strict=True)]
        embeddings: dict[int, Tensor] = {}
        for frame in dict.fromkeys(frames):
            rows = [row for row, other in enumerate(frames) if other == frame]
            # Of a padded map the picture need not cover whole cells.
            cells = frame[0] / self.encoder.patch_size, frame[1] / self.encoder.patch_size
            in_cells = [map_boxes(boxes[row], sizes[row], cells) for row in rows]
            dense = self.encoder.encode_dense(self._read([pictures[row] for row in rows], frame))
            found = self.encoder.pool_cells(dense, in_cells).float()
            found = F.normalize(found, dim=-1) if normalize else found
            embeddings.update(zip(rows, found.split([len(own) for own in in_cells]), strict=True))
        return [embeddings[row] for row in range(len(pictures))]

    @torch.no_grad()
    def encode_dense(self, picture: Tensor) -> Tensor:
        """(h, w, D) map of one picture, (3, H, W) float32 or uint8, RGB, from 0 to 255."""
        size = (picture.shape[1], picture.shape[2])
        return self.encoder.encode_dense(self._read([picture], self.frame_size(size, size)))[0]

    def _read(self, pictures: Sequence[Tensor], frame: Size) -> Tensor:
        """(N, 3, H, W) pixels as the encoder reads them, of pictures that it reads at one size."""
        resized = [
            resize_picture(picture, frame, self.interpolation, self.resampler)
            for picture in pictures
        ]
        own = self.encoder
        pixels = [
            normalize_and_pad(picture, own.image_mean, own.image_std, own.patch_size)
            for picture in resized
        ]
        return torch.stack(pixels).to(own.device)

    def _check_settings(self) -> None:
        patch = self.encoder.patch_size
        if self.resize not in ("canvas", "squash", "keep_ratio", "patches"):
            raise ValueError(
                f'resize is {self.resize!r}: choose "canvas", "squash", "keep_ratio" or "patches"'
            )
        if self.resize == "patches" and not isinstance(self.encoder, FGCLIP2):
            raise ValueError('resize="patches" is FG-CLIP 2\'s: choose another for this encoder')
        if self.size is not None and self.resize not in ("squash", "keep_ratio"):
            raise ValueError(f'size is for resize="squash" and "keep_ratio", not {self.resize!r}')
        # With the aspect ratio kept, each side is rounded to whole patches anyway.
        if self.size is not None and (
            self.size < patch or (self.resize == "squash" and self.size % patch)
        ):
            raise ValueError(
                f"size is {self.size}: it must be a multiple of the {patch}-pixel patch"
            )
        if self.max_patches is not None and self.resize != "patches":
            raise ValueError(f'max_patches is for resize="patches", not {self.resize!r}')
        if self.max_patches is not None and self.max_patches < 1:
            raise ValueError(f"max_patches is {self.max_patches}: it must be at least 1")
        if self.interpolation not in ("bicubic", "bilinear"):
            raise ValueError(
                f'interpolation is {self.interpolation!r}: choose "bicubic" or "bilinear"'
            )
        if self.resampler not in ("tensor", "pillow"):
            raise ValueError(f'resampler is {self.resampler!r}: choose "tensor" or "pillow"')
