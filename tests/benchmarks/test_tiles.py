"""A small mosaic in tiles finds what its pictures have."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import tiles


@pytest.mark.slow
def test_a_mosaic_has_what_its_pictures_have(tmp_path: Path, capsys) -> None:
    assert tiles.main(["--side", "3", "--out", str(tmp_path / "tiles.md")]) == 0
    page = (tmp_path / "tiles.md").read_text(encoding="utf-8")
    assert page.strip() == capsys.readouterr().out.strip()
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| tiles")]
    assert float(rows[0][2]) > 50
