"""Lines of errors hold little, and nothing that a terminal would obey."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgclip_det.io import listed, one_line, quoted


@pytest.mark.parametrize("count", [1, 5])
def test_few_are_listed_whole(tmp_path: Path, monkeypatch, count: int) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert listed(list("abcde")[:count], "letters") == ", ".join("abcde"[:count])
    assert not list(tmp_path.iterdir()) and listed([], "letters") == ""


def test_of_many_the_rest_stands_in_a_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    text = listed([f"key{n}" for n in range(6)] + ["a\nb\x1b[31m", "\ud800"], "missing keys", "; ")
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("fgclip_det-missing-keys-")
    assert (
        text == f"key0; key1; key2; key3; key4; and 3 more (8 missing keys, all in {str(path)!r})"
    )
    lines = path.read_text().splitlines()
    assert lines == [*(f"key{n}" for n in range(6)), r"a\nb\x1b[31m", r"\ud800"]


def test_a_temporary_folder_that_takes_nothing(tmp_path: Path, monkeypatch, room_for) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    items = [f"key{n}" for n in range(9)]
    assert listed(items, "keys") == "key0, key1, key2, key3, key4, and 4 more (9 keys)"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with room_for(3):
        text = listed(items, "keys")
    assert text == "key0, key1, key2, key3, key4, and 4 more (9 keys)"
    assert not list(tmp_path.iterdir())


def _deep() -> list:
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    return deep


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\x1b[31m", r"'a\x1b[31m'"),
        ("\ud800", r"'\ud800'"),
        (["\u202e"], r"['\u202e']"),
        (10**400, "1" + "0" * 99 + "... (of 401 characters)"),
        ("x" * 300, "'" + "x" * 99 + "... (of 302 characters)"),
        (10**9999, "int beyond all measure"),
        (None, "None"),
    ],
    ids=lambda _: "",
)
def test_values_are_quoted(value: object, shown: str) -> None:
    assert quoted(value) == shown


def test_a_deep_value_is_quoted() -> None:
    assert quoted(_deep()) == "list beyond all measure"


def test_errors_of_others_become_one_line() -> None:
    assert one_line(RuntimeError("a\x1b[2J\nb")) == r"a\x1b[2J"
    assert one_line(RuntimeError()) == "RuntimeError"
    assert len(one_line(RuntimeError("x" * 9999))) < 250
