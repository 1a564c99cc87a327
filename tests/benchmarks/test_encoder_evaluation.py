"""The benchmark of encoder evaluation runs, compares both ways, and gives what it measured."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch


def run(benchmark: ModuleType, tmp_path: Path, *more: str) -> tuple[int, list[dict], str]:
    out = tmp_path / "out.json"
    code = benchmark.main(["--quick", "--threads", "1", "--out", str(out), *more])
    page = out.with_suffix(".md").read_text(encoding="utf-8")
    return code, json.loads(out.read_text(encoding="utf-8"))["cases"], page


def test_both_ways_agree(benchmark: ModuleType, tmp_path: Path) -> None:
    code, cases, page = run(benchmark, tmp_path, "--pictures", "2", "--rounds", "1")
    assert code == 0
    *ways, ranks = cases
    assert [case["name"] for case in ways] == [case.name for case in benchmark.CASES]
    for case in ways:
        assert case["largest_difference"] < 1e-4 and case["ratio"]["median"] > 0
        assert (case["again"] is None) == ("boxes" in case["name"])
        assert case["name"] in page
    assert ranks["whole_table_megabytes"] == pytest.approx(0.8) and "200 x 1,000" in page
    assert "200,000 x 1,000,000 take" in page


def test_what_differs_is_no_ratio(benchmark: ModuleType, tmp_path: Path, monkeypatch) -> None:
    own = benchmark.pair_ways

    def broken(*given):
        ours, alone = own(*given)
        return ours, lambda: [features + 1 for features in alone()]

    monkeypatch.setattr(benchmark, "pair_ways", broken)
    code, (case,), page = run(benchmark, tmp_path, "--cases", "v1 short", "--ranks", "none")
    assert code == 1 and case["ratio"] is None and "results differ" in page


def test_memory_that_was_given_back_is_seen(benchmark: ModuleType) -> None:
    with benchmark.Watched("cpu") as watched:
        torch.ones(50_000_000)
        torch.ones(50_000_000).sum().item()
    assert 1.5e8 < watched.more < 6e8


def test_odd_arguments_are_refused(benchmark: ModuleType, capsys) -> None:
    assert benchmark.main(["--cases", "v3"]) == 2
    assert benchmark.main(["--ranks", "many"]) == 2
    assert "error: " in capsys.readouterr().err
