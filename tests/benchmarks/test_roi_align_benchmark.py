"""The RoIAlign benchmark runs, writes what it says, and refuses to compare unlike results."""

from __future__ import annotations

import ctypes
import functools
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torchvision

from tests.messages import says

MIB = 1 << 20
# Of the JSON: everything that a page about it may read.
SETTINGS = {
    "date",
    "device",
    "processor",
    "threads",
    "load_average",
    "dtype",
    "rounds",
    "seed",
    "quick",
    "python",
    "torch",
    "cuda",
    "torchvision",
    "mmcv",
    "fgclip_det",
    "fgclip_det_kernels",
}
CASE = {"row", "group", "name", "images", "channels", "grids", "boxes", "bins"}
PASS = {"difference", "seconds", "ratio", "one_thread", "peak_bytes"}


@pytest.fixture
def benchmarks(import_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    """The folder as a package."""
    import_benchmark("roi_align")
    return sys.modules["benchmarks"]


def test_quick_run_writes_json_page_and_chart(
    benchmarks: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("matplotlib")
    out, chart = tmp_path / "new" / "cpu.json", tmp_path / "chart.png"
    main = benchmarks.roi_align.main
    assert main(["--quick", "--rows", "a,b,c", "--out", str(out), "--plot", str(chart)]) == 0
    printed = capsys.readouterr().out
    result = json.loads(out.read_text(encoding="utf-8"))
    assert set(result) == {"settings", "cases"}
    assert set(result["settings"]) == SETTINGS
    assert result["settings"]["torch"] == torch.__version__
    assert [case["row"] for case in result["cases"]] == ["a", "a", "b", "b", "c", "c"]
    for case in result["cases"]:
        assert set(case) == CASE | {"forward", "backward"}
        for which in ("forward", "backward"):
            entry = case[which]
            assert set(entry) == PASS
            assert 0 <= entry["difference"]["torchvision"] < 1e-5
            peers = {"torchvision"} | ({"torchvision_map_ready"} if case["row"] == "a" else set())
            assert set(entry["ratio"]) >= peers
            assert set(entry["seconds"]) == {"ours", *entry["ratio"]}
            for name, ratio in entry["ratio"].items():
                theirs, ours = entry["seconds"][name], entry["seconds"]["ours"]
                rounds = [a / b for a, b in zip(theirs, ours, strict=True)]
                assert len(rounds) == result["settings"]["rounds"] == 2
                assert ratio == {
                    "median": pytest.approx(sum(rounds) / 2),
                    "min": min(rounds),
                    "max": max(rounds),
                }
    page = out.with_suffix(".md").read_text(encoding="utf-8")
    assert page.partition("## Summary")[2].strip() in printed
    assert all(page.count(f"({case['row']}) {case['name']} |") == 2 for case in result["cases"])
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_two_columns_with_threads_and_core_against_core(
    benchmarks: ModuleType, tmp_path: Path
) -> None:
    out = tmp_path / "cpu.json"
    arguments = ["--quick", "--rows", "b", "--out", str(out), "--threads"]
    assert benchmarks.roi_align.main([*arguments, "2"]) == 0
    assert torch.get_num_threads() == 2
    for case in json.loads(out.read_text(encoding="utf-8"))["cases"]:
        for which in ("forward", "backward"):
            one = case[which]["one_thread"]
            assert set(one["seconds"]) == set(case[which]["seconds"])
            assert one["seconds"]["ours"] != case[which]["seconds"]["ours"]
    page = out.with_suffix(".md").read_text(encoding="utf-8")
    heads = "| forward, 2 threads | forward, 1 thread each | backward, 2 threads |"
    assert heads in page
    assert benchmarks.roi_align.main([*arguments, "1"]) == 0
    assert "| cases | forward | backward |" in out.with_suffix(".md").read_text(encoding="utf-8")


def test_unlike_results_get_no_ratio(
    benchmarks: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    correct = torchvision.ops.roi_align
    monkeypatch.setattr(torchvision.ops, "roi_align", lambda *given: correct(*given) + 2e-4)
    out = tmp_path / "cpu.json"
    arguments = ["--quick", "--rows", "b", "--threads", "1", "--out", str(out)]
    assert benchmarks.roi_align.main(arguments) == 1
    captured = capsys.readouterr()
    cases = json.loads(out.read_text(encoding="utf-8"))["cases"]
    assert all(case["forward"]["ratio"]["torchvision"] is None for case in cases)
    assert all(case["backward"]["ratio"]["torchvision"] is not None for case in cases)
    assert captured.out.count("| results differ |") == 2 * len(cases)
    assert captured.err.count("error: results differ: ") == len(cases)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--rows", "a,x"], ("--rows", "'x'", "a,b,c")),
        (["--rows", ""], ("--rows", "''", "a,b,c")),
        (["--rounds", "0"], ("--rounds", "at least 1", "0")),
        (["--threads", "-1"], ("--threads", "at least 1", "-1")),
        (["--device", "cuda"], ("--device cuda", "no CUDA device")),
        (["--quick", "--out", "{file}/cpu.json"], ("File exists",)),
        (["--quick", "--out", "cpu.md"], ("--out", "cpu.json", "cpu.md")),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    parts: tuple[str, ...],
    benchmarks: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "file").touch()
    given = [argument.format(file=tmp_path / "file") for argument in arguments]
    assert benchmarks.roi_align.main(given) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert says(*parts).search(captured.err)


def test_peers_in_half_precision_agree(benchmarks: ModuleType) -> None:
    calls, cases = benchmarks.roi_align_calls, benchmarks.roi_align_cases
    for case in cases.cases_of("a,b", quick=True):
        for dtype in ("float16", "bfloat16"):
            parts = cases.make_parts(case, benchmarks.timing.DTYPES[dtype], "cpu", 0)
            for which in calls.PASSES:
                found = {name: call() for name, call in calls.calls_of(case, parts, which).items()}
                worst = calls.difference(case, which, found["ours"], found["torchvision"])
                assert 0 <= worst <= benchmarks.roi_align.TOLERANCE[dtype]
                found_dtypes = {tensor.dtype for tensors in found.values() for tensor in tensors}
                assert found_dtypes == {benchmarks.timing.DTYPES[dtype]}


def test_mmcv_is_called_as_its_own_module_calls_it(benchmarks: ModuleType) -> None:
    # Without compiled operators `mmcv._ext` is the stand-in, which has their signatures.
    pytest.importorskip("mmcv")
    calls, cases = benchmarks.roi_align_calls, benchmarks.roi_align_cases
    for case in cases.cases_of("a,b", quick=True):
        for part in cases.make_parts(case, torch.float32, "cpu", 0):
            for which in calls.PASSES:
                ours, mmcv = (
                    calls.IMPLEMENTATIONS[name][which](part, case.bins) for name in ("ours", "mmcv")
                )
                assert calls.difference(case, which, [ours], [mmcv]) < 1e-5


def test_boxes_have_the_sizes_of_coco(benchmarks: ModuleType) -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = benchmarks.roi_align_cases.coco_like_boxes(20000, (480, 640), generator=generator)
    extent = boxes[:, 2:] - boxes[:, :2]
    assert (extent > 0).all() and (boxes >= 0).all()
    assert (boxes[:, 2:] <= torch.tensor([640.001, 480.001])).all()
    area = extent.prod(dim=1)
    assert (area < 32**2).float().mean().item() == pytest.approx(0.41, abs=0.02)
    assert (area > 96**2).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_levels_follow_the_octaves(benchmarks: ModuleType) -> None:
    sides = torch.tensor([1.0, 111.9, 112.1, 223.9, 224.1, 447.9, 448.1, 5000.0])
    boxes = torch.stack([sides, sides, sides * 1.5, sides * 3], dim=1)
    level = benchmarks.roi_align_cases.pyramid_level(boxes, 4)
    assert level.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def _through_a_native_buffer() -> torch.Tensor:
    library = ctypes.CDLL(None)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    buffer = library.malloc(96 * MIB)
    ctypes.memset(buffer, 1, 96 * MIB)
    library.free(buffer)
    return torch.ones(40 * MIB // 4)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_peak_memory_sees_tensors_and_native_allocations(benchmarks: ModuleType) -> None:
    """In a process of its own: pages of a large one come back from the system meanwhile."""
    calls = ((_through_a_native_buffer, 96), (functools.partial(torch.ones, 50 * MIB // 4), 50))
    with benchmarks.memory.measuring_process(1) as process:
        for call, expected in calls:
            peak = process.submit(benchmarks.memory.peak_bytes, call, "cpu").result()
            if peak is None:
                pytest.skip("/proc does not tell the peak")
            assert peak / MIB == pytest.approx(expected, abs=2)


@pytest.mark.slow
def test_peak_memory_is_asked_in_another_process(benchmarks: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "cpu.json"
    arguments = ["--quick", "--rows", "a", "--memory", "--out", str(out)]
    assert benchmarks.roi_align.main(arguments) == 0
    for case in json.loads(out.read_text(encoding="utf-8"))["cases"]:
        peaks = case["forward"]["peak_bytes"]
        assert set(peaks) >= {"ours", "torchvision"}
        assert all(peak is None or 0 <= peak < 1 << 26 for peak in peaks.values())


def test_a_busy_machine_is_told(benchmarks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    warning = benchmarks.timing.busy_warning
    monkeypatch.setattr(benchmarks.timing.os, "cpu_count", lambda: 4)
    settings = {"device": "cpu", "load_average": 2.4, "threads": 2}
    assert warning(settings) is None
    assert "a load of 2.4 and 3 threads on 4 cores" in warning(settings | {"threads": 3})
    assert warning(settings | {"threads": 9, "device": "cuda"}) is None
    assert warning(settings | {"load_average": None}) is None


def test_rounds_take_turns_in_changing_order(benchmarks: ModuleType) -> None:
    seen = []
    calls = {name: lambda name=name: seen.append(name) for name in "abc"}
    times = benchmarks.timing.interleave(calls, 20, "cpu", seed=0, min_seconds=0)
    turns = ["".join(seen[i : i + 3]) for i in range(6, len(seen), 3)]
    assert len(turns) == 20
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert len(set(turns)) > 3
    assert all(len(values) == 20 and math.fsum(values) > 0 for values in times.values())
