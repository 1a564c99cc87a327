"""FG-OVD's annotation files: which vocabularies they hold, and what is wrong with broken ones."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fgclip_det.fg_ovd.files import read_fg_ovd, read_fg_ovd_lines

NAMES = ["a red cup", "a blue cup", "a green cup", "a red cup", "a black cup"]


def one(number: int, image: int, category: int, negatives: list[int]) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "neg_category_ids": negatives,
        "bbox": [1.5, 2, 3, 4],
    }


@pytest.fixture
def data() -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "val2017/7.jpg"}, {"id": 5, "file_name": "a"}],
        "annotations": [
            one(9, 5, 3, [2, 1]),
            one(4, 7, 0, [1]),
            one(6, 5, 3, [1, 2, 4]),
            one(2, 7, 4, []),
            one(3, 7, 0, [1, 2, 4]),
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(NAMES)],
    }


def test_one_vocabulary_for_each_caption_by_its_first_annotation(
    data: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "hard.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    file = read_fg_ovd(path)
    assert file.max_negatives == 3

    def found(n_negatives: int) -> list[tuple]:
        every = file.vocabularies(n_negatives)
        return [(v.annotation_id, v.image_id, v.category_ids) for v in every]

    # Equal texts are two captions. The first annotation decides, also where a later one has more.
    assert found(0) == [(9, 5, (3,)), (4, 7, (0,)), (2, 7, (4,))]
    assert found(1) == [(9, 5, (3, 2)), (4, 7, (0, 1))]
    assert found(2) == [(9, 5, (3, 2, 1))]
    assert found(3) == []
    captions = file.captions_of(file.vocabularies(2)[0])
    assert captions == ["a red cup", "a green cup", "a blue cup"]
    assert read_fg_ovd(data).annotations == file.annotations
    assert file.vocabularies(np.int64(2)) == file.vocabularies(2)


@pytest.mark.parametrize("n_negatives", [-1, 1.0, True, "2", None])
def test_numbers_of_negatives_that_are_none(data: dict[str, Any], n_negatives: Any) -> None:
    with pytest.raises(ValueError, match=r"n_negatives is .*: give a whole number from 0"):
        read_fg_ovd(data).vocabularies(n_negatives)


@pytest.mark.parametrize(
    ("key", "index", "changes", "message"),
    [
        ("annotations", 1, {"category_id": 99}, "annotation 4 has the category_id 99, which"),
        ("annotations", 1, {"category_id": None}, "annotation 4 has the category_id None"),
        ("annotations", 1, {"image_id": 1}, "annotation 4 has the image_id 1, which"),
        ("annotations", 1, {"neg_category_ids": [1, 99]}, "annotation 4 has the negative 99"),
        ("annotations", 1, {"neg_category_ids": None}, "neg_category_ids None: a list is needed"),
        ("annotations", 1, {"bbox": [1, 2, 3]}, r"bbox \[1, 2, 3\]: four numbers"),
        ("annotations", 1, {"bbox": [1, 2, 3, float("nan")]}, "four numbers"),
        ("annotations", 1, {"bbox": [1, 2, 3, 10**400]}, "four numbers"),
        ("annotations", 1, {"bbox": [1e308, 2, 1e308, 4]}, "four numbers"),
        ("annotations", 1, {"bbox": [1, 2, 3, -4]}, "its width or height is negative"),
        ("annotations", 1, {"id": 10**30}, "has the id 1000.*: no int of 64 bits"),
        ("annotations", 1, {"id": 9}, "two entries bear the annotation id 9"),
        ("annotations", 1, {"id": "4"}, "annotation number 1 has the id '4': no int"),
        ("images", 1, {"id": 7}, "two entries bear the image id 7"),
        ("categories", 1, {"id": 0}, "two entries bear the category id 0"),
        ("categories", 1, {"name": None}, "category 1 has no 'name'"),
    ],
)
def test_broken_entries_are_named(
    data: dict[str, Any], key: str, index: int, changes: dict[str, Any], message: str
) -> None:
    data[key][index].update(changes)
    with pytest.raises(ValueError, match=message):
        read_fg_ovd(data)


def test_files_of_another_kind(data: dict[str, Any], tmp_path: Path) -> None:
    for key in ("images", "annotations", "categories"):
        broken = copy.deepcopy(data)
        del broken[key]
        with pytest.raises(ValueError, match=f"no list of objects '{key}'"):
            read_fg_ovd(broken)
    path = tmp_path / "file.json"
    for content, message in (
        (b"[]", "no list of objects 'images'"),
        (json.dumps(data)[:-50].encode(), "no complete JSON .*truncated"),
        (b"\x80\x04", "is no text"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message) as error:
            read_fg_ovd(path)
        assert "file.json" in str(error.value)
    with pytest.raises(ValueError, match=r"none\.json' cannot be read"):
        read_fg_ovd(tmp_path / "none.json")


def line(**changes: Any) -> dict[str, Any]:
    values = {
        "img_path": "val2017/1.jpg",
        "bbox": [10.5, 20, 30, 40],
        "pos_expression": ["A red\u2028cup."],
        "neg_expression": ["A blue cup.", "A green cup."],
        "test_type": "1_attributes",
    }
    return {**values, **changes}


def test_json_lines_of_the_accuracy_protocol(tmp_path: Path) -> None:
    path = tmp_path / "h_attributes_llava.jsonl"
    written = [line(), line(neg_expression=[], test_type=None)]
    written[1].pop("test_type")
    # A separator of Unicode's stands in a caption unescaped.
    path.write_text(
        "\n".join(json.dumps(one, ensure_ascii=False) for one in written) + "\n\n",
        encoding="utf-8",
    )
    first, second = read_fg_ovd_lines(path)
    assert first.file_name == "val2017/1.jpg" and first.box == (10.5, 20, 40.5, 60)
    assert first.captions == ("A red\u2028cup.", "A blue cup.", "A green cup.")
    assert (first.subset, second.subset) == ("1_attributes", "")
    assert second.captions == first.captions[:1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "no 'img_path': take a"),
        ({"img_path": "a", "bbox": [0, 0, 1, 1]}, "no 'pos_expression'"),
        (line(bbox=[0, 0, 1]), "four numbers"),
        (line(bbox=[0, 0, 1, 1e10]), "four numbers"),
        (line(bbox=[0, 0, 1, 10**400]), "beyond a float64"),
        (line(img_path=None), "img_path None: a path is needed"),
        (line(img_path=""), "img_path ''"),
        (line(pos_expression=["a", "b"]), "one text in 'pos_expression'"),
        (line(pos_expression="a"), "one text in 'pos_expression'"),
        (line(neg_expression=[1]), "a list of texts in 'neg_expression'"),
    ],
)
def test_broken_lines_are_named(values: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text(json.dumps(line()) + "\n" + json.dumps(values), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"line 2 of .*lines\.jsonl' .*{message}"):
        read_fg_ovd_lines(path)


@pytest.mark.parametrize("depth", [40, 900])
@pytest.mark.parametrize(
    ("key", "field"),
    [
        ("annotations", "bbox"),
        ("annotations", "neg_category_ids"),
        ("annotations", "category_id"),
        ("annotations", "image_id"),
        ("annotations", "id"),
        ("images", "id"),
        ("categories", "id"),
    ],
)
def test_nested_values_are_told_in_a_few_words(
    data: dict[str, Any], tmp_path: Path, depth: int, key: str, field: str
) -> None:
    path = tmp_path / "hard.json"
    data[key][1][field] = "deep"
    path.write_text(json.dumps(data).replace('"deep"', "[" * depth + "]" * depth))
    with pytest.raises(ValueError, match=r"hard\.json") as error:
        read_fg_ovd(path)
    assert len(str(error.value)) < 300 + len(str(path)) and "\n" not in str(error.value)


def test_files_without_lines(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    with pytest.raises(ValueError, match=r"lines\.jsonl' cannot be read"):
        read_fg_ovd_lines(path)
    path.write_text("\n")
    with pytest.raises(ValueError, match=r"lines\.jsonl' is empty"):
        read_fg_ovd_lines(path)
    path.write_text(json.dumps(line())[:-9])
    with pytest.raises(ValueError, match=r"line 1 of .* is no complete JSON"):
        read_fg_ovd_lines(path)
