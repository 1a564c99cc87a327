"""Calculates what the CUDA backward pass of RoIAlign should take: bytes, instructions, time.

A model, not a measurement: nothing runs on a GPU. As in benchmarks/cuda_model.py, whose device and
cases these are. The boxes that meet each tile, and their bins and cells in it, are counted one by
one; the loops of the compiled kernels (it needs an nvcc) are run through as often as these numbers
say. Within a loop all instructions count, but for those that a warp without a box, or a row of a
tile without a weight, jumps over. The launch that writes weights and lists counts as a launch.

    python benchmarks/cuda_backward_model.py --before e193ee0
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import cuda_model, report
from benchmarks.cuda_model import MULTIPROCESSORS, VECTOR_BYTES, WARP, Work
from benchmarks.roi_align_cases import Case, Part, cases_of, make_parts
from fgclip_det.ops import reference

SECTOR = 32  # bytes that a cache hands out at the least
ITEMS, TILE_ROWS, MANY_BLOCKS, LEAST_THREADS = 64, 8, 512, 128  # as in csrc/cuda
TILE_COLUMNS = {4: 8, 2: 4}  # by the bytes of a value
WINDOW_BYTES, SPAN_BYTES = 24, 8
ROW_VALUES = 4  # of spread_kernel, written at a time with channels first
Code = list[tuple[int, str]]
Measure = Callable[[list[str]], float]


@dataclass
class Loop:
    """Instructions from a branch's target to the branch, and the loops among them."""

    begin: int
    end: int
    lines: Code
    inner: list[Loop] = field(default_factory=list)

    def own(self) -> Code:
        """The instructions that are in no inner loop."""
        return [
            (at, line)
            for at, line in self.lines
            if not any(loop.begin <= at <= loop.end for loop in self.inner)
        ]

    def always(self) -> Code:
        """Those of `own` that no forward branch jumps over."""
        skips = []
        for at, line in self.lines:
            found = re.search(r"@!?U?P\d\s+BRA\b.*?\b0x([0-9a-f]+)", line)
            if found and at < int(found[1], 16) <= self.end:
                skips.append((at, int(found[1], 16)))
        return [(at, line) for at, line in self.own() if not any(a < at < b for a, b in skips)]

    def has(self, pattern: str) -> bool:
        """Whether an instruction of it, or of its inner loops, looks so."""
        return any(re.search(pattern, line) for _, line in self.lines)

    def cut(self, pattern: str) -> tuple[Loop, Loop]:
        """Its part up to the first such instruction, and the rest."""
        at = next((at for at, line in self.lines if re.search(pattern, line)), self.end)
        first = Loop(self.begin, at, [line for line in self.lines if line[0] <= at])
        rest = Loop(at + 1, self.end, [line for line in self.lines if line[0] > at])
        for loop in self.inner:
            (first if loop.end < at else rest).inner.append(loop)
        return first, rest


def nest(code: Code) -> Loop:
    """The loops of a kernel, as branches back show them; what follows its end is left out."""
    last = next((i for i, (_, line) in enumerate(code) if line.startswith("EXIT")), len(code))
    code = code[:last]
    ends: dict[int, int] = {}
    for at, line in code:
        found = re.search(r"\bBRA\b.*?\b0x([0-9a-f]+)", line)
        if found and int(found[1], 16) < at:
            ends[int(found[1], 16)] = max(at, ends.get(int(found[1], 16), 0))
    root = Loop(0, code[-1][0], code)
    for begin, end in sorted(ends.items(), key=lambda loop: loop[0] - loop[1]):
        parent = root
        while around := [x for x in parent.inner if x.begin <= begin and end <= x.end]:
            parent = around[0]
        parent.inner.append(Loop(begin, end, [x for x in code if begin <= x[0] <= end]))
    return root


def chain(root: Loop, pattern: str) -> list[Loop]:
    """The loops around the innermost one with such an instruction, from outside in."""
    found = []
    while around := [loop for loop in root.inner if loop.has(pattern)]:
        root = max(around, key=lambda loop: len(loop.lines))
        found.append(root)
    return found


@dataclass
class Tiles:
    """What the blocks of a launch of spread_kernel have to do; each tensor has a row per tile."""

    channel_tiles: int
    threads: int
    rows: int
    columns: int
    meets: Tensor  # (T, K) bool: the box touches the tile
    items: Tensor  # (T, K): bins of the box that touch the tile
    loads: Tensor  # (T,): rows of the tile times bins with a weight there
    bins: int  # of an axis
    images: int

    @property
    def warps(self) -> int:
        """Of a block."""
        return self.threads // WARP

    def summed(self, boxes: Tensor, size: int) -> Tensor:
        """(T, ceil(K / size)): a (T, K) tensor summed over `size` boxes at a time."""
        padded = torch.nn.functional.pad(boxes.double(), (0, -boxes.shape[1] % size))
        return padded.unflatten(1, (-1, size)).sum(dim=2)


def touched(part: Part, bins: int, axis: int, cells: int) -> tuple[Tensor, Tensor]:
    """(K, tiles) of one axis: bins with a weight in a tile of so many cells, and these weights."""
    size = part.grid[0] if axis == 1 else part.grid[1]
    low, high = part.rois[:, 1 + axis], part.rois[:, 3 + axis]
    geometry = dict(spatial_scale=part.spatial_scale, sampling_ratio=-1, aligned=True)
    weights = reference.axis_weights(low, high, size=size, bins=bins, **geometry) > 0
    weights = torch.nn.functional.pad(weights, (0, -size % cells)).unflatten(2, (-1, cells))
    return weights.any(dim=3).sum(dim=1), weights.sum(dim=(1, 3))


def tile_rows(case: Case, parts: list[Part], value: int) -> int:
    """Rows of the tiles of a launch about these maps: fewer where there are few tiles."""
    channel_tiles = math.ceil(case.channels * value / VECTOR_BYTES / WARP)

    def blocks(rows: int) -> int:
        tiles = (
            math.ceil(part.grid[0] / rows) * math.ceil(part.grid[1] / TILE_COLUMNS[value])
            for part in parts
        )
        return case.images * sum(tiles) * channel_tiles

    rows = TILE_ROWS
    while rows > 2 and blocks(rows) < MANY_BLOCKS:
        rows //= 2
    return rows


def tiles_of(case: Case, part: Part, value: int, rows: int, now: bool) -> Tiles:
    """Cuts a map into tiles of so many rows, and counts the boxes of each."""
    assert case.channels * value >= VECTOR_BYTES * WARP  # a row of a tile is a warp
    channel_tiles = math.ceil(case.channels * value / VECTOR_BYTES / WARP)
    columns = TILE_COLUMNS[value]
    bins_down, rows_down = touched(part, case.bins, 1, rows)
    bins_across, _ = touched(part, case.bins, 0, columns)
    of_image = part.rois[:, 0] == torch.arange(case.images)[:, None]
    items, loads = (
        torch.einsum("nk,ka,kb->nabk", of_image.float(), down.float(), bins_across.float())
        for down in (bins_down, rows_down)
    )
    items = items.flatten(0, 2)
    loads = loads.sum(dim=3).flatten()
    threads = max(rows * WARP, LEAST_THREADS) if now else rows * WARP
    meets = items > 0
    return Tiles(
        *(channel_tiles, threads, rows, columns, meets, items, loads, case.bins, case.images)
    )


def spread(tiles: Tiles, code: Code, boxes: int, measure: Measure) -> float:
    """What the warps of one launch issue, by a measure of lists of instructions."""
    levels = chain(nest(code), r"LDG\.E\.128")
    block, inner, entries, listing = levels[0], levels[-1], levels[-2], levels[-3]
    search = math.ceil(math.log2(tiles.threads))

    def of(lines: Code) -> float:
        return measure([line for _, line in lines])

    def beside(loop: Loop) -> float:
        """The loops of a level that are not in the chain; all but those over entries."""
        total = 0.0
        for other in loop.inner:
            if other in levels:
                continue
            loads = sum("LDG" in line for _, line in other.lines)
            times = tiles.bins // 4 if loads > 1 else search
            if loads == 1:  # digits of the image
                times = (tiles.images - 1).bit_length()
            total += times * of(other.lines)
        return total

    now = len(levels) == 5  # over groups of 32 boxes, then over boxes that touch the tile
    total = len(tiles.meets) * of(block.own())
    if now:
        rounds = math.ceil(math.ceil(boxes / WARP) / tiles.threads)
        total += len(tiles.meets) * rounds * (of(levels[1].own()) + beside(levels[1]))
        chunks = (tiles.meets.sum(dim=1) / tiles.threads).ceil()
        total += float(chunks.sum()) * (of(listing.own()) + beside(listing))
        stages = (tiles.items.sum(dim=1) / ITEMS).ceil()
    else:
        look, rest = listing.cut(r"BAR\.RED")
        total += len(tiles.meets) * math.ceil(boxes / tiles.threads) * of(look.always())
        some = of(look.own()) - of(look.always()) + beside(look)
        total += float((tiles.summed(tiles.meets, WARP) > 0).sum()) * some / tiles.warps
        per_chunk = tiles.summed(tiles.items, tiles.threads)
        total += float((per_chunk > 0).sum()) * (of(rest.own()) + beside(rest))
        stages = (per_chunk / ITEMS).ceil().sum(dim=1)
    total += float(stages.sum()) * of(entries.own())
    slots = TILE_ROWS + tiles.columns
    for other in entries.inner:
        if other is inner:
            continue
        if other.has("LDG"):  # weights
            passes = float(tiles.items.sum()) * slots / tiles.threads + float(stages.sum()) / 2
            total += passes * of(other.own())
        elif other.inner:  # places of items; its twin without a search is never run
            total += float(stages.sum()) * (of(other.own()) + search * of(other.inner[0].lines))
    total *= tiles.warps
    pairs = float(tiles.items.sum()) / 2 * tiles.rows
    jumped = of(inner.own()) - of(inner.always())
    total += pairs * of(inner.always()) + float(tiles.loads.sum()) / 2 * jumped
    return total * tiles.channel_tiles


def spreading(case: Case, parts: list[Part], value: int, code: Code, boxes: int) -> Work:
    """One launch of spread_kernel, about these maps; `boxes` counts those of all maps."""
    now = len(chain(nest(code), r"LDG\.E\.128")) == 5
    rows = tile_rows(case, parts, value)
    work, blocks = Work(1, 0.0), 0
    for part in parts:
        tiles = tiles_of(case, part, value, rows, now)
        blocks += len(tiles.meets) * tiles.channel_tiles
        lines = 2 + (case.images - 1).bit_length()
        lists = lines * math.ceil(boxes / WARP) * 4 if now else boxes * WINDOW_BYTES
        met = float(tiles.meets.sum()) * 2 * case.bins * SPAN_BYTES
        # Spans and weights of an item, in sectors: a span and one or two of weights for each axis.
        staged = float(tiles.items.sum()) * 5 * SECTOR
        cached = float(tiles.loads.sum()) * WARP * VECTOR_BYTES + met + staged
        work.cached += (cached + len(tiles.meets) * lists) * tiles.channel_tiles
        if now and writes_rows(case, part):  # with channels first: a part of a sector at a time
            cells = case.images * math.prod(part.grid) * case.channels
            work.cached += cells * SECTOR / ROW_VALUES
        accesses = spread(tiles, code, boxes, lambda x: sum("LDS" in y or "STS" in y for y in x))
        work.shared += accesses * cuda_model.SHARED
        work.issued += spread(tiles, code, boxes, len)
        work.memory += cuda_model.io_bytes(case, [part], value)
    work.waves = math.ceil(blocks / MULTIPROCESSORS) * MULTIPROCESSORS / blocks
    return work


def writes_rows(case: Case, part: Part) -> bool:
    """Whether spread_kernel writes the result with channels first, as writes_rows() in csrc."""
    return case.layout == "maps" and part.grid[1] % ROW_VALUES == 0


def copy_kernel(rows: int, columns: int, value: int, now: bool) -> tuple[str, str, int, int]:
    """Name and kind of the kernel that copies such matrices, and the sides of its tiles."""
    if value == 2 and now and rows % 2 == 0:
        words = 2 if columns % 2 == 0 else 1
        return "transpose_pairs_kernel", f"{words} a word", 64, 32 * words
    return "transpose_kernel", "32 bits" if value == 4 else "16 bits", 32, 32


def copying(count: int, rows: int, columns: int, value: int, kernels: cuda_model.Counts) -> Work:
    """One launch that changes the layout of (count, rows, columns) values."""
    now = ("transpose_pairs_kernel", "1 a word") in kernels
    name, kind, down, across = copy_kernel(rows, columns, value, now)
    root = nest(kernels[name, kind].code)
    block = max(root.inner, key=lambda loop: len(loop.lines))
    # A loop that is left goes over a tile's rows, 8 at a time.
    each = len(block.own()) + sum(4 * len(loop.lines) for loop in block.inner)
    blocks = count * math.ceil(rows / down) * math.ceil(columns / across)
    return Work(1, 2.0 * count * rows * columns * value, issued=8.0 * blocks * each)


def backward(case: Case, parts: list[Part], value: int, kernels: cuda_model.Counts) -> list[Work]:
    """All launches of a call."""
    dtype = {4: "float32", 2: "float16"}[value]
    # Weights and lists of boxes: of all maps at once; before, weights and windows, map after map.
    now = ("prepare_kernel", "float32") in kernels
    works = [Work(1 if now else 2 * len(parts), 0.0)]
    boxes = sum(len(part.rois) for part in parts)
    if case.layout == "maps":
        works.append(copying(boxes, case.channels, case.bins**2, value, kernels))
    code = kernels["spread_kernel", dtype].code
    for some in [parts] if now else [[part] for part in parts]:
        works.append(spreading(case, some, value, code, boxes))
    for part in parts:
        if case.layout == "maps" and not (now and writes_rows(case, part)):
            works.append(copying(case.images, math.prod(part.grid), case.channels, value, kernels))
    return works


def row(name: str, before: list[Work], now: list[Work], memory: float) -> list[str]:
    """One line of the table: launches, and microseconds."""
    floor = Work(2, memory).floor() * 1e6
    spent = [sum(work.seconds() for work in works) * 1e6 for works in (before, now)]
    launches = [str(sum(work.launches for work in works)) for works in (before, now)]
    times = map(report.number, (floor, *spent))
    return [name, *launches, *times, report.number(spent[1] / floor)]


def parts_row(name: str, before: list[Work], now: list[Work]) -> list[str]:
    """What the kernels of a call take of each resource, before / now, launches left out."""
    a_cycle = MULTIPROCESSORS * cuda_model.CLOCK

    def each(resource: Callable[[Work], float]) -> str:
        sums = [sum(map(resource, works)) * 1e6 for works in (before, now)]
        return " / ".join(map(report.number, sums))

    return [
        name,
        each(lambda work: work.memory / cuda_model.MEMORY),
        each(lambda work: work.cached / cuda_model.CACHED / a_cycle),
        each(lambda work: work.shared / cuda_model.SHARED / a_cycle),
        each(lambda work: work.issued / cuda_model.ISSUED / a_cycle),
    ]


def copy_rows(before: cuda_model.Counts, now: cuda_model.Counts) -> list[list[str]]:
    """Instructions that warps issue for 1024 copied values, by size and shape of the matrix."""
    rows = []
    for name, value, columns in (("32 bits", 4, 1024), ("16 bits", 2, 1024), ("16 bits", 2, 49)):
        issued = [copying(1, 256, columns, value, kernels).issued for kernels in (before, now)]
        counts = (report.number(count / 256 / columns * 1024) for count in issued)
        rows.append([f"256 x {columns} of {name}", *counts])
    return rows


def calculate(
    before: cuda_model.Counts, now: cuda_model.Counts
) -> tuple[list[list[str]], list[list[str]], list[str]]:
    """The lines of both tables, and how much of the weights' memory is written, case by case."""
    lines, details, written = [], [], []
    for dtype, value in (("float32", 4), ("float16", 2)):
        for name, case in cuda_model.chosen(cases_of("a,b,c", quick=False)):
            parts = make_parts(case, torch.float32, "cpu", 0)
            works = [backward(case, parts, value, kernels) for kernels in (before, now)]
            memory = cuda_model.io_bytes(case, parts, value)
            lines.append(row(f"{name}, {dtype}", *works, memory))
            details.append(parts_row(f"{name}, {dtype}", *works))
            if value == 4:
                written.append(f"{name}: {memory_written(case, parts)}")
    return lines, details, written


def memory_written(case: Case, parts: list[Part]) -> str:
    """Of the memory for weights: all of it, and the share that is written."""
    pitch = sum(max(part.grid[axis] for part in parts) for axis in (0, 1))
    room = sum(len(part.rois) for part in parts) * case.bins * pitch
    cells = sum(
        float(touched(part, case.bins, axis, 1)[1].sum()) for part in parts for axis in (0, 1)
    )
    return f"{room * 4 / 1e6:.2f} MB, of which {cells / room:.1%} are written"


def main(argv: list[str] | None = None) -> int:
    """Prints the tables; returns the exit code, 2 where the user can mend it."""
    found = cuda_model.compared(__doc__, argv)
    if found is None:
        return 2
    before, now = found
    lines, details, written = calculate(before, now)
    head = ["Backward, calculated, not run on a GPU", "launches before", "now", "floor µs"]
    print(report.table([*head, "before µs", "now µs", "now / floor"], lines))
    print("\nThe same by resource, before / now, µs without launches:\n")
    print(report.table(["Backward", "memory", "caches", "shared", "instructions"], details))
    print("\nInstructions of warps for 1024 copied values:\n")
    print(report.table(["Matrix", "before", "now"], copy_rows(before, now)))
    print("\nMemory for weights, float32:\n")
    print("\n".join(f"- {line}" for line in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
