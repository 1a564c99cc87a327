"""The CUDA kernels compile for both architectures wherever nvcc is, GPU or not, and load."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from torch.utils import cpp_extension

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "fgclip_det" / "ops" / "csrc" / "cuda" / "roi_align_kernel.cu"
ASK = """
import sys
import torch
torch.ops.load_library(sys.argv[1])
from fgclip_det import ops
print(ops.backend()["cuda"], ops.asserts_index())
"""
NEWEST, OLDEST = ("-gencode=arch=compute_90,code=sm_90", "-gencode=arch=compute_80,code=sm_80")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "architectures"), [("", [OLDEST, NEWEST]), ("0", [NEWEST])], ids=["usual", "silent"]
)
def test_kernels_compile_and_load_with_and_without_the_assertion(
    setting: str, architectures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc on the PATH")
    if torch.version.cuda is None:
        pytest.skip("PyTorch was built without CUDA, so its CUDA headers are missing")
    monkeypatch.setenv("FGCLIP_DET_INDEX_ASSERTION", setting)
    settings = runpy.run_path(str(ROOT / "setup.py"), run_name="settings_of_setup")
    compiled, library = tmp_path / "roi_align_kernel.o", tmp_path / "kernels.so"
    includes = [*cpp_extension.include_paths(), sysconfig.get_paths()["include"]]
    done = subprocess.run(
        [
            *(nvcc, "-c", str(SOURCE), "-o", str(compiled), *settings["NVCC_FLAGS"]),
            *("-std=c++17", "-Xcompiler", "-fPIC", "--threads", "2", *architectures),
            *(flag for folder in includes for flag in ("-isystem", folder)),
            *cpp_extension.COMMON_NVCC_FLAGS,
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_HOME": settings["find_cuda_home"]() or ""},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    libraries = [f"-L{folder}" for folder in cpp_extension.library_paths()]
    libraries += ["-lc10", "-lc10_cuda", "-ltorch_cpu", "-ltorch_cuda"]
    done = subprocess.run(
        ["g++", "-shared", str(compiled), *libraries, "-o", str(library)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # Beside the CPU operators, as the package loads them: which build it is can be asked.
    asked = subprocess.run(
        [sys.executable, "-c", ASK, str(library)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert asked.stdout.split() == ["extension", str(setting != "0")], asked.stderr[-3000:]
