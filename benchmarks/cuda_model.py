"""Calculates what the CUDA forward kernels of RoIAlign should take: bytes, instructions, time.

A model, not a measurement: nothing runs on a GPU. It counts what the kernels read and issue for
the boxes of benchmarks/roi_align.py, takes instructions from the compiler (it needs an nvcc, as
benchmarks/cuda_registers.py does), and divides by what the device can do at best; waits are not in
it, and outside of the inner loops all instructions count, also those of branches not taken.

    python benchmarks/cuda_model.py --before e193ee0
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import cuda_registers, report
from benchmarks.roi_align_cases import Case, Part, cases_of, make_parts
from fgclip_det.ops import reference

WARP, VECTOR_BYTES, SLAB_BYTES = 32, 16, 32
BOX_WARPS = 8  # of a block of pool_box_kernel
ARCHITECTURE = "sm_90"
# NVIDIA's data sheet of the H100 SXM: 67 TFLOP/s of float32 on 132 multiprocessors, 3.35 TB/s.
MULTIPROCESSORS = 132
CLOCK = 67e12 / (MULTIPROCESSORS * 256)
MEMORY = 3.35e12
# Of a multiprocessor, a cycle. NVIDIA publishes no rate of the second-level cache: 32 bytes are
# what plan_slabs() in csrc takes, too.
CACHED, SHARED, ISSUED = 32, 128, 4
LAUNCH = 2.5e-6  # seconds: assumed
NAMES = (
    "64x64 x 768, 1x1, 1000 boxes",
    "24x24 x 768, 1x1, 300 boxes",
    "14x14 x 512, 1x1, 100 boxes",
)
Counts = dict[tuple[str, str], cuda_registers.Kernel]


@dataclass
class Work:
    """What a call takes of a GPU."""

    launches: int
    memory: float  # bytes that leave or enter memory
    cached: float = 0  # bytes from the second-level cache
    shared: float = 0  # bytes from shared memory
    issued: float = 0  # instructions of warps
    waves: float = 1  # by how much the last wave of blocks lengthens it

    def seconds(self) -> float:
        """Launches, and the slowest resource."""
        a_cycle = MULTIPROCESSORS * CLOCK
        busy = max(self.shared / SHARED, self.issued / ISSUED, self.cached / CACHED) / a_cycle
        return self.launches * LAUNCH + max(self.memory / MEMORY, busy * self.waves)

    def floor(self) -> float:
        """The larger of bytes over bandwidth and launches; two launches are the least."""
        return max(self.memory / MEMORY, 2 * LAUNCH)


def windows(part: Part, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of each bin (K, bins), and rows and columns of each box's window (K,), in cells."""
    spans = []
    for axis, size in ((1, part.grid[0]), (0, part.grid[1])):
        low, high = part.rois[:, 1 + axis], part.rois[:, 3 + axis]
        geometry = dict(spatial_scale=part.spatial_scale, sampling_ratio=-1, aligned=True)
        spans.append(reference.axis_weights(low, high, size=size, bins=bins, **geometry) > 0)
    rows, columns = spans
    return rows.sum(dim=2), rows.any(dim=1).sum(dim=1), columns.any(dim=1).sum(dim=1)


def one_bin_before(case: Case, part: Part, value: int, kernel: cuda_registers.Kernel) -> Work:
    """pool_box_kernel: every box reads its cells through the caches."""
    _, rows, columns = windows(part, 1)
    cached = float((rows * columns).sum()) * case.channels * value
    issued = cached / (VECTOR_BYTES * WARP) * kernel.per_load
    # Each warp of each block goes through the rest of the loop once for each box.
    tiles = math.ceil(case.channels * value / (VECTOR_BYTES * WARP))
    issued += len(part.rois) * tiles * BOX_WARPS * (kernel.enclosing - kernel.loop)
    return Work(2, io_bytes(case, [part], value), cached, 0, issued)


def one_bin_now(case: Case, part: Part, value: int, kernel: cuda_registers.Kernel) -> Work:
    """pool_slab_kernel, with the number of parts that takes least, as plan_slabs() looks for it."""
    _, rows, columns = windows(part, 1)
    across = (2 ** columns.clamp(2, 16).log2().ceil()).clamp(max=16)
    # Patches of 16 cells, in 32 rows of a window after the other.
    per_chunk = (columns / across).ceil()
    down = 16 / across
    patches = float(
        (per_chunk * ((rows // 32) * (32 / down).ceil() + (rows % 32 / down).ceil())).sum()
    )
    slabs = math.ceil(case.channels * value / SLAB_BYTES)
    map_bytes = math.prod(part.grid) * case.channels * value
    best = None
    for waves in range(1, 5):
        parts = max(1, waves * MULTIPROCESSORS // slabs)
        blocks = slabs * parts
        uneven = math.ceil(blocks / MULTIPROCESSORS) * MULTIPROCESSORS / blocks
        per_box = kernel.enclosing - kernel.loop
        issued = slabs * (patches * kernel.per_load + len(part.rois) * per_box)
        # A block fills its slab, then pools: the two follow each other.
        fill = parts * map_bytes / CACHED
        pool = max(patches * slabs * WARP * VECTOR_BYTES / SHARED, issued / ISSUED)
        work = Work(2, io_bytes(case, [part], value), (fill + pool) * CACHED, 0, 0, uneven)
        best = work if best is None or work.seconds() < best.seconds() else best
    return best


def io_bytes(case: Case, parts: list[Part], value: int) -> float:
    """Maps read once and the result written."""
    cells = sum(math.prod(part.grid) for part in parts) * case.images
    pooled = sum(len(part.rois) for part in parts) * case.bins**2
    return float((cells + pooled) * case.channels * value)


def pyramid_before(
    case: Case, parts: list[Part], value: int, kernel: cuda_registers.Kernel
) -> Work:
    """Each map copied to channels last, then weights and pool_bins_kernel, map after map."""
    maps = sum(math.prod(part.grid) for part in parts) * case.images * case.channels * value
    cells = 0.0
    for part in parts:
        bin_rows, _, columns = windows(part, case.bins)
        cells += float((bin_rows.sum(dim=1) * columns).sum())
    cached = cells * case.channels * value
    issued = cached / (VECTOR_BYTES * WARP) * kernel.per_load
    # Copying reads and writes the maps, before they are read once more.
    memory = io_bytes(case, parts, value) + 2 * maps
    return Work(3 * len(parts), memory, cached, 0, issued)


def pyramid_now(case: Case, parts: list[Part], value: int, kernel: cuda_registers.Kernel) -> Work:
    """pool_planes_kernel: rows of windows as they lie, in sectors of 32 bytes."""
    cached, lanes = 0.0, 0.0
    for part in parts:
        bin_rows, _, columns = windows(part, case.bins)
        rows = bin_rows.sum(dim=1)
        sectors = (columns * value + SLAB_BYTES - value) / SLAB_BYTES
        cached += float((rows * sectors * (columns > 0)).sum()) * SLAB_BYTES * case.channels
        lanes += float((rows * columns).sum()) * case.channels
    issued = lanes / WARP * kernel.per_load
    return Work(2, io_bytes(case, parts, value), cached, 0, issued)


def chosen(cases: list[Case]) -> Iterator[tuple[str, Case]]:
    """The cases that are calculated, each with its name."""
    for wanted in NAMES:
        yield wanted, next(c for c in cases if c.images == 1 and c.name == wanted)
    for group, images in (("640x640", 1), ("1333x800", 2)):
        case = next(c for c in cases if f"{group} px, all" in c.group and c.boxes == 1000)
        yield f"pyramid of {images} x {group} px, 7x7, 1000 boxes", case


def row(name: str, before: Work, now: Work) -> list[str]:
    """One line of the table, in microseconds."""
    micro = [seconds * 1e6 for seconds in (now.floor(), before.seconds(), now.seconds())]
    launches = [str(before.launches), str(now.launches)]
    return [name, *launches, *map(report.number, micro), report.number(micro[2] / micro[0])]


def calculate(before: Counts, now: Counts) -> list[list[str]]:
    """All lines of the table."""
    lines = []
    cases = cases_of("a,b,c", quick=False)
    for dtype, value in (("float32", 4), ("float16", 2)):
        for name, case in chosen(cases):
            parts = make_parts(case, torch.float32, "cpu", 0)
            if case.layout == "tokens":
                old = one_bin_before(case, parts[0], value, before["pool_box_kernel", dtype])
                new = one_bin_now(case, parts[0], value, now["pool_slab_kernel", dtype])
            else:
                old = pyramid_before(case, parts, value, before["pool_bins_kernel", dtype])
                new = pyramid_now(case, parts, value, now["pool_planes_kernel", dtype])
            lines.append(row(f"{name}, {dtype}", old, new))
    return lines


def counts(root: Path) -> Counts:
    """The kernels of a checkout: see `cuda_registers.by_name`."""
    return cuda_registers.by_name(cuda_registers.read_kernels(root, ARCHITECTURE))


def compared(description: str, argv: list[str] | None) -> tuple[Counts, Counts] | None:
    """Kernels of the revision that --before names, and of this checkout.

    None, once it is said, where the user can mend something.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", metavar="REVISION", required=True, help="to compare with")
    args = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory() as folder:
            root = cuda_registers.checkout(args.before, Path(folder))
            if cuda_registers.find_cuobjdump() is None:
                raise ValueError("there is no cuobjdump to count instructions with")
            return counts(root), counts(cuda_registers.ROOT)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return None


def main(argv: list[str] | None = None) -> int:
    """Prints the table; returns the exit code, 2 where the user can mend it."""
    found = compared(__doc__, argv)
    if found is None:
        return 2
    head = ["Forward, calculated, not run on a GPU", "launches before", "now", "floor µs"]
    print(report.table([*head, "before µs", "now µs", "now / floor"], calculate(*found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
