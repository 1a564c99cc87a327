"""The benchmark of asking again runs, writes what it says, and refuses unlike results."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from types import ModuleType

import pytest

from fgclip_det.models import Regions
from tests.messages import says


def test_quick_run_writes_json_and_page(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "new" / "cpu.json"
    assert benchmark.main(["--quick", "--threads", "1", "--out", str(out)]) == 0
    result = json.loads(out.read_text(encoding="utf-8"))
    (record,) = result["cases"]
    assert (record["name"], record["images"], record["rounds"]) == ("shapes", 2, 2)
    assert len(record["regions"]) == 2 and min(record["regions"]) > 0
    # Boxes, objectness and two embeddings of 128 values for each region.
    assert record["file_bytes"] > sum(record["regions"]) * 4 * (4 + 1 + 2 * 128)
    assert [entry["names"] for entry in record["names"]] == [1, 10]
    for entry in record["names"]:
        seconds = entry["seconds"]
        assert set(seconds) == {"pass", "again", "file", "encode"}
        shares = [a / b for a, b in zip(seconds["again"], seconds["pass"], strict=True)]
        assert entry["share"]["median"] == pytest.approx(statistics.median(shares))
        # Without the network: a part of a pass even on a busy machine.
        assert 0 < min(shares) < 0.5
        assert entry["difference"] == 0
    page = out.with_suffix(".md").read_text(encoding="utf-8")
    assert page.partition("## Summary")[2].strip() in capsys.readouterr().out
    assert "| 10 |" in page and "- threads: 1" in page


def test_each_call_asks_for_other_names(benchmark: ModuleType) -> None:
    names = benchmark.new_names(3)
    first, second = next(names).names, next(names).names
    assert len(first) == 3 and not set(first) & set(second)


def test_unlike_results_get_no_share(
    benchmark: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = Regions.load

    def load_other(path: Path) -> Regions:
        regions = load(path)
        regions.detector_embeddings = -regions.detector_embeddings
        return regions

    monkeypatch.setattr(Regions, "load", load_other)
    out = tmp_path / "cpu.json"
    assert benchmark.main(["--quick", "--threads", "1", "--out", str(out)]) == 1
    (record,) = json.loads(out.read_text(encoding="utf-8"))["cases"]
    assert any(entry["share"] is None for entry in record["names"])
    captured = capsys.readouterr()
    assert "results differ" in captured.out
    assert captured.err.count("error: results differ: ") == 1


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--quick", "--cases", "b_640"], ("--cases", "'b_640'", "shapes")),
        (["--dtype", "float64"], ("--dtype", "float32", "bfloat16")),
        (["--quick", "--out", "cpu.md"], ("--out", "JSON")),
        (["--rounds", "0"], ("--rounds", "at least 1")),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    parts: tuple[str, ...],
    benchmark: ModuleType,
    capsys: pytest.CaptureFixture,
) -> None:
    assert benchmark.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert says(*parts).search(captured.err)
