"""The CPU kernels under AddressSanitizer and UndefinedBehaviorSanitizer, fed with hostile input.

The test compiles them once more, with the sanitizers, and runs `main` below in a process of its own
that has this build in the place of `fgclip_det._C`.
"""

from __future__ import annotations

import itertools
import math
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils import cpp_extension

from fgclip_det.ops import backend, roi_align, roi_align_pyramid
from fgclip_det.ops.score_ensemble import score_ensemble_above

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "fgclip_det" / "ops" / "csrc"
# The casts of floats to integers are where boxes of 1e30 pixels and NaN would do harm. The check of
# virtual tables is left out: it would need PyTorch to be compiled alike.
CHECKS = [
    *("-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize=vptr"),
    *("-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
]
START = """
import importlib.util, runpy, sys
import torch  # its libraries are what the build is linked with
spec = importlib.util.spec_from_file_location("fgclip_det._C", sys.argv[1])
sys.modules["fgclip_det._C"] = importlib.util.module_from_spec(spec)
runpy.run_path(sys.argv[2], run_name="sanitized")[sys.argv[3]]()
"""
CONTROL = """
#include <cstdio>
int main(int argc, char**) {
  std::printf("%d", static_cast<int>(argc * 1e30f));
}
"""
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
NAN, INF = math.nan, math.inf
BOXES = [
    [1.0, 1.0, 4.0, 3.0],
    [-9.0, -9.0, 99.0, 99.0],
    [4.0, 4.0, 4.0, 4.0],
    [5.0, 4.0, 1.0, 2.0],
    [7.99, 5.99, 8.01, 6.01],
    [-1.5, -1.5, -0.5, -0.5],
    [1e-38, 1e-38, 2e-38, 1e-30],
    [NAN, 0.0, 1.0, 1.0],
    [0.0, 0.0, NAN, NAN],
    [-INF, -INF, INF, INF],
    [0.0, 0.0, INF, 1.0],
    [INF, INF, INF, INF],
    [-1e30, -1e30, 1e30, 1e30],
    [-1e30, 0.0, 0.5, 1e30],
    [-3e38, -3e38, 3e38, 3e38],
    [1e30, 1e30, 2e30, 2e30],
    [2147483000.0, 0.0, 2147484000.0, 9e9],
    [-5e9, -5e9, 5e9, 5e9],
]
WRONG_IMAGES = [-1.0, -0.5, 2.0, 3.0, 1e9, 3e9, 1e30, -1e30, NAN, INF, -INF]


def layouts(n: int, c: int, h: int, w: int, dtype: torch.dtype) -> Iterator[Tensor]:
    """(n, c, h, w) maps of ones; views begin or end with their storage and leave out NaN."""
    last = torch.channels_last
    yield torch.ones(n, c, h, w, dtype=dtype)
    yield torch.ones(n, c, h, w, dtype=dtype).contiguous(memory_format=last)
    for first in (0, 3):
        for form in (torch.contiguous_format, last):
            wide = torch.full((n, c + 3, h, w), NAN, dtype=dtype).contiguous(memory_format=form)
            yield wide[:, first : first + c].fill_(1)
    behind = torch.full((n, 1 + h * w, c), NAN, dtype=dtype)[:, 1:].fill_(1)
    yield behind.unflatten(1, (h, w)).permute(0, 3, 1, 2)
    cropped = torch.full((n, h + 1, w + 2, c), NAN, dtype=dtype)[:, 1:, 2:].fill_(1)
    yield cropped.permute(0, 3, 1, 2)
    yield torch.ones(1, c, h, w, dtype=dtype).expand(n, c, h, w)


def pool_hostile_boxes(dtype: torch.dtype) -> int:
    """Pools every box from every layout and size, and back; returns the number of calls."""
    calls = 0
    rois = torch.tensor([[index % 2, *box] for index, box in enumerate(BOXES)])
    for channels in (1, 3, 7, 9, 513):
        for height, width in ((1, 1), (1, 6), (8, 6)):
            for features in layouts(2, channels, height, width, dtype):
                bins, ratio = (1, 7, (2, 3), 1)[calls % 4], (-1, -1, 2, 0, 1)[calls % 5]
                leaf = features.detach().requires_grad_()
                pooled = roi_align(leaf, rois, bins, 1.0, ratio, aligned=calls % 7 < 5)
                # Ones everywhere pool to at most one, NaN beside the view would show.
                assert pooled.isfinite().all() and pooled.max() < 1.01
                gradient = torch.autograd.grad(pooled, leaf, torch.ones_like(pooled))[0]
                assert gradient.isfinite().all()
                assert roi_align(leaf, rois[:0], bins).shape[0] == 0
                calls += 1
    return calls


def pool_pyramids(dtype: torch.dtype) -> None:
    """Pools every box from one map of three, of every layout, and back; some maps have no box."""
    rois = torch.tensor([[index % 2, *box] for index, box in enumerate(BOXES)])
    for shift, bins in ((0, 1), (1, 7), (2, (2, 3))):
        levels = (torch.arange(len(BOXES)) * 2 + shift) % (3 if bins == 7 else 2)
        sizes = ((1, 1), (8, 6), (1, 6))
        for maps in zip(*(layouts(2, 9, *size, dtype) for size in sizes), strict=True):
            leaves = [some.detach().requires_grad_() for some in maps]
            pooled = roi_align_pyramid(leaves, rois, levels, bins, (1.0, 0.5, 2.0))
            assert pooled.isfinite().all() and pooled.max() < 1.01
            for gradient in torch.autograd.grad(pooled, leaves, torch.ones_like(pooled)):
                assert gradient.isfinite().all()
            for wrong in (-1, 3, 2**40):
                with pytest.raises(ValueError, match="levels"):
                    roi_align_pyramid(leaves, rois, levels + wrong, bins, (1.0, 0.5, 2.0))


def name_wrong_images() -> int:
    """Asks for images that are not there, forward and backward; returns the number of refusals."""
    refused = 0
    for image in WRONG_IMAGES:
        rois = torch.tensor([[0.0, 0, 0, 3, 3], [image, 0, 0, 3, 3]])
        for dtype in DTYPES:
            try:
                roi_align(torch.ones(2, 9, 5, 4, dtype=dtype), rois, 2)
            except ValueError:
                refused += 1
        try:
            torch.ops.fgclip_det.roi_align_backward(
                torch.ones(2, 9, 2, 2), rois, 1.0, 2, 9, 5, 4, -1, True, False
            )
        except ValueError:
            refused += 1
    assert refused == len(WRONG_IMAGES) * (1 + len(DTYPES)), refused
    # A fraction is no image either; whether it is refused or cut off, the memory is the map's.
    for image in (0.5, 1.999999):
        try:
            roi_align(torch.ones(2, 9, 5, 4), torch.tensor([[image, 0, 0, 3, 3]]), 2)
        except ValueError:
            refused += 1
    return refused


def score_names() -> None:
    """Scores regions as names, of as many as fill blocks and vectors and as many as do not."""
    for count, num_names, dim in itertools.product((0, 1, 33), (0, 1, 31, 512, 545, 1025), (1, 5)):
        for thr in (0.0, 0.3):
            given = [torch.randn(*size) for size in ((count, dim), (count, dim), (num_names, dim))]
            given += [torch.randn(2, dim), torch.rand(num_names)]
            rows, columns, scores = score_ensemble_above(*given, score_thr=thr)
            assert scores.isfinite().all() and (scores > thr).all()
            assert not len(rows) or (rows.max() < count and columns.max() < num_names)
            if count and num_names:
                given[1][-1] = NAN
                rows, _, scores = score_ensemble_above(*given, score_thr=thr)
                assert rows[-1] == count - 1 and scores[-1].isnan()


def main() -> None:
    """All of it, on one thread and on three."""
    assert backend()["cpu"] == "extension"
    fuzz = runpy.run_path(str(Path(__file__).parent / "test_fuzz.py"))
    for threads in (1, 3):
        torch.set_num_threads(threads)
        for dtype in DTYPES:
            print(dtype, pool_hostile_boxes(dtype), "calls", flush=True)
            pool_pyramids(dtype)
        print(name_wrong_images(), "refusals", flush=True)
        score_names()
        for seed in range(100 * threads, 100 * threads + 100):
            fuzz["draw"](seed).run()
    print("done", flush=True)


def read_one_past() -> None:
    """Pools from a map whose last value has been taken away: what the sanitizer is to find."""
    features = torch.ones(1, 16, 5, 4).contiguous(memory_format=torch.channels_last)
    features.untyped_storage().resize_(features.nbytes - features.element_size())
    roi_align(features, torch.tensor([[0.0, 0, 0, 4, 5]]), 1)
    print("done", flush=True)


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension's CPU part, compiled with the sanitizers."""
    if sys.platform != "linux" or shutil.which("g++") is None:
        pytest.skip("needs Linux and g++")
    folder = tmp_path_factory.mktemp("sanitized")
    flags = ["-std=c++17", "-O1", "-g", "-fPIC", "-fopenmp", *CHECKS]
    for include in [*cpp_extension.include_paths(), sysconfig.get_paths()["include"]]:
        flags += ["-isystem", include]
    folders = ("", "autograd/", "cpu/")
    sources = [path for folder in folders for path in sorted(CSRC.glob(f"{folder}*.cpp"))]
    objects = [str(folder / f"{source.stem}.o") for source in sources]
    # The loops do no arithmetic that could be undefined but addressing, which is watched; watching
    # for more takes the compiler minutes.
    less = "-fno-sanitize=undefined,float-cast-overflow"
    commands = [
        [*flags, *([less] if "loops" in source.stem else []), "-c", str(source), "-o", target]
        for source, target in zip(sources, objects, strict=True)
    ]
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(compile_or_fail, commands))
    libraries = [f"-L{path}" for path in cpp_extension.library_paths()]
    built = folder / "_C.so"
    compile_or_fail(
        ["-shared", *CHECKS, *objects, *libraries, "-ltorch_cpu", "-lc10", "-o", str(built)]
    )
    return built


def compile_or_fail(arguments: list[str]) -> None:
    done = subprocess.run(["g++", *arguments], capture_output=True, text=True)
    if "cannot find" in done.stderr and "san" in done.stderr:
        pytest.skip(f"the compiler has no sanitizers: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr[-3000:]


def run(built: Path, function: str) -> subprocess.CompletedProcess[str]:
    """Runs a function of this file in a new process, on the sanitized build."""
    runtimes = [
        subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True)
        for name in ("libasan.so", "libubsan.so")
    ]
    settings = {
        "LD_PRELOAD": " ".join(found.stdout.strip() for found in runtimes),
        # What Python and PyTorch keep until the end counts as leaked.
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        [sys.executable, "-c", START, str(built), __file__, function],
        capture_output=True,
        text=True,
        env={**os.environ, **settings},
    )


@pytest.mark.slow
def test_hostile_input_touches_no_foreign_memory(sanitized: Path) -> None:
    done = run(sanitized, "main")
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[:6000]
    assert done.stdout.endswith("done\n")
    assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr


@pytest.mark.slow
def test_reading_past_the_end_is_seen(sanitized: Path) -> None:
    done = run(sanitized, "read_one_past")
    assert done.returncode != 0
    assert "done" not in done.stdout
    # A vector that reaches over the end is reported as an unknown crash.
    assert "ERROR: AddressSanitizer: " in done.stderr, done.stderr[:3000]
    assert "roi_align_vector.h" in done.stderr, done.stderr[:3000]


@pytest.mark.slow
def test_undefined_casts_are_seen(sanitized: Path, tmp_path: Path) -> None:
    source, program = tmp_path / "control.cpp", tmp_path / "control"
    source.write_text(CONTROL, encoding="utf-8")
    compile_or_fail([*CHECKS, str(source), "-o", str(program)])
    done = subprocess.run([str(program)], capture_output=True, text=True)
    assert done.returncode != 0
    assert "outside the range of representable values" in done.stderr
