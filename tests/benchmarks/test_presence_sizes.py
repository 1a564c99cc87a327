"""Pictures in larger ones: where they lie, and a row for each size and each kind of regions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import presence_sizes
from fgclip_det.datasets.shapes import generate


def test_a_picture_lies_whole_in_a_larger_one() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for seed in range(9):
        larger, (x, y) = presence_sizes.placed(pixels, 0.5, [seed])
        assert larger.shape == (40, 60, 3) and larger.dtype == np.uint8
        assert (larger[y : y + 20, x : x + 30] == pixels).all()
    same, place = presence_sizes.placed(pixels, 1.0, [0])
    assert (same == pixels).all() and not place.any()


@pytest.mark.slow
def test_table(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    generate(tmp_path, {"presence_test": 4}, seed=1)
    presence_sizes.main(["--pictures", str(tmp_path), "presence_test", "--number", "3"])
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()[2:]]
    table = {row[0].strip(): [float(cell) for cell in row[1:]] for row in rows}
    assert len(table) == 2 * len(presence_sizes.SHARES)
    # As they are, pictures lose nothing by true boxes.
    assert table["1, true boxes"][1] > 0.9
