"""Both benchmarks of whole detectors run, write what they say, and refuse unlike results."""

from __future__ import annotations

import importlib
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torchvision

from tests.messages import says

RECORD = {
    "name",
    "label",
    "config",
    "images",
    "rounds",
    "difference",
    "seconds",
    "images_per_second",
    "ratio",
    "peak_bytes",
}


@pytest.fixture
def scripts(import_benchmark: Callable[[str], ModuleType]) -> dict[str, ModuleType]:
    """Both scripts by name."""
    return {name: import_benchmark(name) for name in ("train_step", "inference")}


@pytest.mark.parametrize("which", ["train_step", "inference"])
def test_quick_run_writes_json_and_page(
    scripts: dict[str, ModuleType], which: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "new" / "cpu.json"
    assert scripts[which].main(["--quick", "--threads", "1", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["settings"]["threads"] == 1 and result["settings"]["torch"] == torch.__version__
    (record,) = result["cases"]
    assert set(record) == RECORD | ({"names"} if which == "inference" else set())
    assert (record["name"], record["images"], record["rounds"]) == ("shapes", 2, 2)
    assert 0 <= record["difference"] < 1e-4 and record["peak_bytes"] is None
    ratios = [
        theirs / mine
        for theirs, mine in zip(record["seconds"]["plain"], record["seconds"]["ours"], strict=True)
    ]
    expected = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    assert record["ratio"] == pytest.approx(expected)
    for recipe, seconds in record["seconds"].items():
        speed = 2 / statistics.median(seconds)
        assert record["images_per_second"][recipe] == pytest.approx(speed)
    page = out.with_suffix(".md").read_text(encoding="utf-8")
    assert page.partition("## Summary")[2].strip() in printed
    assert f"{record['label']} |" in page and "- threads: 1" in page
    if which == "inference":
        _check_names(record["names"], page)


def _check_names(entries: list[dict], page: str) -> None:
    assert [entry["names"] for entry in entries] == [10, 100]
    for entry in entries:
        base = entries[0]["pass_seconds"]
        ratios = [a / b for a, b in zip(entry["pass_seconds"], base, strict=True)]
        assert entry["ratio"]["median"] == pytest.approx(statistics.median(ratios))
        # `classify` is a part of the pass.
        assert 0 < min(entry["classify_seconds"]) < max(entry["pass_seconds"])
        assert 0 < min(entry["product_seconds"]) < max(entry["classify_seconds"])
        assert entry["detections"] > 0
        assert f"| {entry['names']} |" in page


@pytest.mark.parametrize("which", ["train_step", "inference"])
def test_unlike_results_get_no_ratio(
    scripts: dict[str, ModuleType],
    which: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    correct = torchvision.ops.roi_align
    monkeypatch.setattr(torchvision.ops, "roi_align", lambda *given: 2 + correct(*given))
    out = tmp_path / "cpu.json"
    assert scripts[which].main(["--quick", "--threads", "1", "--out", str(out)]) == 1
    (record,) = json.loads(out.read_text(encoding="utf-8"))["cases"]
    assert record["ratio"] is None and record["difference"] > 1e-2
    captured = capsys.readouterr()
    assert "| results differ |" in captured.out
    assert captured.err.count("error: results differ: ") == 1


def test_a_detection_of_one_alone_counts_with_its_score(scripts: dict[str, ModuleType]) -> None:
    difference = sys.modules["benchmarks.recipe_comparison"].difference
    instances = importlib.import_module("mmengine.structures").InstanceData
    full = instances(scores=torch.tensor([0.75, 0.5]))
    less = instances(scores=torch.tensor([0.625]))
    assert difference("inference", ([], [full]), ([], [full])) == 0.0
    assert difference("inference", ([], [full]), ([], [less])) == 0.5
    assert difference("inference", ([], [full[:0]]), ([], [full[:0]])) == 0.0
    losses = {"loss": 1.0, "loss_cls": 0.5, "acc": 90.0}
    assert difference("train_step", losses, losses | {"loss_cls": 0.25, "acc": 10.0}) == 0.25


@pytest.mark.parametrize("which", ["train_step", "inference"])
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--cases", "shapes,x"], ("--cases", "'x'", "shapes,b_640")),
        (["--quick", "--cases", "b_640"], ("--cases", "'b_640'", "shapes")),
        (["--rounds", "0"], ("--rounds", "at least 1", "0")),
        (["--dtype", "float64"], ("--dtype", "float32", "bfloat16")),
        (["--device", "cuda"], ("--device cuda", "no CUDA device")),
        (["--quick", "--out", "{file}/cpu.json"], ("File exists",)),
        (["--quick", "--out", "cpu.md"], ("--out", "cpu.json", "cpu.md")),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    parts: tuple[str, ...],
    which: str,
    scripts: dict[str, ModuleType],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "file").touch()
    given = [argument.format(file=tmp_path / "file") for argument in arguments]
    assert scripts[which].main(given) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert says(*parts).search(captured.err)


@pytest.mark.slow
def test_mixed_precision_runs(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = []

    class Autocast(torch.autocast):
        def __enter__(self) -> None:
            entered.append(self.fast_dtype if self._enabled else torch.float32)
            super().__enter__()

    monkeypatch.setattr(torch, "autocast", Autocast)
    for which, script in scripts.items():
        entered.clear()
        out = tmp_path / f"{which}.json"
        arguments = ["--quick", "--threads", "1", "--dtype", "bfloat16", "--out", str(out)]
        assert script.main(arguments) == 0
        (record,) = json.loads(out.read_text(encoding="utf-8"))["cases"]
        # How much the layouts of the two recipes differ is the processor's matter.
        assert record["difference"] < 0.1
        assert torch.bfloat16 in entered


@pytest.mark.slow
def test_peak_memory_is_asked_in_another_process(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    out = tmp_path / "cpu.json"
    arguments = ["--quick", "--memory", "--threads", "1", "--out", str(out)]
    assert scripts["train_step"].main(arguments) == 0
    (record,) = json.loads(out.read_text(encoding="utf-8"))["cases"]
    assert set(record["peak_bytes"]) == {"ours", "plain"}
    for peak in record["peak_bytes"].values():
        # Activations of two pictures: megabytes, and never a gigabyte.
        assert peak is None or 1 << 20 < peak < 1 << 28
