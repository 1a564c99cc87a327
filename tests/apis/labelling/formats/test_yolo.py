"""The folders of Ultralytics, read as it reads them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from fgclip_det.apis.labelling.formats import write_labels
from fgclip_det.apis.labelling.formats.splits import LabelSplits
from fgclip_det.apis.labelling.formats.yolo import file_names
from tests.apis.labelling.formats.conftest import NAMES


def read(root: Path, split: str) -> dict[str, tuple[tuple[int, int], np.ndarray]]:
    """Size and (K, 5) class and xyxy in pixels, of each picture that is found below a split."""
    told = yaml.safe_load((root / "data.yaml").read_text(encoding="utf-8"))
    found = {}
    images = Path(told["path"]) / told[split]
    for path in sorted(path for path in images.rglob("*") if path.is_file()):
        # The last "/images/" of a path becomes "/labels/".
        label = Path("/labels/".join(str(path).rsplit("/images/", 1))).with_suffix(".txt")
        height, width = cv2.imread(str(path), cv2.IMREAD_COLOR).shape[:2]
        text = label.read_text(encoding="utf-8")
        rows = np.array([line.split() for line in text.splitlines()], float).reshape(-1, 5)
        centers, sides = rows[:, 1:3] * (width, height), rows[:, 3:] * (width, height)
        boxes = np.hstack([rows[:, :1], centers - sides / 2, centers + sides / 2])
        found[path.relative_to(images).as_posix()] = (width, height), boxes
    return found


def test_it_is_read_back(splits: LabelSplits, tmp_path: Path) -> None:
    write_labels(tmp_path, ["yolo"], splits)
    told = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text(encoding="utf-8"))
    assert list(told["names"].values()) == NAMES and list(told["names"]) == [0, 1, 2]
    train = read(tmp_path / "yolo", "train")
    assert list(train) == ["a & b.png", "deep/turned.jpg", "same.jpg"]
    wanted = [[0, 10, 5, 30, 25], [2, 0, 0, 60, 40]]
    np.testing.assert_allclose(train["a & b.png"][1], wanted, atol=1e-3)
    # As OpenCV turns it by its EXIF entry.
    assert train["deep/turned.jpg"][0] == (40, 60)
    np.testing.assert_allclose(train["deep/turned.jpg"][1], [[1, 4, 10, 14, 40]], atol=1e-3)
    assert train["same.jpg"][1].shape == (0, 5)
    assert list(read(tmp_path / "yolo", "val")) == ["same.png"]


def test_no_two_pictures_have_one_label_file() -> None:
    names = file_names(["a.jpg", "a.png", "b.jpg", "c/a.jpg", "a.b.jpg"])
    assert names["b.jpg"] == "b.jpg" and names["c/a.jpg"] == "c/a.jpg"
    assert names["a.b.jpg"] == "a.b.jpg"
    stems = [os.path.splitext(name)[0] for name in names.values()]
    assert len(set(stems)) == 5


def test_links_hold_when_both_folders_move(splits: LabelSplits, tmp_path: Path) -> None:
    here = tmp_path / "here"
    (here / "out").mkdir(parents=True)
    shutil.move(splits.folder, here / "pictures")
    moved = LabelSplits(here / "pictures", splits.names, splits.pictures)
    write_labels(here / "out", ["yolo"], moved)
    shutil.move(here, tmp_path / "there")
    link = tmp_path / "there/out/yolo/images/train/deep/turned.jpg"
    assert link.is_symlink() and link.is_file()


def test_where_no_links_can_be_made_there_are_copies(
    splits: LabelSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no rights")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    write_labels(tmp_path, ["yolo"], splits)
    made = tmp_path / "yolo/images/val/same.png"
    assert not made.is_symlink()
    assert made.read_bytes() == (splits.folder / "same.png").read_bytes()


def test_what_is_no_longer_there_is_gone(splits: LabelSplits, tmp_path: Path) -> None:
    write_labels(tmp_path, ["yolo"], splits)
    fewer = LabelSplits(splits.folder, NAMES, {"train": splits.pictures["train"][:1], "val": []})
    write_labels(tmp_path, ["yolo"], fewer)
    assert list(read(tmp_path / "yolo", "train")) == ["a & b.png"]
    assert read(tmp_path / "yolo", "val") == {}
