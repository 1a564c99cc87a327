"""The benchmark of FG-OVD's metric runs, compares before it times, and says what it lacks."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fgclip_det.fg_ovd.files import read_fg_ovd


def test_the_input_has_the_numbers_of_the_real_files(benchmark: ModuleType) -> None:
    data, predictions = benchmark.make_subset(benchmark.SUBSETS["easy"], 5, 3, 0)
    file = read_fg_ovd(data)
    assert (len(file.images), len(file.annotations)) == (853, 1299)
    vocabularies = file.vocabularies(5)
    assert len(vocabularies) == 971 == len(predictions)
    assert {one.annotation_id for one in vocabularies} == {number for number, _, _ in predictions}
    assert len({one.image_id for one in vocabularies}) == 853
    assert Counter(len(boxes) for _, boxes, _ in predictions) == {3: 971}
    assert predictions[0][2].shape == (3, 6)


def test_ours_alone_needs_no_torchmetrics(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "new" / "metric.json"
    assert benchmark.main(["--quick", "--ours-only", "--out", str(out)]) == 0
    written = json.loads(out.read_text(encoding="utf-8"))
    assert set(written["result"]["seconds"]) == {"ours", "sweep"}
    assert len(written["result"]["seconds"]["ours"]) == written["settings"]["rounds"] == 2
    assert written["result"]["ratio"] is None and written["result"]["difference"] is None
    page = out.with_suffix(".md").read_text(encoding="utf-8")
    assert "20 images, 24 vocabularies of 6 captions" in page
    assert page.partition("## Result")[2].strip() in capsys.readouterr().out


def peer(benchmark: ModuleType, shift: float) -> Any:
    """Stands for torchmetrics: our own numbers, off by `shift`."""

    def make(data: Any, predictions: Any) -> Any:
        found = benchmark.evaluate_fg_ovd(data, predictions, 5)
        return lambda: {key: found[key] + shift for key in benchmark.KEYS}

    return make


def test_unlike_results_get_no_ratio(
    benchmark: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "metric.json"
    for shift, code in ((1e-6, 0), (1e-4, 1)):
        monkeypatch.setattr(benchmark, "torchmetrics_call", peer(benchmark, shift))
        assert benchmark.main(["--quick", "--out", str(out)]) == code
        result = json.loads(out.read_text(encoding="utf-8"))["result"]
        assert result["difference"] == pytest.approx(shift)
        captured = capsys.readouterr()
        if code:
            assert result["ratio"] is None and "torchmetrics' time / ours" not in captured.out
            assert captured.err.endswith(f"error: results differ by {result['difference']}\n")
        else:
            rounds = zip(result["seconds"]["torchmetrics"], result["seconds"]["ours"], strict=True)
            ratios = [theirs / mine for theirs, mine in rounds]
            assert result["ratio"]["max"] == max(ratios)
            assert f"({benchmark.report.number(min(ratios))} to " in captured.out


def test_equals_torchmetrics_where_it_is_installed(benchmark: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("torchmetrics.detection")
    assert benchmark.main(["--quick", "--out", str(tmp_path / "metric.json")]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--quick"],
            "pip install --no-deps torchmetrics lightning-utilities, or give --ours-only",
        ),
        (["--quick", "--device", "cuda"], "the metric runs on the CPU"),
        (["--quick", "--boxes", "0"], "--boxes at least 1"),
        (["--quick", "--rounds", "0"], "--rounds must be at least 1, not 0"),
        (["--quick", "--out", "metric.md"], "--out is the JSON, e.g. metric.json"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    message: str,
    benchmark: ModuleType,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics.detection", None)
    assert benchmark.main(arguments) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith("error: ") and message in error[-1]
