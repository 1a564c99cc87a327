"""The example of boxes of one's own."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from fgclip_det.apis.inferencer import BUNDLED

EXAMPLE = Path(__file__).resolve().parents[1] / "demo" / "own_boxes.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("own_boxes", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_boxes_are_of_what_stands_out(example) -> None:
    picture = np.full((60, 80, 3), 200, np.uint8)
    boxes, scores = example.find_boxes(picture)
    assert boxes.shape == (0, 4) and scores.shape == (0,)
    picture[10:30, 5:25] = (255, 0, 0)
    picture[40:55, 50:80] = 0
    picture[:3, :3] = 0  # too small
    boxes, scores = example.find_boxes(picture)
    assert boxes.tolist() == [[5, 10, 25, 30], [50, 40, 80, 55]] and scores.tolist() == [1, 1]


def test_the_bundled_pictures_have_their_names(example, capsys) -> None:
    texts = "a blue dotted star. a cyan striped ring. a green checkered star"
    assert example.main([str(BUNDLED / "images"), "--texts", texts]) == 0
    lines = capsys.readouterr().out.splitlines()
    right = dict(zip(("06", "07", "09"), texts.split(". "), strict=True))
    for picture in ("06", "09"):
        assert any(f"0000{picture}.png" in line and right[picture] in line for line in lines)
    # The encoder by itself is not sure of each, and then says nothing.
    assert all(any(f"0000{p}.png" in line and right[p] in line for p in right) for line in lines)


def test_bad_input_is_one_line(example, capsys) -> None:
    assert example.main(["nowhere.png", "--texts", "a star"]) == 2
    assert "error: no picture at 'nowhere.png'" in capsys.readouterr().err
