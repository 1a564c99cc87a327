"""The benchmark of the contrastive loss's memory runs, and its imitated processes compute."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import contrastive_memory


@pytest.mark.slow
def test_own_rows_take_less_than_the_square(tmp_path: Path, capsys) -> None:
    page = tmp_path / "page.md"
    arguments = ["--worlds", "64", "--rows", "64", "--width", "16", "--rounds", "1"]
    assert contrastive_memory.main([*arguments, "--out", str(page)]) == 0
    assert page.read_text(encoding="utf-8").strip() == capsys.readouterr().out.strip()
    row = page.read_text(encoding="utf-8").splitlines()[-1].split("|")
    assert float(row[5]) > 16


@pytest.mark.parametrize("arguments", [["--rows", "0"], ["--worlds", "1"]])
def test_sizes_that_make_no_sense_are_refused(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as raised:
        contrastive_memory.main(arguments)
    assert raised.value.code == 2
    assert f"{arguments[0]} must be at least" in capsys.readouterr().err
