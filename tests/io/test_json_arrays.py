"""Long arrays are read item by item, from files that are cut anywhere."""

from __future__ import annotations

import json

import pytest

from fgclip_det.io import json_arrays, parse_json, read_json_array
from tests.messages import says

ITEMS = [
    {"a": 'é, ] } \\ " \U0001f600', "b": [1, 2.5e3, None, {"c": []}]},
    {},
    [],
    "a text, with a comma",
    12345678901234567890,
    True,
    {"long": "x" * 300},
]


def pieces(path):
    return list(read_json_array(path))


@pytest.mark.parametrize("piece", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("indent", [None, 2])
def test_items_are_those_of_json_wherever_the_file_is_cut(
    tmp_path, monkeypatch, piece, ascii_only, indent
):
    monkeypatch.setattr(json_arrays, "_PIECE", piece)
    path = tmp_path / "a.json"
    text = json.dumps(ITEMS, ensure_ascii=ascii_only, indent=indent)
    path.write_text(f"\ufeff \n{text} \n", encoding="utf-8")
    data = path.read_bytes()
    found = pieces(path)
    assert [parse_json(one.text, "it") for one in found] == ITEMS
    assert [data[one.offset : one.offset + one.size].decode() for one in found] == [
        one.text for one in found
    ]


def test_json_lines_are_read_too(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert [one.text for one in pieces(path)] == ['{"a": 1}', '{"a": 2}']


@pytest.mark.parametrize(
    ("content", "item", "named"),
    [
        (b"", 0, "empty"),
        (b" \n", 0, "empty"),
        (b"[{}, {}", 2, "truncated"),
        (b'[{}, {"a": "b', 1, "byte"),
        (b"[{} {}]", 1, "comma"),
        (b"[{}, ]", 1, "JSON"),
        (b"[{}] {}", 1, "end"),
        (b'[{}, "\xff"]', 0, "UTF"),
        (b"[" + b"[" * 200_000, 0, "deep"),
    ],
)
def test_what_is_no_array_is_refused_with_its_place(tmp_path, content, item, named):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    found = []
    with pytest.raises(ValueError, match=says("a.json", named)):
        found.extend(read_json_array(path))
    read = read_json_array(path)
    for _ in range(item):
        assert next(read).text == "{}"


def test_an_item_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(json_arrays, "MAX_ITEM_CHARACTERS", 1000)
    monkeypatch.setattr(json_arrays, "_PIECE", 100)
    path = tmp_path / "a.json"
    path.write_text('["' + "x" * 5000)
    with pytest.raises(ValueError, match=says("a.json", 1000)):
        pieces(path)
