"""The page of a retrieval's worst misses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgclip_det.evaluation.encoder import Population, Result, check_sheet, write_sheet
from fgclip_det.evaluation.encoder.data_sets import Classification, Retrieval


@pytest.fixture
def result(tmp_path: Path) -> Result:
    """Three pictures; the second's right caption is third, the third caption's picture second."""
    pictures = []
    for number in range(3):
        pictures.append(tmp_path / f"p&{number}.png")
        Image.new("RGB", (300, 30), (80 * number, 0, 0)).save(pictures[-1])
    directions = np.radians([0, 30, 90])
    images = np.stack([np.cos(directions), np.sin(directions)], axis=1) * 7
    directions = np.radians([10, 100, 50])
    texts = np.stack([np.cos(directions), np.sin(directions)], axis=1)
    population = Population()
    return Result(
        protocol="dci",
        family="fgclip",
        width=32,
        fingerprint="ab" * 8,
        as_published=population,
        whole_population=population,
        listed={},
        missing=[],
        settings={},
        record=Retrieval(pictures, ["zero <b>", "one", "two"], [0, 1, 2]),
        arrays={
            "image_features": images,
            "text_features": texts,
            "i2t_rank": np.array([0, 2, 1]),
            "t2i_rank": np.array([0, 1, 1]),
        },
    )


def test_misses_with_what_is_above(result: Result, tmp_path: Path) -> None:
    page = tmp_path / "sheet.html"
    write_sheet(page, result)
    text = page.read_text(encoding="utf-8")
    captions, pictures = text.split("Caption to pictures")
    # The first picture is found. Above "one" stand "zero" (20 degrees away, as "two") and "two".
    assert captions.count("<section>") == 2 and captions.count("<img") == 2
    second = captions.split("<section>")[1]
    assert "p&amp;1.png" in second and "place 3" in second
    assert [second.index(word) for word in ("zero &lt;b&gt;", "two", "one")] == sorted(
        second.index(word) for word in ("zero &lt;b&gt;", "two", "one")
    )
    assert "0.940" in second and "0.342" in second and "<b>" not in text
    third = captions.split("<section>")[2]
    assert "one" in third and "two" in third and "zero" not in third
    # Two captions, each with its picture and the one above it.
    assert pictures.count("<section>") == 2 and pictures.count("<img") == 4
    write_sheet(page, result, number=1)
    assert page.read_text(encoding="utf-8").count("<section>") == 2


def test_what_is_refused(result: Result, tmp_path: Path) -> None:
    check_sheet(tmp_path / "a.html", "retrieval")
    for name in ("a.png", "nowhere/a.html"):
        with pytest.raises(ValueError, match=r"\.html file in a folder"):
            check_sheet(tmp_path / name, "retrieval")
    with pytest.raises(ValueError, match="not of boxes"):
        check_sheet(tmp_path / "a.html", "boxes")
    object.__setattr__(result, "record", Classification([], [], []))
    with pytest.raises(ValueError, match="not of dci"):
        write_sheet(tmp_path / "a.html", result)
    assert not (tmp_path / "a.html").exists()
