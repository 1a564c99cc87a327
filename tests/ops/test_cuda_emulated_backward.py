"""The backward kernels' lists of boxes, and the copies of maps, equal the oracle in emulation."""

from __future__ import annotations

import pytest
import torch

from tests.ops.emulated import CODES, Case, Emulator, draw_rois, lay_out, with_dtype

pytestmark = pytest.mark.slow


def spread_case(
    size: tuple[int, int, int, int],
    count: int,
    bins: tuple[int, int] = (1, 1),
    dtype: torch.dtype = torch.float32,
    layout: str = "channels_last",
) -> Case:
    """A backward case with boxes of every sort; `layout` is that of the gradient of the result."""
    generator = torch.Generator().manual_seed(sum(size) + count)
    rois = draw_rois(count, size[0], size[2:], generator)
    gradient = with_dtype(lay_out(layout, (count, size[1], *bins), generator), dtype)
    return Case(gradient, rois, size, bins, backward=True, channels_last=True)


@pytest.mark.parametrize("dtype", CODES, ids=str)
@pytest.mark.parametrize("count", [1, 31, 32, 33, 65, 300])
def test_any_number_of_boxes_and_several_tiles_of_channels(
    emulator: Emulator, count: int, dtype: torch.dtype
) -> None:
    # Two channel tiles or more, whatever the dtype; a channel at a time; a part of a tile of cells.
    sizes = [(1, 264, 9, 11), (2, 70, 17, 5)] if count < 100 else [(1, 24, 20, 13)]
    cases = [spread_case(size, count, (1, 1), dtype) for size in sizes]
    emulator.check([*cases, spread_case((1, 16, 12, 12), count, (7, 7), dtype)])


def test_more_boxes_than_a_block_lists_at_a_time(emulator: Emulator) -> None:
    """A block of 128 threads looks at 4096 boxes at a time, and lists 128 of those that touch."""
    case = spread_case((1, 4, 5, 6), 4500)
    case.data.div_(64)  # so that the sums stay near 1
    outside = case._replace(rois=case.rois.clone())
    outside.rois[:4300, 1:] += 100  # nobody among the first 4096
    emulator.check([case, outside])


def test_images_without_boxes_and_batches_of_every_number_of_digits(emulator: Emulator) -> None:
    cases = []
    for images in (1, 2, 3, 4, 5, 9):
        case = spread_case((images, 8, 7, 9), 40)
        case.rois[:, 0] = torch.where(case.rois[:, 0] == images // 2, 0.0, case.rois[:, 0])
        cases.append(case)
    emulator.check(cases)
    for case, (result, *_) in zip(cases[1:], emulator.run(cases)[1:], strict=True):
        assert not result[case.size[0] // 2].any() and result[0].any()


def test_bins_that_leave_out_the_cells_between_them(emulator: Emulator) -> None:
    """One sample for a bin of many cells: a box meets tiles that none of its bins does."""
    case = spread_case((1, 8, 60, 50), 40, (2, 3))._replace(sampling_ratio=1)
    case.rois[:, 1:] = torch.tensor([1.0, 2.0, 49.0, 58.0]) + torch.rand(40, 4)
    emulator.check([case])


def test_a_list_without_bins_before_one_with_bins(emulator: Emulator) -> None:
    """Blocks of 256 threads, whose first 256 boxes have no bin in many tiles, but later ones do."""
    case = spread_case((1, 1024, 72, 64), 512, (2, 2))._replace(sampling_ratio=1)
    case.rois[:256, 1:] = torch.tensor([1.0, 2.0, 62.0, 70.0])
    case.rois[256:, 1:] = torch.tensor([30.0, 30.0, 34.0, 35.0])
    case.data.mul_((torch.arange(512) % 100 == 1)[:, None, None, None])
    assert emulator.check([case]) == [8]


@pytest.mark.parametrize("rows", [2, 4, 8])
def test_tiles_of_every_height(emulator: Emulator, rows: int) -> None:
    size = {2: (1, 8, 21, 30), 4: (1, 8, 165, 100), 8: (1, 8, 180, 185)}[rows]
    assert emulator.check([spread_case(size, 30)]) == [rows]


def test_gradients_have_the_same_bits_in_every_order(emulator: Emulator) -> None:
    case = spread_case((3, 264, 14, 15), 90, (2, 3))
    results = [
        emulator.run([case._replace(seed=seed, most_blocks=blocks)])[0].result
        for seed, blocks in ((0, 1 << 20), (1, 3), (2, 1))
    ]
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_a_box_is_added_after_those_before_it(emulator: Emulator) -> None:
    """Which boxes a block lists does not change the order of its sums."""
    case = spread_case((2, 16, 19, 21), 100)
    far = torch.tensor([[0.0, 500, 500, 510, 510], [1.0, -90, -90, -80, -80]]).repeat(50, 1)
    rois = torch.stack([case.rois, far], dim=1).flatten(0, 1)
    gradient = torch.stack([case.data, torch.ones_like(case.data)], dim=1).flatten(0, 1)
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    first, second = emulator.run([case, case._replace(data=gradient, rois=rois)])
    assert torch.equal(first.result, second.result)


@pytest.mark.parametrize("dtype", CODES, ids=str)
@pytest.mark.parametrize("channels", [1, 2, 33, 64, 70])
def test_channels_first_and_last_have_the_same_bits(
    emulator: Emulator, channels: int, dtype: torch.dtype
) -> None:
    """Widths of 4 n are written with channels first, others are copied.

    Values of 16 bits are copied two at a time if the map, and each image of it, has an even number.
    """
    sizes = [(1, 1), (9, 9), (8, 9), (9, 8), (10, 14), (3, 66), (6, 4), (11, 20)]
    lasts = [spread_case((2, channels, *size), 12, dtype=dtype) for size in sizes]
    firsts = [case._replace(channels_last=False) for case in lasts]
    emulator.check(lasts)
    for last, first in zip(emulator.run(lasts), emulator.run(firsts), strict=True):
        assert last.result.any() and torch.equal(last.result, first.result)


@pytest.mark.parametrize("dtype", CODES, ids=str)
def test_gradients_of_any_layout_are_copied(emulator: Emulator, dtype: torch.dtype) -> None:
    layouts = ("contiguous", "transposed", "every_second_channel", "cropped", "one_value")
    emulator.check(
        [
            spread_case((1, channels, 6, 7), 7, bins, dtype, layout)
            for channels in (1, 33, 70)
            for layout in layouts
            for bins in ((7, 7), (2, 3), (14, 2))
        ]
    )


@pytest.mark.parametrize("channels", [16, 70])
def test_maps_of_one_launch_keep_their_boxes(emulator: Emulator, channels: int) -> None:
    """Eight maps, the most that a launch takes, each smaller than the one asked for."""
    case = spread_case((2, channels, 40, 24), 50)
    levels = torch.arange(50) % 8
    for level in (0, 3, 7):
        own = levels == level
        expected = case._replace(data=case.data[own], rois=case.rois[own]).expected()
        for last in (True, False):
            one = case._replace(levels=levels, num_levels=8, level=level, channels_last=last)
            result, failed, *_ = emulator.run([one._replace(most_blocks=11 if last else 1 << 20)])[
                0
            ]
            assert failed == 0
            torch.testing.assert_close(result, expected, atol=1e-4, rtol=2e-5)
