"""Frames, one label for each object, thresholds and splits."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from fgclip_det.apis.labelling.labels import (
    Label,
    LabelledPicture,
    one_label_each,
    orientation_of,
    read_thresholds,
    sha256_of,
    split_of,
    stored_box,
)


def turned_picture(path: Path, orientation: int) -> tuple[int, int]:
    """A picture with one white rectangle and an EXIF entry; gives its size as shown."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[6:17, 10:40] = 255
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).size


def white_box(pixels: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(pixels[..., 0] > 128)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_stored_box_is_where_opencv_finds_the_object(orientation: int, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    width, height = turned_picture(path, orientation)
    assert orientation_of(path) == orientation
    with Image.open(path) as image:
        shown = white_box(np.asarray(ImageOps.exif_transpose(image)))
    stored = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    assert stored_box(shown, width, height, orientation) == white_box(stored) == (10, 6, 40, 17)
    picture = LabelledPicture("a.png", "", width, height, orientation, ())
    assert picture.size("stored") == (60, 40)
    assert picture.size("shown") == (width, height)


@pytest.mark.parametrize("entry", [0, 9])
def test_an_unknown_entry_turns_nothing(entry: int, tmp_path: Path) -> None:
    turned_picture(tmp_path / "a.png", entry)
    assert orientation_of(tmp_path / "a.png") == 1


def test_one_object_has_one_label_whatever_its_names() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [0, 5, 10, 15]], float)
    kept = one_label_each(boxes, np.array([0.5, 0.8, 0.3, 0.4]), np.array([0, 1, 0, 1]), 0.6)
    assert kept.tolist() == [1, 3, 2]
    # IoU of rows 1 and 3 is 4/15.
    kept = one_label_each(boxes, np.array([0.5, 0.8, 0.3, 0.4]), np.array([0, 1, 0, 1]), 0.25)
    assert kept.tolist() == [1, 2]


def test_of_equal_scores_the_name_asked_first_stays() -> None:
    boxes = np.array([[0, 0, 10, 10]] * 3, float)
    assert one_label_each(boxes, np.full(3, 0.5), np.array([2, 0, 1]), 0.6).tolist() == [1]


def test_no_boxes_and_boxes_without_area_pass() -> None:
    none = one_label_each(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), 0.6)
    assert none.tolist() == []
    flat = np.array([[5, 5, 5, 5], [5, 5, 5, 5]], float)
    assert len(one_label_each(flat, np.array([0.1, 0.2]), np.array([0, 0]), 0.6)) == 2


def test_thresholds_by_name() -> None:
    assert read_thresholds(["a", "b"], 0.3, {"b": 1}) == [0.3, 1.0]


@pytest.mark.parametrize(
    ("least", "given", "word"),
    [
        (0.3, {"c": 0.1}, "'c'"),
        (0.3, {"a": 1.5}, "1.5"),
        (0.3, {"a": float("nan")}, "nan"),
        (0.3, {"a": True}, "True"),
        (0.3, {"a": "0.5"}, "'0.5'"),
        (-1, None, "-1"),
    ],
)
def test_bad_thresholds_are_named(least: float, given: dict | None, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        read_thresholds(["a", "b"], least, given)


def test_splits_have_their_share_and_stay() -> None:
    checksums = [f"{number:064x}" for number in range(2000)]
    splits = [split_of(one, 0.1) for one in checksums]
    assert 150 < splits.count("val") < 250
    # A larger share keeps those that were in it.
    larger = [split_of(one, 0.2) for one in checksums]
    assert all(b == "val" for a, b in zip(splits, larger, strict=True) if a == "val")
    assert splits != [split_of(one, 0.1, seed=1) for one in checksums]
    assert {split_of(one, 0.0) for one in checksums} == {"train"}


def test_a_line_gives_the_picture_back() -> None:
    labels = (Label(1, 0.5, (1.0, 2.0, 3.5, 4.25)), Label(0, 0.25, (0.0, 0.0, 5.0, 6.0)))
    picture = LabelledPicture("a/b.png", "00", 10, 20, 6, labels)
    assert LabelledPicture.from_dict(picture.to_dict()) == picture
    with pytest.raises(ValueError, match="no labelled picture"):
        LabelledPicture.from_dict({"file": "a"})


def test_checksum(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a").startswith("ba7816bf8f01cfea")
