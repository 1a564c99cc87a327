"""Files of attributes: what extends the package's, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fgclip_det.vocabulary.attributes import Attributes
from tests.messages import says


def written(folder: Path, values: object) -> Path:
    path = folder / "mine.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def test_a_file_extends_the_package(tmp_path: Path) -> None:
    values = {
        "lists": {"color": ["turquoise", "Red"], "shape": ["round", "square"]},
        "spellings": {"teal": "turquoise"},
        "kinds": {"leather": ["crochet"]},
        "contradictions": [["open door", "closed door"]],
    }
    found = Attributes.load(written(tmp_path, values))
    packaged = Attributes.load()
    assert found.lists["color"] == (*packaged.lists["color"], "turquoise")
    assert found.lists["material"] == packaged.lists["material"]
    assert found.exchanges("a round table") == ["a square table"]
    assert "a red mug" in found.exchanges("a teal mug")
    assert found.contradict("an open door", "closed doors")
    # What the package says stays.
    assert "wool sofa" not in found.exchanges("fabric sofa")
    assert found.exchanges("gray sofa") and "crochet sofa" not in found.exchanges("leather sofa")
    assert found.hash != packaged.hash


def test_a_file_stands_alone(tmp_path: Path) -> None:
    values = {"lists": {"size": ["small", "large"], "mine": ["red", "green"]}}
    alone = Attributes.load(written(tmp_path, {**values, "extends": False}))
    assert alone.lists == {"size": ("small", "large"), "mine": ("red", "green")}
    assert alone.exchanges("a small striped red mug") == [
        "a large striped red mug",
        "a small striped green mug",
    ]
    assert Attributes.load(written(tmp_path, values), base=None).lists == alone.lists


def test_a_file_of_nothing_is_the_package(tmp_path: Path) -> None:
    assert Attributes.load(written(tmp_path, {})).hash == Attributes.load().hash
    alone = Attributes.load(written(tmp_path, {"extends": False}))
    assert alone.exchanges("a red mug") == []


def test_a_list_of_ones_own_has_both_presences(tmp_path: Path) -> None:
    found = Attributes.load(written(tmp_path, {"lists": {"presence": ["with", "without"]}}))
    assert found.exchanges("a mug with handle") == ["a mug without handle"]
    assert found.exchanges("a mug without handle") == ["a mug with handle"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([["red"]], ("object",)),
        ("red", ("object",)),
        ({"colors": ["red"]}, ("colors", "lists")),
        ({"lists": ["red"]}, ("lists", "object")),
        ({"lists": {"size": "small"}}, ("lists", "small")),
        ({"lists": {"size": ["small", 3]}}, ("lists", "3")),
        ({"lists": {"size": []}}, ("lists", "size")),
        ({"lists": {"size": ["small", " "]}}, ("lists", "small")),
        ({"lists": {"": ["small"]}}, ("lists", "small")),
        ({"nouns": {"glass": 1}}, ("nouns", "glass")),
        ({"spellings": {"teal": ["blue"]}}, ("spellings", "teal")),
        ({"contradictions": ["cat", "dog"]}, ("contradictions", "cat")),
        ({"kinds": {"fabric": "felt"}}, ("kinds", "felt")),
        ({"extends": "no"}, ("extends", "no")),
        # Contradictory ones.
        ({"lists": {"mood": ["calm", "Striped"]}}, ("Striped", "pattern", "mood")),
        ({"lists": {"one": ["dim"], "two": ["dim"]}}, ("dim", "one", "two")),
        ({"spellings": {"red": "blue"}}, ("red", "blue", "spelling")),
        ({"spellings": {"teal": "turquoise"}}, ("teal", "turquoise", "list")),
        ({"nouns": ["steel"]}, ("steel", "list")),
        ({"kinds": {"fabric": ["felt"]}}, ("felt", "list")),
    ],
)
def test_files_that_are_refused(tmp_path: Path, values: object, words: tuple) -> None:
    path = written(tmp_path, values)
    with pytest.raises(ValueError, match=says(path, *words)):
        Attributes.load(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "none.json"
    with pytest.raises(ValueError, match=says(missing)):
        Attributes.load(missing)
    twice = tmp_path / "twice.json"
    twice.write_text('{"lists": {"a": ["x"], "a": ["y"]}}', encoding="utf-8")
    with pytest.raises(ValueError, match=says(twice, "a", "twice")):
        Attributes.load(twice)


def test_the_constructor_refuses_too() -> None:
    with pytest.raises(ValueError, match=says("red", "one", "two")):
        Attributes({"one": ("red",), "two": ("red",)})
    with pytest.raises(ValueError, match=says("lists", "red")):
        Attributes({"one": "red"})
