"""The table of places: one row for each stream and value, of queries of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import region_places
from fgclip_det.datasets.shapes import generate


def test_table(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    generate(tmp_path, {"presence_val": 4, "presence_test": 4}, seed=1)
    folder = str(tmp_path)
    region_places.main(["--tune", folder, "presence_val", "--test", folder, "presence_test"])
    head, line, *rows = capsys.readouterr().out.splitlines()
    assert head.count("|") == line.count("|") == 8
    kinds = [tuple(cell.strip() for cell in row.split("|")[1:3]) for row in rows]
    values = ("cosine", "z-score", "place")
    assert kinds == [(stream, value) for stream in ("encoder", "head") for value in values]
    assert all("nan" not in row for row in rows)
