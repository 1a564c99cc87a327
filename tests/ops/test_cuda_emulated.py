"""The CUDA kernels equal the oracle: their sources run on the CPU, under the sanitizers.

`cuda_emulation/` compiles the very sources for the CPU. Memory errors, undefined behaviour, threads
that miss a barrier and values that no thread wrote stop the program or show as NaN.
"""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils import cpp_extension

from fgclip_det.ops import reference
from fgclip_det.ops._library import is_channels_last

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "fgclip_det" / "ops" / "csrc"
CODES = {torch.float16: 2, torch.bfloat16: 3, torch.float32: 4, torch.float64: 8}
TOLERANCE = {
    torch.float16: 1e-3,
    torch.bfloat16: 8e-3,
    torch.float32: 1e-5,
    torch.float64: 1e-12,
}
NAN, INF = float("nan"), float("inf")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on the PATH"),
]


class Case(NamedTuple):
    """One call of an operator; `data` is the input, or the gradient of a result if `backward`."""

    data: Tensor  # (N, C, h, w), or (K, C, oh, ow) if backward; any strides
    rois: Tensor  # (K, 5) float32
    size: tuple[int, int, int, int]  # N, C, h, w
    bins: tuple[int, int]
    backward: bool = False
    spatial_scale: float = 1.0
    sampling_ratio: int = -1
    aligned: bool = True
    channels_last: bool = False  # the layout of the result
    most_blocks: int = 1 << 20
    seed: int = 0  # of the order in which blocks and threads run
    levels: Tensor | None = None  # (K,) int64: which of `num_levels` maps each box is of
    num_levels: int = 1
    level: int = 0  # the map that the call is about
    multiprocessors: int = 132  # of the device
    shared_bytes: int = 232448  # that a block may have there

    def packed(self) -> bytes:
        """The case as `run_cases` reads it."""
        elements = 1 + sum(
            (n - 1) * s for n, s in zip(self.data.shape, self.data.stride(), strict=True)
        )
        offset = self.data.storage_offset() if self.data.numel() else 0
        elements = (elements if self.data.numel() else 0) + offset
        values = torch.as_strided(self.data, (elements,), (1,), 0)
        header = [self.backward, CODES[self.data.dtype], *self.data.shape, *self.data.stride()]
        header += [offset, elements, *self.size, len(self.rois), *self.bins]
        header += [self.sampling_ratio, self.aligned, self.channels_last]
        header += [self.most_blocks, self.seed, self.num_levels, self.level]
        header += [self.multiprocessors, self.shared_bytes]
        packed = struct.pack(f"{len(header)}qd", *map(int, header), self.spatial_scale)
        levels = b"" if self.levels is None else to_bytes(self.levels)
        return packed + to_bytes(self.rois) + levels + to_bytes(values)

    def shape(self) -> tuple[int, ...]:
        """The shape of the result."""
        return self.size if self.backward else (len(self.rois), self.size[1], *self.bins)

    def expected(self) -> Tensor:
        """What the oracle makes of it, in float64 and from boxes in the kernels' precision."""
        geometry = (self.spatial_scale, *self.bins, self.sampling_ratio, self.aligned)
        if not self.backward:
            return reference.roi_align(self.data.to(self.sums()), self.rois, *geometry)
        return reference.roi_align_backward(
            self.data.to(self.sums()),
            *(self.rois, self.spatial_scale, *self.size, self.sampling_ratio, self.aligned),
        )

    def sums(self) -> torch.dtype:
        """The dtype of the sums."""
        return reference.sum_dtype(self.data.dtype)


class Outcome(NamedTuple):
    """What the emulator says of a case."""

    result: Tensor
    failed: int  # assertions
    bands: int  # of pool_slab_kernel; 0 where another kernel did it


def to_bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


class Emulator:
    """The compiled program."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder
        self.program = folder / "run_cases"
        includes = [
            folder for path in cpp_extension.include_paths() for folder in ("-isystem", path)
        ]
        done = subprocess.run(
            [
                *("g++", "-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"),
                *("-Wno-unknown-pragmas", "-fsanitize=address,undefined"),
                *("-fno-sanitize-recover=all", *includes, f"-I{CSRC}", *flags),
                *(str(HERE / "cuda_emulation" / "run_cases.cpp"), "-o", str(self.program)),
            ],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]

    def run(self, cases: list[Case]) -> list[Outcome]:
        """What became of the cases."""
        files = self.folder / "cases", self.folder / "results"
        files[0].write_bytes(b"".join(case.packed() for case in cases))
        done = subprocess.run([self.program, *files], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        raw = torch.frombuffer(bytearray(files[1].read_bytes()), dtype=torch.uint8)
        results = []
        for case in cases:
            shape = case.shape()
            if case.channels_last:
                shape = (shape[0], *shape[2:], shape[1])
            size = torch.Size(shape).numel() * case.data.element_size()
            counts, values, raw = raw[:16], raw[16 : 16 + size], raw[16 + size :]
            result = values.clone().view(case.data.dtype).view(shape)
            result = result.movedim(-1, 1) if case.channels_last else result
            results.append(Outcome(result, *counts.clone().view(torch.int64).tolist()))
        assert raw.numel() == 0
        return results

    def check(self, cases: list[Case]) -> list[int]:
        """Compares the results of cases without failed assertions with the oracle.

        Returns the bands of each.
        """
        outcomes = self.run(cases)
        for case, (result, failed, _) in zip(cases, outcomes, strict=True):
            assert failed == 0
            bound = TOLERANCE[case.data.dtype]
            torch.testing.assert_close(
                result.to(case.sums()),
                case.expected(),
                rtol=bound,
                atol=bound * max(1.0, case.expected().abs().max().item() if result.numel() else 0),
                msg=lambda message, case=case: f"{case._replace(data=None, rois=None)}: {message}",
            )
        return [outcome.bands for outcome in outcomes]


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    """Built once for the tests of this file."""
    return Emulator(tmp_path_factory.mktemp("cuda_emulation"))


@pytest.fixture(scope="module")
def silent_emulator(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    """Without the assertion that boxes name an image."""
    folder = tmp_path_factory.mktemp("silent_cuda_emulation")
    return Emulator(folder, "-DFGCLIP_DET_NO_INDEX_ASSERTION")


def draw_rois(count: int, images: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """(count, 5) float32 rois in cells; every third is of a hostile sort."""

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    scale = torch.tensor([size[1], size[0]] * 2).float()
    corners = (rand(2, count, 2) * 1.4 - 0.2).sort(dim=0)[0]
    box = torch.cat([corners[0], corners[1]], dim=1) * scale
    centre = rand(count, 2).repeat(1, 2) * scale
    one = torch.eye(4)[torch.randint(0, 4, (count,), generator=generator)] == 1
    sorts = [
        *[box] * 14,
        box.round(),
        centre,
        centre + rand(count, 4).sort()[0] * 0.01,
        box + 3 * scale,
        box[:, [2, 3, 0, 1]],
        box.masked_fill(one, NAN),
        box.masked_fill(one, INF),
        torch.tensor([-1e30, -1e30, 1e30, 1e30]).expand(count, 4),
        torch.tensor([-1e7, -1.0, 1e7, 3.0]).expand(count, 4),
    ]
    sort = torch.randint(0, len(sorts), (count,), generator=generator)
    boxes = torch.stack([*sorts])[sort, torch.arange(count)]
    index = torch.randint(0, max(images, 1), (count, 1), generator=generator).float()
    return torch.cat([index, boxes], dim=1)


def lay_out(layout: str, shape: tuple[int, int, int, int], generator: torch.Generator) -> Tensor:
    """Random float32 values of that shape in a storage that is laid out as named."""
    n, c, h, w = shape

    def rand(*sizes: int) -> Tensor:
        return torch.rand(sizes, generator=generator) * 2 - 1

    if layout == "tokens_behind_class":
        return rand(n, 1 + h * w, c)[:, 1:].unflatten(1, (h, w)).permute(0, 3, 1, 2)
    if layout == "expanded":
        return rand(1, h, w, c).permute(0, 3, 1, 2).expand(n, c, h, w)
    if layout == "one_value":
        return rand(1, 1, 1, 1).expand(n, c, h, w)
    if layout == "sliced_channels_last":
        return rand(n, h, w, c + 3).permute(0, 3, 1, 2)[:, 1 : 1 + c]
    if layout == "every_second_channel":
        return rand(n, h, w, 2 * c).permute(0, 3, 1, 2)[:, ::2]
    if layout == "transposed":
        return rand(n, c, w, h).transpose(2, 3)
    if layout == "cropped":
        return rand(n, h + 1, w + 2, c).permute(0, 3, 1, 2)[:, :, 1:, 1:-1]
    return rand(n, h, w, c).permute(0, 3, 1, 2) if layout == "channels_last" else rand(n, c, h, w)


LAYOUTS = [
    *("contiguous", "channels_last", "tokens_behind_class", "expanded", "one_value"),
    *("sliced_channels_last", "every_second_channel", "transposed", "cropped"),
]
BINS = [(1, 1), (1, 1), (7, 7), (2, 3), (3, 1), (14, 2)]
# Vectors and single channels, a part of a warp and several tiles of channels.
CHANNELS = [1, 3, 8, 13, 16, 40, 64, 96, 130, 264]


def with_dtype(data: Tensor, dtype: torch.dtype) -> Tensor:
    """`data` in this dtype, its strides and offset kept."""
    storage = torch.as_strided(data, (data.untyped_storage().nbytes() // 4,), (1,), 0).to(dtype)
    return torch.as_strided(storage, data.shape, data.stride(), data.storage_offset())


def draw(seed: int, dtype: torch.dtype, backward: bool) -> Case:
    """A random case; the same one for the same seed."""
    choose, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    layout, bins = choose.choice(LAYOUTS), choose.choice(BINS)
    height, width = (choose.choice([1, 5, 9, 14, 21]) for _ in "hw")
    size = (choose.choice([1, 1, 2, 3]), choose.choice(CHANNELS), height, width)
    count = choose.choice([0, 1, 2, 5, 9] if size[1] > 50 else [1, 7, 12, 70])
    scale = choose.choice([1.0, 0.25, 1 / 14])
    rois = draw_rois(count, size[0], (height, width), generator)
    rois[:, 1:] /= scale
    shape = (count, size[1], *bins) if backward else size
    data = with_dtype(lay_out(layout, shape, generator), dtype)
    last = choose.random() < 0.5 if backward else is_channels_last(data)
    ratio = choose.choice([-1, -1, 0, 2, 5])
    most_blocks = choose.choice([1 << 20, 1 << 20, 5])
    device = dict(
        multiprocessors=choose.choice([1, 7, 132]), shared_bytes=choose.choice([1024, 232448])
    )
    return Case(
        *(data, rois, size, bins, backward, scale, ratio, choose.random() < 0.7, last),
        *(most_blocks, seed),
        **device,
    )


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("dtype", CODES, ids=str)
def test_random_cases_equal_the_oracle(
    emulator: Emulator, dtype: torch.dtype, backward: bool
) -> None:
    emulator.check([draw(seed, dtype, backward) for seed in range(60)])


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


def test_the_kernel_is_chosen_by_the_boxes_the_map_and_the_layout(emulator: Emulator) -> None:
    slabs = many_boxes((2, 24, 12, 12), 90, torch.float32)
    others = [
        slabs._replace(rois=slabs.rois[:20]),
        slabs._replace(bins=(1, 2)),
        slabs._replace(shared_bytes=32 * 11),  # less than a row
        many_boxes((2, 25, 12, 12), 90, torch.float32),
        many_boxes((2, 24, 12, 12), 90, torch.float32, "sliced_channels_last"),
    ]
    assert emulator.check([slabs, *others]) == [1, 0, 0, 0, 0, 0]


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
    pooled, _, bands = emulator.run([case])[0]
    assert bands == 1
    touched = case._replace(data=touches).expected() > 0
    clean = case._replace(data=comes_near).expected() == 0
    assert 80 < touched.sum() < 600 and 80 < clean.sum() < 600
    assert not pooled[touched].isfinite().any()
    torch.testing.assert_close(pooled[clean], expected[clean], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("asserts", [True, False])
@pytest.mark.parametrize(("bins", "count"), [((1, 1), 5), ((2, 3), 5), ((1, 1), 100)])
@pytest.mark.parametrize("image", [2.0, -1.0, NAN, INF, 1e20])
def test_an_index_outside_the_batch_reads_nothing_and_fails_the_assertion_if_there_is_one(
    request: pytest.FixtureRequest, image: float, bins: tuple[int, int], count: int, asserts: bool
) -> None:
    emulator = request.getfixturevalue("emulator" if asserts else "silent_emulator")
    generator = torch.Generator().manual_seed(0)
    rois = draw_rois(count, 2, (9, 9), generator)
    rois[3, 0] = image
    size = (2, 16, 9, 9)
    good = torch.arange(count) != 3
    maps = lay_out("channels_last", size, generator)
    gradient = lay_out("channels_last", (count, 16, *bins), generator)
    forward = Case(maps, rois, size, bins, channels_last=True, multiprocessors=1)
    backward = Case(gradient, rois, size, bins, True, channels_last=True)
    (pooled, failed, bands), (spread, failed_too, _) = emulator.run([forward, backward])
    assert (failed > 0, failed_too > 0, bands > 0) == (asserts, asserts, count == 100)
    assert torch.equal(pooled[3], torch.zeros(16, *bins))
    expected = forward._replace(rois=rois[good]).expected()
    torch.testing.assert_close(pooled[good], expected, atol=1e-5, rtol=1e-5)
    expected = backward._replace(data=gradient[good], rois=rois[good]).expected()
    torch.testing.assert_close(spread, expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("bins", [(1, 1), (7, 7)])
@pytest.mark.parametrize(("channels", "repeated"), [(16, 1), (130, 1), (16, 20)])
def test_a_map_of_a_pyramid_has_its_own_boxes(
    emulator: Emulator, bins: tuple[int, int], channels: int, repeated: int
) -> None:
    generator = torch.Generator().manual_seed(channels)
    size = (2, channels, 9, 14)
    rois = draw_rois(12 * repeated, 2, size[2:], generator)
    # Of three maps; some name none.
    levels = torch.tensor([0, 1, 2, 3, 1, 1, 0, -1, 2, 1, 0, 3]).repeat(repeated)
    maps = lay_out("channels_last", size, generator)
    gradient = lay_out("channels_last", (len(rois), channels, *bins), generator)
    cases = []
    for level in range(3):
        of = dict(channels_last=True, levels=levels, num_levels=3, level=level, multiprocessors=1)
        cases += [Case(maps, rois, size, bins, **of), Case(gradient, rois, size, bins, True, **of)]
    results = emulator.run(cases)
    for level in range(3):
        (pooled, failed, bands), (spread, failed_too, _) = results[2 * level : 2 * level + 2]
        assert (bands > 0) == (repeated > 1 and bins == (1, 1))
        own = levels == level
        # The first map sees to boxes that name none: zeros, and an assertion. No map writes what is
        # of another.
        stray = (levels < 0) | (levels > 2)
        assert (failed > 0, failed_too > 0) == (level == 0, level == 0)
        expected = Case(maps, rois[own], size, bins).expected()
        torch.testing.assert_close(pooled[own], expected, atol=1e-5, rtol=1e-5)
        assert (pooled[stray] == 0).all() if level == 0 else pooled[stray].isnan().all()
        assert pooled[~own & ~stray].isnan().all()
        expected = Case(gradient[own], rois[own], size, bins, True).expected()
        torch.testing.assert_close(spread, expected, atol=1e-4, rtol=2e-5)
