"""Where tiles lie, and one list of regions out of all views."""

from __future__ import annotations

import itertools

import pytest
import torch

from fgclip_det.apis.inputs.tiles import Tiling, Window, join, tile_windows
from fgclip_det.models.regions.regions import Regions


def seen(boxes: list[list[float]], scale: tuple[float, float] = (1.0, 1.0), mark: float = 0):
    """Regions as the network gives them for a view that was resized by `scale`."""
    found = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
    marks = torch.full((len(found), 1), float(mark))
    return Regions(
        boxes=(found * torch.tensor(scale).double().repeat(2)).float(),
        objectness=torch.full((len(found),), 0.9),
        region_embeddings=marks,
        image_meta={"img_shape": (64, 64), "scale_factor": scale},
    )


@pytest.mark.parametrize(
    ("size", "tile", "overlap"),
    [((1000, 300), 256, 0.2), ((257, 256), 256, 0.0), ((90, 2000), 128, 0.9), ((33, 65), 32, 0.99)],
)
def test_tiles_cover_all_and_overlap(size: tuple[int, int], tile: int, overlap: float) -> None:
    width, height = size
    windows = tile_windows(width, height, Tiling(tile, overlap))
    covered = torch.zeros(height, width, dtype=torch.bool)
    for left, top, right, bottom in windows:
        assert (right - left, bottom - top) == (min(tile, width), min(tile, height))
        covered[top:bottom, left:right] = True
    assert covered.all() and len(set(windows)) == len(windows)
    lefts = sorted({window.left for window in windows})
    shared = [a + tile - b for a, b in itertools.pairwise(lefts)]
    assert all(own >= int(overlap * tile) for own in shared)


def test_a_picture_that_fits_has_no_tiles() -> None:
    assert tile_windows(64, 40, Tiling(64, 0.2)) == []
    assert tile_windows(4000, 4000, Tiling(None, 0.2)) == []


def test_boxes_are_in_pixels_of_the_picture() -> None:
    windows = tile_windows(500, 120, Tiling(128, 0.25))
    size = (120, 500)
    assert [window.left for window in windows] == [0, 96, 192, 288, 372]
    tiles = [seen([[40.123, 20.5, 70.25, 60.75]], (2.5, 2.375), n) for n in range(len(windows))]
    found = join(seen([], (0.3, 0.3)), tiles, windows, size, Tiling(128, 0.25))
    expected = [[w.left + 40.123, 20.5, w.left + 70.25, 60.75] for w in windows]
    torch.testing.assert_close(found.boxes, torch.tensor(expected), atol=1e-4, rtol=0)
    assert found.region_embeddings.flatten().tolist() == [0, 1, 2, 3, 4]
    assert found.image_meta["ori_shape"] == size


def test_an_object_is_of_the_tile_that_shows_it_most_whole() -> None:
    tiling, size = Tiling(100, 0.5), (100, 150)
    windows = tile_windows(150, 100, tiling)
    assert windows == [Window(0, 0, 100, 100), Window(50, 0, 150, 100)]
    whole = seen([[70, 40, 95, 60], [20, 20, 140, 90]], mark=-1)
    tiles = [seen([[71, 40, 96, 60]]), seen([[20, 40, 45, 60], [21, 41, 46, 61]], mark=1)]
    found = join(whole, tiles, windows, size, tiling)
    # Boxes of one tile are left alone, and what no tile holds is the whole picture's.
    assert found.region_embeddings.flatten().tolist() == [-1, 1, 1]
    assert found.boxes[0].tolist() == [20, 20, 140, 90]


def test_a_cut_box_gives_way_to_the_entire_one() -> None:
    tiling, size = Tiling(100, 0.5), (100, 150)
    windows = tile_windows(150, 100, tiling)
    cut, alone = [80, 40, 100, 60], [60, 70, 100, 90]
    tiles = [seen([cut, alone]), seen([[30, 40, 80, 60]], mark=1)]
    found = join(seen([]), tiles, windows, size, tiling)
    # What only a part was found of stays.
    assert found.boxes.tolist() == [alone, [80, 40, 130, 60]]


def test_nothing_found_is_no_region() -> None:
    tiling = Tiling(100, 0.5)
    windows = tile_windows(150, 100, tiling)
    assert len(join(seen([]), [seen([]), seen([])], windows, (100, 150), tiling)) == 0


def test_what_is_inside_a_large_box_is_no_part_of_it() -> None:
    tiling, size = Tiling(100, 0.5), (100, 150)
    windows = tile_windows(150, 100, tiling)
    # Cut by the first tile, and seen by no other; nearly all is in the whole picture's box.
    cut, large = [80, 40, 100, 60], [5, 5, 145, 95]
    found = join(seen([large]), [seen([cut]), seen([])], windows, size, tiling)
    assert found.boxes.tolist() == [large, cut]
    # What the tile shows of the large box is dropped.
    found = join(seen([large]), [seen([[5, 5, 100, 95]]), seen([])], windows, size, tiling)
    assert found.boxes.tolist() == [large]


def test_a_box_in_the_corner_of_its_tile_gives_way_too() -> None:
    tiling, size = Tiling(100, 0.5), (150, 150)
    windows = tile_windows(150, 150, tiling)
    # The third tile, (0, 50, 100, 150), cuts it at its right; above, it touches a border that the
    # entire one does not pass.
    tiles = [seen([]), seen([]), seen([[84, 2, 100, 22]], mark=2), seen([[34, 6, 60, 25]], mark=3)]
    assert windows[2:] == [Window(0, 50, 100, 150), Window(50, 50, 150, 150)]
    found = join(seen([]), tiles, windows, size, tiling)
    assert found.region_embeddings.flatten().tolist() == [3]


def test_a_side_a_few_pixels_from_the_border_is_on_it() -> None:
    tiling, size = Tiling(100, 0.5), (100, 150)
    windows = tile_windows(150, 100, tiling)
    tiles = [seen([[80, 40, 97, 60]]), seen([[30, 40, 80, 60]], mark=1)]
    found = join(seen([]), tiles, windows, size, tiling)
    assert found.region_embeddings.flatten().tolist() == [1]
