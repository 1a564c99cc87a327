"""The CUDA kernels compile for both architectures wherever nvcc is, GPU or not."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
import torch
from torch.utils import cpp_extension

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "fgclip_det" / "ops" / "csrc" / "cuda" / "roi_align_kernel.cu"


@pytest.mark.slow
def test_kernels_compile_for_sm_80_and_sm_90(tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc on the PATH")
    if torch.version.cuda is None:
        pytest.skip("PyTorch was built without CUDA, so its CUDA headers are missing")
    settings = runpy.run_path(str(ROOT / "setup.py"), run_name="settings_of_setup")
    compiled = tmp_path / "roi_align_kernel.o"
    includes = [*cpp_extension.include_paths(), sysconfig.get_paths()["include"]]
    done = subprocess.run(
        [
            *(nvcc, "-c", str(SOURCE), "-o", str(compiled), *settings["NVCC_FLAGS"]),
            *("-std=c++17", "-Xcompiler", "-fPIC", "--threads", "2"),
            *("-gencode=arch=compute_80,code=sm_80", "-gencode=arch=compute_90,code=sm_90"),
            *(flag for folder in includes for flag in ("-isystem", folder)),
            *cpp_extension.COMMON_NVCC_FLAGS,
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_HOME": settings["find_cuda_home"]() or ""},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert compiled.stat().st_size > 0
