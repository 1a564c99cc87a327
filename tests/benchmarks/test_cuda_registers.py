"""What the compiler makes of the CUDA kernels is read as it is; the model follows from it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

# A loop over boxes, of 9 instructions, around one of 5 with two loads; out of line a branch back.
CODE = """
MOV R1, c[0x0][0x28] ;
ISETP.GE.AND P0, PT, R2, R3, PT ;
LDS.128 R4, [R8] ;
LDS.128 R12, [R9] ;
FFMA R20, R4, R5, R20 ;
IADD3 R2, R2, 0x1, RZ ;
@!P0 BRA 0x20 ;
SHFL.BFLY PT, R8, R13, 0x2, 0x1f ;
STG.E desc[UR36][R10.64], R14 ;
@P1 BRA 0x10 ;
EXIT ;
SHFL.BFLY P6, R14, R13, R12, R11 ;
BRA 0x70 ;
"""


@pytest.fixture
def registers(import_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    """The benchmark as a module."""
    return import_benchmark("cuda_registers")


@pytest.fixture
def model(import_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    """The benchmark as a module."""
    return import_benchmark("cuda_model")


@pytest.fixture
def backward_model(import_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    """The benchmark as a module."""
    return import_benchmark("cuda_backward_model")


def test_the_innermost_loop_with_loads_is_counted(registers: ModuleType) -> None:
    code = [(16 * i, line) for i, line in enumerate(CODE.strip().splitlines())]
    kernel = registers.Kernel("pool_slab_kernel", "float32", True, 80, 0, 0)
    registers.count_loop(kernel, code)
    assert (kernel.loop, kernel.loads, kernel.enclosing) == (5, 2, 9)
    assert kernel.per_load == 2.5


def test_loops_are_nested_by_their_branches(backward_model: ModuleType) -> None:
    code = [(16 * i, line) for i, line in enumerate(CODE.strip().splitlines())]
    root = backward_model.nest(code)
    (boxes,) = root.inner
    (loads,) = boxes.inner
    assert (len(root.own()), len(boxes.lines), len(boxes.own()), len(loads.own())) == (1, 9, 4, 5)
    assert backward_model.chain(root, "LDS") == [boxes, loads]
    first, rest = boxes.cut("SHFL")
    assert (len(first.lines), first.inner, len(rest.lines), rest.inner) == (7, [loads], 2, [])
    jump = [
        (0, "MOV R1, R2 ;"),
        (16, "@P0 BRA 0x30 ;"),
        (32, "FFMA R1, R2, R3, R4 ;"),
        (48, "NOP ;"),
    ]
    assert [line for _, line in backward_model.Loop(0, 64, jump).always()] == [
        *("MOV R1, R2 ;", "@P0 BRA 0x30 ;", "NOP ;")
    ]


def test_the_model_of_the_backward_pass_counts_bins_and_cells_of_tiles(
    model: ModuleType, backward_model: ModuleType
) -> None:
    # Rows 1 to 3 and columns 1 to 2 of one box, columns 7 and 8 of the other.
    rois = torch.tensor([[0.0, 1.2, 1.2, 2.2, 3.2], [1.0, 7.6, 1.2, 8.4, 3.2]])
    part = model.Part(torch.zeros(2, 200, 128), rois, torch.zeros(0), (10, 20), 1.0)
    case = model.Case("a", "", "maps", 2, 128, (10, 20), ((10, 20),), 1, 1)
    assert backward_model.tile_rows(case, [part], 4) == 2
    tiles = backward_model.tiles_of(case, part, 4, 2, True)
    assert (tiles.channel_tiles, tiles.threads, tiles.warps) == (1, 128, 4)
    touched = tiles.meets.unflatten(0, (2, 5, 3)).nonzero().tolist()
    # Image, row and column of the tile, box: rows 1 to 3 lie in two rows of tiles.
    assert touched == [
        *([0, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1])
    ]
    assert tiles.items.sum() == 6 and tiles.loads.sum() == 3 + 2 * 3
    assert tiles.summed(tiles.meets, 32).sum() == 6
    assert backward_model.writes_rows(case, part)
    words = backward_model.copy_kernel(256, 49, 2, True)
    assert words == ("transpose_pairs_kernel", "1 a word", 64, 32)
    assert backward_model.copy_kernel(256, 50, 2, True)[1:] == ("2 a word", 64, 64)
    assert backward_model.copy_kernel(49, 256, 2, True)[:2] == ("transpose_kernel", "16 bits")
    assert backward_model.copy_kernel(256, 50, 4, True)[:2] == ("transpose_kernel", "32 bits")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc on the PATH")
def test_the_backward_pass_takes_fewer_launches_than_it_did(
    registers: ModuleType, backward_model: ModuleType, capsys: pytest.CaptureFixture
) -> None:
    if registers.find_cuobjdump() is None:
        pytest.skip("no cuobjdump to count instructions with")
    if backward_model.main(["--before", "e193ee0"]) == 2:
        pytest.skip(capsys.readouterr().err)  # a shallow clone lacks the revision
    said = capsys.readouterr().out
    lines = [line for line in said.splitlines() if "pyramid of 2" in line and " 17 | 4 " in line]
    assert len(lines) == 2, said


def test_the_model_counts_boxes_bytes_and_launches(
    registers: ModuleType, model: ModuleType
) -> None:
    names = ("pool_box_kernel", "pool_slab_kernel", "pool_bins_kernel", "pool_planes_kernel")
    counts = {
        (name, dtype): registers.Kernel(name, dtype, True, 80, 0, 0, 40, 4, 240)
        for name in names
        for dtype in ("float32", "float16")
    }
    lines = model.calculate(counts, counts)
    assert len(lines) == 10 and {len(line) for line in lines} == {7}
    assert [line[1:3] for line in lines if "pyramid" in line[0]] == [["12", "2"]] * 4
    # One box whose three rows and two columns of cells are read, on a map of 4 x 4.
    rois = torch.tensor([[0.0, 1.2, 1.2, 2.2, 3.2]])
    part = model.Part(torch.zeros(1, 16, 8), rois, torch.zeros(0), (4, 4), 1.0)
    case = model.Case("a", "", "tokens", 1, 8, (4, 4), ((4, 4),), 1, 1)
    work = model.one_bin_before(case, part, 4, counts["pool_box_kernel", "float32"])
    assert work.cached == 3 * 2 * 8 * 4
    assert work.memory == (16 + 1) * 8 * 4
    assert work.floor() == 2 * model.LAUNCH


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc on the PATH")
def test_kernels_compile_and_those_of_slabs_keep_all_in_registers(registers: ModuleType) -> None:
    kernels = registers.read_kernels(Path(registers.ROOT), "sm_90")
    found = {(k.name, k.dtype): k for k in kernels if k.vector}
    for dtype in ("float32", "float64", "float16", "bfloat16"):
        kernel = found["pool_slab_kernel", dtype]
        assert kernel.spilled == 0 and 40 < kernel.registers <= 96
        if registers.find_cuobjdump() is not None:
            assert kernel.loads == 4 and kernel.per_load < 30
    assert (
        found["spread_kernel", "float32"].spilled == found["prepare_kernel", "float32"].spilled == 0
    )
    table = registers.table({"sm_90": kernels})
    assert "`pool_planes_kernel`, float16" in table and "`transpose_pairs_kernel`, 2 a" in table


def test_a_missing_revision_is_an_error(
    registers: ModuleType, capsys: pytest.CaptureFixture
) -> None:
    assert registers.main(["--before", "no-such-revision"]) == 2
    assert "no-such-revision" in capsys.readouterr().err
