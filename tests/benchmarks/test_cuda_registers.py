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


def test_the_innermost_loop_with_loads_is_counted(registers: ModuleType) -> None:
    code = [(16 * i, line) for i, line in enumerate(CODE.strip().splitlines())]
    kernel = registers.Kernel("pool_slab_kernel", "float32", True, 80, 0, 0)
    registers.count_loop(kernel, code)
    assert (kernel.loop, kernel.loads, kernel.enclosing) == (5, 2, 9)
    assert kernel.per_load == 2.5


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
    assert "`pool_planes_kernel`, float16" in registers.table({"sm_90": kernels})


def test_a_missing_revision_is_an_error(
    registers: ModuleType, capsys: pytest.CaptureFixture
) -> None:
    assert registers.main(["--before", "no-such-revision"]) == 2
    assert "no-such-revision" in capsys.readouterr().err
