"""The table of what confidences cost: a row for each number of names."""

from __future__ import annotations

import pytest

from benchmarks import requery_confidence


def test_table(capsys: pytest.CaptureFixture) -> None:
    requery_confidence.main(["--rounds", "1", "--calls", "3"])
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head.count("|") == 5
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    assert [int(one[0]) for one in cells] == [*requery_confidence.NAMES]
    assert all(float(value) > 0 for one in cells for value in one[1:3])
