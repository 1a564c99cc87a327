"""The CUDA kernels on the CPU: compiles `cuda_emulation/`, and runs cases through it."""

from __future__ import annotations

import random
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

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
    planes: int = 0  # as the host decides; -1: copied to channels last; 1: by pool_planes_kernel,
    # and all levels in one launch:
    others: tuple[tuple[Tensor, float], ...] = ()  # maps of the further levels, spatial scales

    def packed(self) -> bytes:
        """The case as `run_cases` reads it."""
        storage, values = packed_storage(self.data)
        maps = [self.data, *(maps for maps, _ in self.others)]  # weights are for the largest
        height, width = (max([self.size[i], *(m.shape[i] for m in maps[1:])]) for i in (2, 3))
        header = [self.backward, CODES[self.data.dtype], *storage]
        header += [*self.size[:2], height, width, len(self.rois), *self.bins]
        header += [self.sampling_ratio, self.aligned, self.channels_last]
        header += [self.most_blocks, self.seed, self.num_levels, self.level]
        header += [self.multiprocessors, self.shared_bytes, self.planes]
        packed = struct.pack(f"{len(header)}qd", *map(int, header), self.spatial_scale)
        levels = b"" if self.levels is None else to_bytes(self.levels)
        packed += to_bytes(self.rois) + levels + values
        for other, scale in self.others:
            storage, values = packed_storage(other)
            packed += struct.pack(f"{len(storage)}qd", *storage, scale) + values
        return packed

    def shape(self) -> tuple[int, ...]:
        """The shape of the result."""
        return self.size if self.backward else (len(self.rois), self.size[1], *self.bins)

    def expected(self) -> Tensor:
        """What the oracle makes of it, in float64 and from boxes in the kernels' precision."""
        geometry = (self.spatial_scale, *self.bins, self.sampling_ratio, self.aligned)
        if self.others:
            exact = [maps.to(self.sums()) for maps in (self.data, *(m for m, _ in self.others))]
            scales = [self.spatial_scale, *(scale for _, scale in self.others)]
            return reference.roi_align_pyramid(
                exact, self.rois, self.levels, scales, *self.bins, self.sampling_ratio, self.aligned
            )
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
    bands: int  # of pool_slab_kernel, 0 where another did it; if backward, rows of a tile
    planes: bool  # by pool_planes_kernel


def packed_storage(data: Tensor) -> tuple[list[int], bytes]:
    """Shape, strides, offset and number of values of the storage; and these values."""
    elements = 1 + sum((n - 1) * s for n, s in zip(data.shape, data.stride(), strict=True))
    offset = data.storage_offset() if data.numel() else 0
    elements = (elements if data.numel() else 0) + offset
    values = torch.as_strided(data, (elements,), (1,), 0)
    return [*data.shape, *data.stride(), offset, elements], to_bytes(values)


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
            counts, values, raw = raw[:24], raw[24 : 24 + size], raw[24 + size :]
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
        for case, (result, failed, *_) in zip(cases, outcomes, strict=True):
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
        planes=choose.choice([-1, 0]),
    )
