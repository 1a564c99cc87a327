"""The benchmark of a folder runs, writes what it says, and finds memory that grows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import folder


def test_quick_run_writes_json_and_page(tmp_path: Path) -> None:
    out = tmp_path / "new" / "cpu.json"
    assert folder.main(["--quick", "--threads", "1", "--out", str(out)]) == 0
    (record,) = json.loads(out.read_text(encoding="utf-8"))["cases"]
    assert record["pictures"] == 12 and [at for at, _ in record["resident"]] == [2, 4, 6, 8, 10, 12]
    assert record["detections"]["alone"] == record["detections"]["command"] > 0
    shares = [alone / command for alone, command in zip(*record["seconds"].values(), strict=True)]
    assert record["share"]["min"] == pytest.approx(min(shares))
    assert "| share of throughput |" in out.with_suffix(".md").read_text(encoding="utf-8")


def test_growth_is_that_behind_the_first_quarter_whatever_one_look_saw() -> None:
    sizes = [0, 5_000_000, *(9_000_000 + 700 * 100 * look for look in range(10))]
    looks = [(100 * (at + 1), size) for at, size in enumerate(sizes)]
    looks[6] = (looks[6][0], 1)
    assert folder.growth(looks) == pytest.approx(700)


def test_bad_numbers_are_refused(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert folder.main(["--threads", "0", "--out", str(tmp_path / "x.json")]) == 2
    assert "--threads" in capsys.readouterr().err
