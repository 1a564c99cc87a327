"""CVAT's XML, parsed again."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from fgclip_det.apis.labelling.formats import write_labels
from fgclip_det.apis.labelling.formats.splits import LabelSplits
from fgclip_det.apis.labelling.labels import LabelledPicture
from tests.apis.labelling.formats.conftest import NAMES


def test_it_is_read_back(splits: LabelSplits, tmp_path: Path) -> None:
    write_labels(tmp_path, ["cvat"], splits)
    root = ElementTree.parse(tmp_path / "cvat/train.xml").getroot()
    assert root.findtext("version") == "1.1"
    assert [one.text for one in root.iterfind("meta/task/labels/label/name")] == NAMES
    images = root.findall("image")
    assert [(one.get("id"), one.get("name")) for one in images] == [
        ("0", "a & b.png"),
        ("1", "deep/turned.jpg"),
        ("2", "same.jpg"),
    ]
    assert (images[1].get("width"), images[1].get("height")) == ("40", "60")
    (box,) = images[1].findall("box")
    assert box.get("label") == NAMES[1]
    corners = [float(box.get(key)) for key in ("xtl", "ytl", "xbr", "ybr")]
    assert corners == [4, 10, 14, 40]
    assert len(images[0].findall("box")) == 2 and not images[2].findall("box")
    assert len(ElementTree.parse(tmp_path / "cvat/val.xml").getroot().findall("image")) == 1


def test_a_picture_whose_name_xml_cannot_hold(splits: LabelSplits, tmp_path: Path) -> None:
    odd = LabelledPicture("a\x01.png", "e" * 64, 60, 40, 1, ())
    named = LabelSplits(splits.folder, NAMES, {"train": [odd], "val": []})
    with pytest.raises(ValueError, match=r"'a\\x01.png' holds a character that XML cannot: rename"):
        write_labels(tmp_path, ["cvat"], named)
    assert not (tmp_path / "cvat/train.xml").exists()
