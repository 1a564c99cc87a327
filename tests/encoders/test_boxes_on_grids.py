"""Boxes reach the cells of a map in one step: no edge moves, and no sample is taken too many."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from fgclip_det.encoders import RegionEncoder
from fgclip_det.encoders.fgclip2.packed_images import pack_images
from fgclip_det.encoders.picture_frames import boxes_in_cells
from tests.tiny_encoders import tiny_fgclip, tiny_fgclip2

SIDES = range(16, 4001)
TOLERANCE = dict(atol=1e-6, rtol=1e-6)


def authors_cells(boxes: list[list[float]], size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """FG-CLIP's evaluation: Python's numbers, the share of the stored picture x the grid."""
    (height, width), (rows, columns) = size, grid
    sides, cells = (width, height, width, height), (columns, rows, columns, rows)
    return torch.tensor(
        [[v / s * c for v, s, c in zip(box, sides, cells, strict=True)] for box in boxes]
    )


def frames(patch: int) -> list[tuple]:
    """An encoder and settings of a `RegionEncoder`, for each way to read a picture."""
    first, second = tiny_fgclip(patch_size=patch), tiny_fgclip2(patch_size=patch)
    squares = [dict(resize="squash", size=side) for side in (224, 336, 64) if side % patch == 0]
    budgets = [dict(max_patches=n) for n in (None, 128, 1024)]
    kept = dict(resize="keep_ratio", size=640)
    return [(first, s) for s in squares] + [(second, s) for s in [*budgets, kept]]


@pytest.fixture
def cells_of(monkeypatch):
    """Gives a function: encoder, settings, sizes, boxes -> cells of boxes and grid, a picture each.

    Pictures have no pixels: what is pooled is all that counts.
    """

    def cells_of(encoder, settings, sizes, boxes):
        reader, found, grids = RegionEncoder(encoder, **settings), [], []

        def pool_cells(dense: Tensor, own: list[Tensor]) -> Tensor:
            found.extend(own)
            grids.extend([tuple(dense.shape[1:3])] * len(own))
            return dense.new_zeros(sum(map(len, own)), 1)

        def read(pictures: list[Tensor], frame: tuple[int, int]) -> Tensor:
            rows, columns = (-(-side // encoder.patch_size) for side in frame)
            return torch.zeros(1).expand(len(pictures), rows, columns, 1)

        monkeypatch.setattr(encoder, "encode_dense", lambda dense: dense)
        monkeypatch.setattr(encoder, "pool_cells", pool_cells)
        monkeypatch.setattr(reader, "_read", read)
        pictures = [torch.zeros(1, 1, 1).expand(3, *size) for size in sizes]
        reader(pictures, boxes)
        # Pictures that are read at one size are read together.
        order = [reader.frame_size(size, size) for size in sizes]
        by_frame = [i for frame in dict.fromkeys(order) for i, f in enumerate(order) if f == frame]
        places = torch.tensor(by_frame).argsort()
        return torch.stack(found)[places], torch.tensor(grids)[places]

    return cells_of


@pytest.mark.parametrize("patch", [14, 16])
def test_whole_pictures_cover_the_grid_at_every_size(cells_of, patch):
    # Each side once as a height, and once as a width.
    others = np.random.default_rng(0).permutation(SIDES).tolist()
    sizes = list(zip(SIDES, others, strict=True))
    boxes = [torch.tensor([[0.0, 0.0, width, height]]) for height, width in sizes]
    for encoder, settings in frames(patch):
        cells, grids = cells_of(encoder, settings, sizes, boxes)
        # As RoIAlign has it: corners shifted by half a cell, and one sample for each begun cell.
        extents = (cells[:, 0, 2:] - 0.5) - (cells[:, 0, :2] - 0.5)
        over = int((extents > grids.flip(1)).any(dim=1).sum())
        assert not over, f"{over} of {len(sizes)} pictures: {settings}"
        assert torch.equal(extents, grids.flip(1).float()), settings


@pytest.mark.parametrize("patch", [14, 16])
def test_boxes_are_where_the_authors_arithmetic_puts_them(cells_of, patch):
    generator = np.random.default_rng(0)
    sizes = [tuple(map(int, generator.integers(16, 4001, 2))) for _ in range(300)]
    boxes = []
    for height, width in sizes:
        corners = np.sort(generator.random((5, 2, 2)) * (width, height), axis=1).reshape(5, 4)
        boxes.append(corners.round(2).tolist())
    for encoder, settings in frames(patch):
        given = [torch.tensor(own, dtype=torch.float64) for own in boxes]
        cells, grids = cells_of(encoder, settings, sizes, given)
        for own, found, size, grid in zip(boxes, cells, sizes, grids.tolist(), strict=True):
            assert torch.equal(found, authors_cells(own, size, tuple(grid)))


@pytest.mark.parametrize("patch", [14, 16])
def test_a_padded_map_has_cells_beyond_the_picture(cells_of, patch):
    sizes = [(50, 100), (96, 33), (patch, 3 * patch)]
    boxes = [torch.tensor([[0.0, 0.0, width, height]]) for height, width in sizes]
    settings = dict(resize="canvas")
    cells, grids = cells_of(tiny_fgclip2(patch_size=patch), settings, sizes, boxes)
    expected = [[0.0, 0.0, width / patch, height / patch] for height, width in sizes]
    torch.testing.assert_close(cells[:, 0], torch.tensor(expected), rtol=0, atol=0)
    assert grids.tolist() == [[-(-side // patch) for side in size] for size in sizes]


def test_84_pixels_are_6_cells_of_14():
    assert boxes_in_cells(torch.tensor([[84.0] * 4]), 14).tolist() == [[6.0] * 4]
    pixels = torch.arange(16.0, 4001)[:, None].expand(-1, 4)
    for stride in (3.5, 7, 14, 28, 16):
        exact = torch.from_numpy((pixels.double().numpy() / stride).astype(np.float32))
        assert torch.equal(boxes_in_cells(pixels, stride), exact)


@pytest.mark.parametrize("patch", [14, 16])
@pytest.mark.parametrize("make", [tiny_fgclip, tiny_fgclip2])
def test_boxes_in_pixels_of_the_encoders_own_input(make, patch):
    encoder, side = make(patch_size=patch), 12 * patch
    images = torch.randn(1, 3, side, side)
    dense = encoder.encode_dense(images)
    # Every box of whole cells at the corner, and some that begin elsewhere.
    cells = torch.tensor([[0.0, 0.0, x, y] for x in range(1, 13) for y in (1, 6, 12)])
    cells = torch.cat([cells, torch.tensor([[1.0, 2.0, 7.0, 8.0], [0.5, 0.25, 6.5, 6.25]])])
    maps = dense.permute(0, 3, 1, 2)
    expected = torchvision.ops.roi_align(maps, [cells], 1, 1.0, -1, True).flatten(1)
    found = encoder.encode_regions(images, [cells * patch])
    torch.testing.assert_close(found, expected, **TOLERANCE)
    torch.testing.assert_close(encoder.pool_regions(dense, [cells * patch]), expected, **TOLERANCE)
    torch.testing.assert_close(encoder.pool_cells(dense, [cells]), expected, **TOLERANCE)


@pytest.mark.parametrize("patch", [14, 16])
def test_boxes_of_pictures_that_the_second_generation_resized(patch):
    encoder, sizes = tiny_fgclip2(patch_size=patch), [(480, 640), (611, 333), (97, 1003)]
    grids = [(6, 8), (9, 5), (2, 12)]
    images = [torch.randn(3, rows * patch, columns * patch) for rows, columns in grids]
    boxes = [
        torch.tensor([[0.0, 0, width, height], [1.5, 2, width / 2, height / 3]])
        for height, width in sizes
    ]
    packed = encoder.encode_regions(pack_images(images, patch), boxes, image_sizes=sizes)
    rows = iter(packed)
    for image, own, size, grid in zip(images, boxes, sizes, grids, strict=True):
        maps = encoder.encode_dense(image[None]).permute(0, 3, 1, 2)
        cells = authors_cells(own.tolist(), size, grid)
        expected = torchvision.ops.roi_align(maps, [cells], 1, 1.0, -1, True).flatten(1)
        alone = encoder.encode_regions(image[None], [own], image_sizes=[size])
        torch.testing.assert_close(alone, expected, **TOLERANCE)
        for feature in expected:
            # Padding changes the last bits of attention.
            torch.testing.assert_close(next(rows), feature, atol=1e-5, rtol=1e-4)
