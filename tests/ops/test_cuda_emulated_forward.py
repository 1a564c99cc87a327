"""The forward kernels of which the host chooses one: slabs in shared memory, planes, boxes.

Equal to the oracle in emulation; which kernel ran is asserted.
"""

from __future__ import annotations

import pytest
import torch

from fgclip_det.ops._library import is_channels_last
from tests.ops.emulated import (
    CODES,
    INF,
    LAYOUTS,
    NAN,
    Case,
    Emulator,
    draw,
    draw_rois,
    lay_out,
    with_dtype,
)

pytestmark = pytest.mark.slow

# What a block may have on GPUs of compute capability 9.0, 8.0, and 8.6 and 8.9.
SHARED_BYTES = {"sm_90": 232448, "sm_80": 166912, "sm_86": 101376}


def many_boxes(
    size: tuple[int, int, int, int], count: int, dtype: torch.dtype, layout: str = "channels_last"
) -> Case:
    """A case of one bin and so many boxes that pool_slab_kernel does it."""
    generator = torch.Generator().manual_seed(sum(size) + count)
    rois = draw_rois(count, size[0], size[2:], generator)
    # Over the whole map, so that every band has something of them.
    rois[:3, 1:] = torch.tensor([0.0, 0.0, size[3], size[2]])
    maps = with_dtype(lay_out(layout, size, generator), dtype)
    return Case(maps, rois, size, (1, 1), channels_last=is_channels_last(maps), multiprocessors=1)


@pytest.mark.parametrize("dtype", CODES, ids=str)
def test_maps_with_channels_first_are_pooled_as_they_are(
    emulator: Emulator, dtype: torch.dtype
) -> None:
    cases = []
    for seed in range(40):
        case = draw(seed, dtype, backward=False)
        if case.rois.numel() and case.data.numel():
            cases.append(case._replace(planes=1, channels_last=False))
    assert len(cases) > 20
    # Windows so wide that only a few channels and one row of bins fit in shared memory at a time.
    for width in (300, 4096):
        size = (1, 5, 6, width)
        generator = torch.Generator().manual_seed(width)
        rois = draw_rois(4, 1, size[2:], generator)
        rois[0, 1:] = torch.tensor([0.0, 0.0, width, 6.0])
        maps = with_dtype(lay_out("contiguous", size, generator), dtype)
        cases.append(Case(maps, rois, size, (7, 7), planes=1))
    emulator.check(cases)


@pytest.mark.parametrize("dtype", CODES, ids=str)
@pytest.mark.parametrize("bins", [(7, 7), (2, 3)])
def test_all_maps_of_a_pyramid_in_one_launch(
    emulator: Emulator, silent_emulator: Emulator, bins: tuple[int, int], dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(3)
    sizes, layouts = (
        ((13, 20), (9, 21), (4, 5)),
        ("contiguous", "transposed", "every_second_channel"),
    )
    maps = [
        with_dtype(lay_out(layout, (2, 35, *size), generator), dtype)
        for size, layout in zip(sizes, layouts, strict=True)
    ]
    rois = draw_rois(30, 2, sizes[0], generator)
    case = Case(
        *(maps[0], rois, (2, 35, *sizes[0]), bins),
        levels=torch.arange(30) % 3,
        num_levels=3,
        planes=1,
        others=((maps[1], 0.5), (maps[2], 0.25)),
        most_blocks=7,
    )
    emulator.check([case])
    # A box that names no level, and one that names no image.
    case.levels[4], case.rois[9, 0] = 3, 2.0
    for run_by, asserts in ((emulator, True), (silent_emulator, False)):
        pooled, failed, *_ = run_by.run([case])[0]
        assert (failed > 0) == asserts
        assert not pooled[4].any() and not pooled[9].any() and pooled.isfinite().all()


@pytest.mark.parametrize("dtype", CODES, ids=str)
def test_slabs_of_every_number_of_bands(emulator: Emulator, dtype: torch.dtype) -> None:
    large = many_boxes((1, 8, 72, 100), 70, dtype)
    bands = emulator.check([large._replace(shared_bytes=size) for size in SHARED_BYTES.values()])
    assert bands == [1, 2, 3]
    cases = [
        # A row at a time; a last band lower than the others; a narrow map, and wide ones.
        many_boxes((2, 24, 20, 30), 140, dtype)._replace(shared_bytes=32 * 30),
        many_boxes((3, 40, 11, 7), 200, dtype)._replace(shared_bytes=32 * 7 * 4),
        many_boxes((1, 24, 90, 1), 100, dtype)._replace(shared_bytes=32 * 80, most_blocks=2),
        many_boxes((1, 16, 1, 90), 100, dtype, "cropped"),
        # A slab of which half exists, behind a class token; several boxes for each lane.
        many_boxes((2, 8, 9, 14), 900, dtype, "tokens_behind_class")._replace(multiprocessors=3),
    ]
    assert emulator.check(cases) == [20, 3, 2, 1, 1]


def test_the_kernel_is_chosen_by_the_boxes_and_the_map(emulator: Emulator) -> None:
    slabs = many_boxes((2, 24, 12, 12), 90, torch.float32)
    others = [
        slabs._replace(rois=slabs.rois[:20]),
        slabs._replace(bins=(1, 2)),
        slabs._replace(shared_bytes=32 * 11),  # less than a row
    ]
    assert emulator.check([slabs, *others]) == [1, 0, 0, 0]


@pytest.mark.parametrize("dtype", CODES, ids=str)
@pytest.mark.parametrize("channels", [24, 25])
def test_slabs_of_maps_of_any_layout(emulator: Emulator, channels: int, dtype: torch.dtype) -> None:
    """Also where 16 bytes are not aligned, or channels lie apart; none of these maps is copied."""
    cases = [
        many_boxes((2, channels, 11, 14), 120, dtype, layout)._replace(shared_bytes=32 * 14 * 4)
        for layout in LAYOUTS
    ]
    assert emulator.check(cases) == [3] * len(LAYOUTS)


def test_maps_are_copied_where_boxes_are_many_for_them(emulator: Emulator) -> None:
    generator = torch.Generator().manual_seed(2)
    size = (1, 8, 12, 12)
    few, many = (
        Case(lay_out("contiguous", size, generator), rois, size, (2, 3))
        for rois in (draw_rois(128, 1, (12, 12), generator), draw_rois(129, 1, (12, 12), generator))
    )
    one_bin = few._replace(bins=(1, 1))
    innermost = few._replace(data=lay_out("channels_last", size, generator), channels_last=True)
    cases = [few, many, one_bin, innermost]
    emulator.check(cases)
    assert [outcome.planes for outcome in emulator.run(cases)] == [1, 0, 0, 0]


def test_slabs_have_the_same_bits_in_every_order(emulator: Emulator) -> None:
    case = many_boxes((2, 24, 12, 12), 90, torch.float32)._replace(shared_bytes=32 * 40)
    first, second = emulator.run([case, case._replace(seed=1, most_blocks=3)])
    assert first.bands == 4
    assert torch.equal(first.result, second.result)


def test_what_is_not_a_number_reaches_the_boxes_that_touch_it(emulator: Emulator) -> None:
    case = many_boxes((1, 8, 12, 24), 90, torch.float32)
    expected = case.expected()
    touches, comes_near = torch.zeros_like(case.data), torch.zeros_like(case.data)
    for (y, x), value in {(5, 7): NAN, (8, 15): INF}.items():
        case.data[0, :, y, x] = value
        touches[0, :, y, x] = 1
        comes_near[0, :, y - 1 : y + 2, x - 1 : x + 2] = 1
    pooled, _, bands, _ = emulator.run([case])[0]
    assert bands == 1
    touched = case._replace(data=touches).expected() > 0
    clean = case._replace(data=comes_near).expected() == 0
    assert 80 < touched.sum() < 600 and 80 < clean.sum() < 600
    assert not pooled[touched].isfinite().any()
    torch.testing.assert_close(pooled[clean], expected[clean], atol=1e-5, rtol=1e-5)
