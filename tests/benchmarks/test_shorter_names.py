"""Two tables of names that say less: one row for each form."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import shorter_names
from fgclip_det.datasets.shapes import generate
from fgclip_det.datasets.shapes.generator import Composition


def test_questions_are_of_what_is_there_and_what_is_one_word_off() -> None:
    objects = {
        Composition("red", "plain", "cross"): [1],
        Composition("red", "dotted", "cross"): [2],
    }
    form = shorter_names.FORMS["cyan rings"]
    asked = shorter_names.questions(objects, form, [0])
    (there, boxes), *others = asked.items()
    assert (there, boxes, len(others)) == ("red crosses", [1, 2], 2)
    for other, none in others:
        assert none == [] and len({*other.split()} ^ {*there.split()}) == 2


def test_tables(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    generate(tmp_path, {"val": 4}, seed=1)
    shorter_names.main(["--pictures", str(tmp_path), "val", "--number", "3"])
    parts = capsys.readouterr().out.strip().split("\n\n")
    assert [part.split("|")[1].split()[0] for part in parts] == ["confidence", "score"]
    for part in parts:
        rows = [line.split("|")[1:-1] for line in part.splitlines()[2:]]
        assert [row[0].strip() for row in rows] == [*shorter_names.FORMS]
        assert all("nan" not in cell for row in rows for cell in row)
