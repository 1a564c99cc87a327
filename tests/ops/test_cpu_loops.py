"""The loops that are compiled for two instruction sets, of which a processor runs one."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

CPU = Path(__file__).resolve().parents[2] / "fgclip_det" / "ops" / "csrc" / "cpu"
SOURCE = r"""
#include "score_ensemble_loops.h"
using namespace fgclip_det;
extern "C" {
void exponentials(const float* from, float* to, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes<float>) {
    store<float>(exp_of(load(from + i)), to + i);
  }
}
void widen_all(const Half* from, float* one_by_one, float* loaded, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    one_by_one[i] = widen(from[i]);
  }
  for (int64_t i = 0; i < count; i += kLanes<float>) {
    store<float>(load(from + i), loaded + i);
  }
}
void narrow_all(const float* from, Half* one_by_one, Half* stored, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    narrow(from[i], one_by_one + i);
  }
  for (int64_t i = 0; i < count; i += kLanes<float>) {
    store<float>(load(from + i), stored + i);
  }
}
int64_t likely(const float* det, const float* vlm, const float* weight, int64_t count, float least,
               LogSum* sums, int32_t* found) {
  return find_likely(det, vlm, weight, count, least, sums, sums + 1, found);
}
}
"""
TARGETS = {"baseline": [], "avx2": ["-mavx2", "-mfma", "-mf16c", "-DFGCLIP_DET_F16C"]}


@pytest.fixture(scope="module", params=TARGETS)
def loops(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The loops behind functions that Python can call."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if request.param == "avx2" and not all(f" {flag}" in flags for flag in ("avx2", "fma", "f16c")):
        pytest.skip("needs a processor with AVX2")
    folder = tmp_path_factory.mktemp(request.param)
    built = folder / "loops.so"
    compile_text(SOURCE, built, "-fPIC", "-shared", *TARGETS[request.param])
    library = ctypes.CDLL(str(built))
    library.likely.restype = ctypes.c_int64
    return library


def compile_text(text: str, result: Path, *flags: str) -> None:
    source = result.with_suffix(".cpp")
    source.write_text(text)
    files = [str(source), "-o", str(result)]
    done = subprocess.run(
        ["g++", "-std=c++17", "-O3", f"-I{CPU}", *flags, *files], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("name", ["roi_align", "score_ensemble"])
def test_the_processor_converts_float16_where_it_can(name: str, tmp_path: Path) -> None:
    if shutil.which("g++") is None or platform.machine() != "x86_64":
        pytest.skip("needs g++ for x86-64")
    text = (CPU / f"{name}_loops_avx2.cpp").read_text()
    # The file up to its loops, which take long to compile, and in their place one conversion.
    text = (
        text[: text.index(f'#include "{name}_loops.h"')]
        + """
#include "roi_align_vector.h"
void widen_eight(const fgclip_det::Half* from, float* to) {
  fgclip_det::store<float>(fgclip_det::load(from), to);
}
void narrow_eight(const float* from, fgclip_det::Half* to) {
  fgclip_det::store<float>(fgclip_det::load(from), to);
}
"""
    )
    compile_text(text, tmp_path / "one.s", "-S")
    assembly = (tmp_path / "one.s").read_text()
    assert "vcvtph2ps" in assembly and "vcvtps2ph" in assembly


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    assert array.flags.c_contiguous
    return array.ctypes.data_as(ctypes.c_void_p)


def test_exponentials(loops: ctypes.CDLL) -> None:
    values = -np.geomspace(1e-9, 200, 80_000).astype(np.float32)
    values = np.concatenate([values, np.linspace(-88, 0, 80_000, dtype=np.float32)])
    got = np.empty_like(values)
    loops.exponentials(pointer(values), pointer(got), ctypes.c_int64(len(values)))
    exact = np.exp(values.astype(np.float64))
    unit = np.spacing(exact.astype(np.float32)).astype(np.float64)
    is_normal = values > -87
    assert (np.abs(got - exact) <= 2 * unit)[is_normal].all()
    assert (got[~is_normal] > 0).all() and (got[~is_normal] < 2e-38).all()
    assert got[-1] == 1.0


def test_every_float16_is_widened(loops: ctypes.CDLL) -> None:
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    one_by_one, loaded = (np.empty(len(values), dtype=np.float32) for _ in range(2))
    count = ctypes.c_int64(len(values))
    loops.widen_all(pointer(values), pointer(one_by_one), pointer(loaded), count)
    for got in (one_by_one, loaded):
        np.testing.assert_array_equal(got, values.astype(np.float32))
        np.testing.assert_array_equal(np.signbit(got), np.signbit(values))


def test_float32_is_rounded_to_float16(loops: ctypes.CDLL) -> None:
    exact = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        middles = (exact[:-1] + exact[1:]) / 2
        sides = [np.nextafter(middles, np.float32(side)) for side in (-np.inf, np.inf)]
        values = np.concatenate([exact, middles, *sides, [65519.0, 65520.0, 1e30, -1e30]])
        values = np.resize(values.astype(np.float32), len(values) // 8 * 8 + 8)
        expected = values.astype(np.float16)
    one_by_one, stored = (np.empty(len(values), dtype=np.float16) for _ in range(2))
    count = ctypes.c_int64(len(values))
    loops.narrow_all(pointer(values), pointer(one_by_one), pointer(stored), count)
    for got in (one_by_one, stored):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("count", [1, 7, 8, 31, 32, 40, 65, 512])
def test_likely_names(loops: ctypes.CDLL, count: int) -> None:
    draw = np.random.default_rng(count)
    logits = draw.normal(0, 20, (2, 3, count)).astype(np.float32)
    weight = draw.random(count, dtype=np.float32)
    sums = np.array([[-3.0, 1.0], [5.0, 1.0]], dtype=np.float32)
    whole = [np.exp(np.float64(-3.0)), np.exp(np.float64(5.0))]
    least = np.float32(-6.0)
    for part in range(3):
        det, vlm = (np.ascontiguousarray(logits[side, part]) for side in range(2))
        found = np.full(count + 1, -1, dtype=np.int32)
        total = loops.likely(
            *(pointer(each) for each in (det, vlm, weight)),
            ctypes.c_int64(count),
            ctypes.c_float(least),
            pointer(sums),
            pointer(found),
        )
        for side, own in enumerate((det, vlm)):
            whole[side] += np.exp(own.astype(np.float64)).sum()
            got = sums[side, 0] + np.log(np.float64(sums[side, 1]))
            np.testing.assert_allclose(got, np.log(whole[side]), atol=1e-5)
            assert sums[side, 0] == max((-3.0, 5.0)[side], logits[side, : part + 1].max())
        shares = (1 - weight) * (det - np.log(whole[0])) + weight * (vlm - np.log(whole[1]))
        got = np.isin(np.arange(count), found[:total])
        assert (np.diff(found[:total]) > 0).all()
        assert got[shares > least + 1e-3].all() and not got[shares < least - 1e-3].any()


@pytest.mark.parametrize("place", [0, 8, 31, 32, 39])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_makes_a_sum_nan_for_good(
    loops: ctypes.CDLL, bad: float, place: int
) -> None:
    det, vlm, weight = np.zeros((3, 40), dtype=np.float32)
    sums, found = np.ones((2, 2), dtype=np.float32), np.empty(41, dtype=np.int32)
    arguments = [pointer(each) for each in (det, vlm, weight)]
    arguments += [ctypes.c_int64(40), ctypes.c_float(-9.0), pointer(sums), pointer(found)]
    assert loops.likely(*arguments) == 40
    vlm[place] = bad
    assert loops.likely(*arguments) == 0
    vlm[place] = 0
    assert loops.likely(*arguments) == 0
    assert np.isnan(sums[1, 1]) and not np.isnan(sums[0, 1])
