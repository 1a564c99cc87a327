"""The benchmark of the metrics of detections: the ways agree, and it runs from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import report


def test_the_ways_agree(benchmark: ModuleType, tmp_path: Path) -> None:
    case, path = benchmark.QUICK[0], tmp_path / "truth.json"
    made = benchmark.MadeUp(case, seed=1)
    report.write_json(path, made.truth())
    assert len(made.found) == case.images and len(made.found[0][1]) == case.detections
    values = [benchmark.our_call(made, path)()]
    for name in (benchmark.FASTER, benchmark.SLOW):
        values.append(benchmark.library_call(benchmark.MadeUp(case, seed=1), path, name)())
    # Neither all wrong nor all right.
    assert 1 < values[0] < 99
    assert values == pytest.approx([values[0]] * 3, abs=1e-9)


def test_bad_options(benchmark: ModuleType, capsys: pytest.CaptureFixture) -> None:
    for options, part in (
        (["--cases", "voc"], "'voc'"),
        (["--images", "0"], "--images"),
        (["--device", "cuda"], "CPU"),
        (["--out", "page.md"], "page.json"),
    ):
        assert benchmark.main(options) == 2
        assert part in capsys.readouterr().err


@pytest.mark.slow
def test_end_to_end(benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "metrics.json"
    assert benchmark.main(["--quick", "--out", str(out)]) == 0
    records = json.loads(out.read_text(encoding="utf-8"))["cases"]
    assert [set(record["ways"]) for record in records] == [{"ours", "faster-coco-eval"}, {"ours"}]
    assert all(record["difference"] < 1e-9 for record in records)
    assert "| ov_lvis, 20 x 300 x 1203 | ours |" in capsys.readouterr().out
