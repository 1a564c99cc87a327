"""Boxes with captions, the same from either format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fgclip_det.fg_ovd.regions import read_fg_ovd_regions


@pytest.fixture
def content() -> dict[str, Any]:
    names = ["a red cup", "a blue cup", "a green cup"]
    return {
        "images": [{"id": 4, "file_name": "val2017/1.jpg"}],
        "categories": [{"id": 7 + i, "name": name} for i, name in enumerate(names)],
        "annotations": [
            {
                "id": 1,
                "image_id": 4,
                "category_id": 7,
                "neg_category_ids": [9, 8],
                "bbox": [1, 2, 3, 4],
            },
            {
                "id": 0,
                "image_id": 4,
                "category_id": 8,
                "neg_category_ids": [],
                "bbox": [5, 6, 7, 8],
            },
        ],
    }


def write(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "hard.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_both_formats_are_one(tmp_path: Path, content: dict[str, Any]) -> None:
    regions = read_fg_ovd_regions(write(tmp_path, content))
    assert [region.box for region in regions] == [(1, 2, 4, 6), (5, 6, 12, 14)]
    assert [region.captions for region in regions] == [
        ("a red cup", "a green cup", "a blue cup"),
        ("a blue cup",),
    ]
    lines = [
        {
            "img_path": "val2017/1.jpg",
            "bbox": bbox,
            "pos_expression": [captions[0]],
            "neg_expression": captions[1:],
            "test_type": "hard",
        }
        for bbox, captions in (
            ([1, 2, 3, 4], ["a red cup", "a green cup", "a blue cup"]),
            ([5, 6, 7, 8], ["a blue cup"]),
        )
    ]
    path = tmp_path / "hard_llava.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert read_fg_ovd_regions(path) == read_fg_ovd_regions(str(tmp_path / "hard.json")) == regions


def test_what_cannot_be_used_is_named(tmp_path: Path, content: dict[str, Any]) -> None:
    for name in (None, "", 3):
        content["images"][0]["file_name"] = name
        with pytest.raises(ValueError, match=r"hard\.json': image 4 has the file_name"):
            read_fg_ovd_regions(write(tmp_path, content))
    content["annotations"] = []
    with pytest.raises(ValueError, match=r"hard\.json' has no annotation"):
        read_fg_ovd_regions(write(tmp_path, content))
    path = tmp_path / "lines.jsonl"
    path.write_text("{}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 1 of .*lines\.jsonl' has no 'img_path'"):
        read_fg_ovd_regions(path)
