"""The ablation prints a row for each choice of what competes, and AP50 by both scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import presence_ablation
from fgclip_det.datasets.shapes import generate


@pytest.mark.slow
def test_tables(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    generate(tmp_path, {"presence_val": 16, "presence_test": 12, "val": 6}, seed=1)
    folder = str(tmp_path)
    presence_ablation.main(
        [
            "--tune",
            folder,
            "presence_val",
            "--test",
            folder,
            "presence_test",
            "--coco",
            folder,
            "val",
        ]
    )
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if "|" in line]
    table = {cells[1].strip(): [cell.strip() for cell in cells[2:-1]] for cells in rows}
    assert {*presence_ablation.CHOICES, "share", "confidence"} < {*table}
    assert all("nan" not in cell for cells in table.values() for cell in cells)
    nothing, shipped = table["nothing"], table["(a) and (b), shipped"]
    assert float(shipped[3]) > float(nothing[3])
