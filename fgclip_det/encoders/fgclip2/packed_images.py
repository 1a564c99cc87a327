"""Images of any shapes in one batch: rows of flattened patches, padded to a common number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Of the bisection in `resized_shape`.
_LEAST_SCALE, _MOST_SCALE, _SCALE_STEP = 1e-6, 100.0, 1e-5


# Compared by identity: a generated == would fail on the tensors.
@dataclass(frozen=True, eq=False)
class PackedImages:
    """A batch as the NaFlex image processors of SigLIP 2 and FG-CLIP 2 return it.

    ``PackedImages(**processor(pictures, return_tensors="pt"))`` takes their result as it is.

    Attributes:
        pixel_values: (N, L, p * p * 3) float, normalised pixels; a row is one patch, its pixels
            row by row, the three channels of a pixel side by side. Rows behind the last patch of
            an image are padding.
        pixel_attention_mask: (N, L), nonzero for patches, zero for padding.
        spatial_shapes: (N, 2) int64, rows and columns (h, w) of patches of each image.

    Raises:
        ValueError: The three do not fit each other.
    """

    pixel_values: Tensor
    pixel_attention_mask: Tensor
    spatial_shapes: Tensor

    def __post_init__(self) -> None:
        values, mask, shapes = self.pixel_values, self.pixel_attention_mask, self.spatial_shapes
        if values.dim() != 3:
            raise ValueError(f"pixel_values must be (N, L, p * p * 3), got {tuple(values.shape)}")
        count, rows = values.shape[:2]
        if tuple(mask.shape) != (count, rows) or tuple(shapes.shape) != (count, 2):
            raise ValueError(
                f"pixel_values {tuple(values.shape)} need a pixel_attention_mask {(count, rows)} "
                f"and spatial_shapes {(count, 2)}, got {tuple(mask.shape)} and "
                f"{tuple(shapes.shape)}"
            )
        for index, (height, width) in enumerate(self.grids):
            if height < 1 or width < 1 or height * width > rows:
                raise ValueError(
                    f"spatial_shapes[{index}] is {height} x {width} = {height * width} patches, "
                    f"but pixel_values have 1 to {rows} rows for an image: pack it again with a "
                    "larger max_num_patches"
                )
        patches = shapes.prod(dim=1).to(mask.device)
        expected = torch.arange(rows, device=mask.device) < patches[:, None]
        if not torch.equal(mask.bool(), expected):
            raise ValueError(
                "pixel_attention_mask does not mark the patches that spatial_shapes count: pass "
                "both as one image processor returned them"
            )

    def __len__(self) -> int:
        return len(self.pixel_values)

    @property
    def grids(self) -> list[tuple[int, int]]:
        """Rows and columns (h, w) of patches of each image."""
        return [(height, width) for height, width in self.spatial_shapes.tolist()]

    def to(self, device: torch.device | str) -> PackedImages:
        """The same on `device`."""
        return PackedImages(
            self.pixel_values.to(device),
            self.pixel_attention_mask.to(device),
            self.spatial_shapes.to(device),
        )


def to_patches(images: Tensor, patch_size: int) -> tuple[Tensor, tuple[int, int]]:
    """(N, 3, H, W) pixels -> (N, h * w, p * p * 3) patches and their grid (h, w).

    Pixels right of and below the last whole patch are left out.

    Raises:
        ValueError: Not such images, or smaller than one patch.
    """
    if images.dim() != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be (N, 3, H, W), got {tuple(images.shape)}")
    height, width = images.shape[2] // patch_size, images.shape[3] // patch_size
    if height < 1 or width < 1:
        raise ValueError(
            f"images of {images.shape[2]}x{images.shape[3]} pixels are smaller than one "
            f"{patch_size}-pixel patch: resize them first"
        )
    whole = images[:, :, : height * patch_size, : width * patch_size]
    cells = whole.unflatten(3, (width, patch_size)).unflatten(2, (height, patch_size))
    return cells.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2), (height, width)


def resized_shape(
    height: int, width: int, patch_size: int, max_num_patches: int
) -> tuple[int, int]:
    """Size of the most whole patches within a number, at about the aspect ratio of a picture.

    The numbers are those of SigLIP 2's image processor, which scales by bisection and rounds each
    side up to whole patches.

    Args:
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        patch_size: Pixels of a patch's side.
        max_num_patches: At most so many.

    Returns:
        Height and width in pixels.
    """

    def patches(scale: float) -> tuple[int, int]:
        rows, columns = (max(1, math.ceil(s * scale / patch_size)) for s in (height, width))
        return rows, columns

    low, high = _LEAST_SCALE, _MOST_SCALE
    while high - low >= _SCALE_STEP:
        scale = (low + high) / 2
        low, high = (scale, high) if math.prod(patches(scale)) <= max_num_patches else (low, scale)
    rows, columns = patches(low)
    return rows * patch_size, columns * patch_size


def pack_images(
    images: Sequence[Tensor], patch_size: int, max_num_patches: int | None = None
) -> PackedImages:
    """Images of different shapes as one batch.

    Args:
        images: One (3, H_i, W_i) float tensor of normalised pixels each.
        patch_size: Pixels of a patch's side.
        max_num_patches: Rows of each image; those of the largest image if None.

    Returns:
        The batch, on the device of the first image.

    Raises:
        ValueError: There is no image, or one is smaller than a patch or has too many of them.
    """
    if not len(images):
        raise ValueError("images is empty: give at least one")
    packed = [to_patches(image[None], patch_size) for image in images]
    rows = max_num_patches or max(patches.shape[1] for patches, _ in packed)
    for index, (patches, (height, width)) in enumerate(packed):
        if patches.shape[1] > rows:
            raise ValueError(
                f"image {index} has {height} x {width} = {patches.shape[1]} patches of "
                f"{patch_size} pixels, but max_num_patches is {rows}: resize it or raise "
                "max_num_patches"
            )
    first = packed[0][0]
    pixel_values = first.new_zeros(len(packed), rows, first.shape[2])
    mask = torch.zeros(len(packed), rows, dtype=torch.int32, device=first.device)
    for index, (patches, _) in enumerate(packed):
        pixel_values[index, : patches.shape[1]] = patches[0]
        mask[index, : patches.shape[1]] = 1
    shapes = torch.tensor([grid for _, grid in packed], device=first.device)
    return PackedImages(pixel_values, mask, shapes)


def keep_ratio_size(size: tuple[int, int], longest: int, patch_size: int) -> tuple[int, int]:
    """Whole patches of about the aspect ratio of `size`, `longest` pixels on the longer side.

    Args:
        size: Height and width of a picture, or width and height: the result has the same order.
        longest: In pixels.
        patch_size: Pixels of a patch's side.
    """
    scale = longest / max(size)
    first, second = (max(1, round(side * scale / patch_size)) * patch_size for side in size)
    return first, second
