"""Tasks of Label Studio, and their labelling config."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

from fgclip_det.apis.labelling.formats import write_labels
from fgclip_det.apis.labelling.formats.splits import LabelSplits
from tests.apis.labelling.formats.conftest import NAMES


def test_tasks_fit_their_config(splits: LabelSplits, tmp_path: Path) -> None:
    write_labels(tmp_path, ["labelstudio"], splits)
    tasks = json.loads((tmp_path / "labelstudio/tasks.json").read_text(encoding="utf-8"))
    root = ElementTree.parse(tmp_path / "labelstudio/config.xml").getroot()
    assert [label.get("value") for label in root.iter("Label")] == NAMES
    control = root.find("RectangleLabels")
    assert root.find("Image").get("value") == "$image" and control.get("toName") == "image"
    assert len(tasks) == 4
    for task in tasks:
        for result in task["predictions"][0]["result"]:
            assert result["from_name"] == control.get("name")
            assert result["to_name"] == control.get("toName")
            assert set(result["value"]["rectanglelabels"]) <= set(NAMES)
    assert [task["data"]["split"] for task in tasks] == ["train"] * 3 + ["val"]


def test_boxes_are_percent_of_the_shown_picture(splits: LabelSplits, tmp_path: Path) -> None:
    write_labels(tmp_path, ["labelstudio"], splits)
    tasks = json.loads((tmp_path / "labelstudio/tasks.json").read_text(encoding="utf-8"))
    (turned,) = tasks[1]["predictions"][0]["result"]
    assert (turned["original_width"], turned["original_height"]) == (40, 60)
    value = turned["value"]
    box = [value[key] for key in ("x", "y", "width", "height")]
    assert box == [10.0, 100 * 10 / 60, 25.0, 50.0]
    assert turned["score"] == 0.9 and tasks[0]["predictions"][0]["score"] == 0.5
    assert tasks[2]["predictions"][0]["result"] == []


def test_a_path_with_odd_letters_is_found_again(splits: LabelSplits, tmp_path: Path) -> None:
    write_labels(tmp_path, ["labelstudio"], splits)
    tasks = json.loads((tmp_path / "labelstudio/tasks.json").read_text(encoding="utf-8"))
    asked = parse_qs(urlsplit(tasks[0]["data"]["image"]).query)
    assert asked == {"d": ["a & b.png"]}
