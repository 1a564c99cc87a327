"""Labelled pictures that every format is written from."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fgclip_det.apis.labelling.formats.splits import LabelSplits
from fgclip_det.apis.labelling.labels import Label, LabelledPicture

NAMES = ["red mug", 'a "b" & <c>: {d}, #e', "ein Würfel 杯子"]


def save(folder: Path, file: str, size: tuple[int, int] = (60, 40), orientation: int = 1) -> None:
    """A picture as stored, with an EXIF entry."""
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[274] = orientation
    Image.new("RGB", size).save(path, exif=exif)


@pytest.fixture
def splits(tmp_path: Path) -> LabelSplits:
    """A turned picture, one with two labels, one without, and two that differ in their ending."""
    folder = tmp_path / "pictures"
    save(folder, "deep/turned.jpg", orientation=6)
    for file in ("a & b.png", "same.jpg", "same.png"):
        save(folder, file)
    one = Label(0, 0.75, (10.0, 5.0, 30.0, 25.0))
    two = Label(2, 0.5, (0.0, 0.0, 60.0, 40.0))
    train = [
        LabelledPicture("a & b.png", "a" * 64, 60, 40, 1, (one, two)),
        LabelledPicture("deep/turned.jpg", "b" * 64, 40, 60, 6, (Label(1, 0.9, (4, 10, 14, 40)),)),
        LabelledPicture("same.jpg", "c" * 64, 60, 40, 1, ()),
    ]
    val = [LabelledPicture("same.png", "d" * 64, 60, 40, 1, (one,))]
    return LabelSplits(folder, NAMES, {"train": train, "val": val})
