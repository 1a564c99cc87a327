"""The table of a key's server time: what was asked before costs no tower."""

from __future__ import annotations

import pytest

pytest.importorskip("nicegui", reason="the page's extra [web] is not installed")
from benchmarks import web_key


def test_table(calibrated_detector) -> None:
    session = web_key.session_of(calibrated_detector, 64, seed=0)
    encoder = calibrated_detector.model.encoder
    with web_key.Tower(encoder) as tower:
        _, _, *rows = web_key.table(session, tower).splitlines()
    assert "encode_text" not in vars(encoder)
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    typed = len(web_key.TYPED)
    assert [int(one[1]) for one in cells] == [typed, typed - 1, 20]
    more, less, moved = ([*map(float, (one[2], one[3], one[5]))] for one in cells)
    assert 0 < more[1] <= more[0] and more[2] > 0
    assert less[1:] == moved[1:] == [0, 0]


def test_the_sizes_are_those_that_are_told() -> None:
    config = web_key.read_config(str(web_key.CONFIG))
    assert config.model.data_preprocessor.pad_size_divisor == web_key.SIDE
    assert config.model.test_cfg.rpn.max_per_img == 1000
