"""One reader of JSON: what it reads, and that everything else is one line with the file's name."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from pathlib import Path

import pytest

from fgclip_det.io import (
    is_id,
    json_files,
    parse_json,
    read_bytes,
    read_json,
    read_json_lines,
    read_text,
    regular_files,
)

VALUES = {"a": [1, -2.5, 1e300, 2**63 - 1, None, True], "红": "\U0001f600", "b": "\\ud800"}


def write(folder: Path, content: bytes | str) -> Path:
    path = folder / "values.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def refusal(path: Path, **options) -> str:
    with pytest.raises(ValueError) as error:
        read_json(path, **options)
    text = str(error.value)
    assert str(path) in text and "\n" not in text
    return text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_reads_every_encoding_of_json(tmp_path: Path, encoding: str, ascii_only: bool) -> None:
    text = json.dumps(VALUES, ensure_ascii=ascii_only)
    assert read_json(write(tmp_path, text.encode(encoding))) == VALUES


def test_reads_gzipped_files(tmp_path: Path) -> None:
    path = tmp_path / "values.json.gz"
    path.write_bytes(gzip.compress(json.dumps(VALUES).encode()))
    assert read_json(path) == VALUES
    path.write_bytes(path.read_bytes()[:-12])
    assert "cannot be read" in refusal(path)
    path.write_bytes(gzip.compress(b"[" + b" " * 1000 + b"]"))
    assert "larger than" in refusal(path, max_bytes=1000)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "it is empty"),
        (" \n", "it is empty"),
        (b"\x80\x02]q\x00.", "is no text"),
        ('"\udc80"'.encode("utf-8", "surrogateescape"), "is no text"),
        ('"\ud800"'.encode("utf-8", "surrogatepass"), "is no text"),
        ('{"a": [1, 2', "is no complete JSON"),
        ('{"a": 1} {"a": 2}', "is no complete JSON"),
        ("{'a': 1}", "is no complete JSON"),
        ("[" * 100_000 + "]" * 100_000, "nested too deep"),
        ("[NaN]", "NaN"),
        ('{"a": -Infinity}', "-Infinity"),
        ("1e400", "1e400"),
        ("[-1.5E+400]", "-1.5E+400"),
        ("1" + "0" * 400, "of 401 characters"),
        ("-1" + "0" * 5000, "of 5002 characters"),
        ("1" + "0" * 250 + "e99", "beyond a float64"),
        (r'"\ud83d"', r"\ud83d"),
        (r'["\ude00"]', r"\ude00"),
        (r'{"\uD83D a": 1}', r"\uD83D"),
        (r'"\ud83d\ud83d\ude00"', r"\ud83d"),
        (r'"\ud83d\ude00\ude00"', r"\ude00"),
        (r'"\ud83d\\\ude00"', r"\ud83d"),
        (r'"\\\ud83d"', r"\ud83d"),
    ],
)
def test_refuses_what_is_no_json_of_files(
    tmp_path: Path, content: bytes | str, reason: str
) -> None:
    assert reason in refusal(write(tmp_path, content))


@pytest.mark.parametrize(
    "text",
    [
        r'"\ud83d\ude00 \uD83D\uDE00 \\ud83d \\\\ud800 \u0041"',
        json.dumps("e999 1e400 " + "7" * 500),
        "[1e-400, 1e0005, 0.1e308, 1" + "0" * 300 + ", 0." + "3" * 400 + "]",
    ],
)
def test_what_only_looks_like_it_is_read(text: str) -> None:
    assert parse_json(text, "text") == json.loads(text)


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "device", "link to a pipe"])
def test_only_files_are_read(tmp_path: Path, kind: str) -> None:
    path = Path(os.devnull) if kind == "device" else tmp_path / "x.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a pipe":
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to("pipe")
    assert "cannot be read" in refusal(path)


def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path, monkeypatch) -> None:
    path, check, looked_at = write(tmp_path, "1"), regular_files._check_regular, []

    def check_and_swap(status, where) -> None:
        check(status, where)
        if not looked_at:
            path.unlink()
            os.mkfifo(path)
        looked_at.append(where)

    monkeypatch.setattr(regular_files, "_check_regular", check_and_swap)
    with pytest.raises(ValueError, match="a pipe or a device"):
        read_json(path)
    assert len(looked_at) == 1


def test_sizes_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, json.dumps("x" * 98))
    assert len(read_json(path, max_bytes=100)) == 98
    assert "annotation file" in refusal(path, what="annotation file", max_bytes=99)
    monkeypatch.setattr(regular_files, "free_memory", lambda: 400)
    assert len(read_json(path, max_bytes=None)) == 98
    monkeypatch.setattr(regular_files, "free_memory", lambda: 396)
    assert "free memory" in refusal(path, max_bytes=None)


def test_a_small_file_takes_little_memory(tmp_path: Path) -> None:
    path = write(tmp_path, "[]")
    tracemalloc.start()
    try:
        for limit in (10**9, None):
            assert read_bytes(path, max_bytes=limit) == b"[]"
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_large_text_is_held_once_while_it_is_read() -> None:
    text = json.dumps(["x" * 30_000_000])
    tracemalloc.start()
    try:
        parse_json(text, "text")
        # The value itself, and parts.
        assert tracemalloc.get_traced_memory()[1] < 1.8 * len(text)
    finally:
        tracemalloc.stop()


def test_names_of_files_do_not_slow_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "_to_float", None)
    value = ["a3e456.jpg", "3e456", "c0ffee3e456", 1.5]
    assert parse_json(json.dumps(value), "text") == value


@pytest.mark.parametrize("place", [-450, -200, -1, 0, 1, 200])
def test_gigantic_numbers_are_found_between_parts(place: int, monkeypatch) -> None:
    monkeypatch.setattr(json_files, "_SCAN_LENGTH", 1000)
    text = "[" + " " * (json_files._SCAN_LENGTH - 1 + place) + "1" + "0" * 350 + "]"
    for refused in (text, text.replace("1" + "0" * 350, "1e400")):
        with pytest.raises(ValueError, match="beyond a float64"):
            parse_json(refused, "text")


def test_memory_is_known() -> None:
    assert 2**20 < regular_files.free_memory() < 2**50


def test_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('\ufeff{"a": "\u2028"}\r\n\n 2\n"\x85"'.encode())
    found = list(read_json_lines(path))
    assert [value for _, value in found] == [{"a": "\u2028"}, 2, "\x85"]
    assert [where for where, _ in found] == [f"line {n} of {str(path)!r}" for n in (1, 3, 4)]
    path.write_text("1\n[NaN]\n")
    with pytest.raises(ValueError, match=r"line 2 of .*a\.jsonl' holds NaN"):
        list(read_json_lines(path))


def test_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfa\xe2\x80\xa8")
    assert read_text(path) == "a\u2028"
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"a\.txt' cannot be read as text"):
        read_text(path)


def test_ids() -> None:
    assert all(map(is_id, (0, -1, 2**63 - 1, -(2**63))))
    assert not any(map(is_id, (True, 1.0, "1", None, 2**63, -(2**63) - 1)))


def test_a_text_with_half_a_pair_is_refused() -> None:
    with pytest.raises(ValueError, match=r"text holds half a surrogate pair \(\\udc80\)"):
        parse_json('["红\udc80"]', "text")
