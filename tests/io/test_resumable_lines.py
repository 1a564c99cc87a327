"""A file of results goes on after a kill, and is never gone on with for something else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fgclip_det.io.resumable_lines import ResumableLines


def test_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "x.part"
    first = ResumableLines(path, "key")
    assert list(first) == [] and not path.exists()
    first.append([{"a": 1}, {"b": ["红"]}])
    first.append([])
    second = ResumableLines(path, "key")
    assert list(second) == [{"a": 1}, {"b": ["红"]}]
    second.append([3])
    assert list(ResumableLines(path, "key")) == [{"a": 1}, {"b": ["红"]}, 3]
    second.remove()
    assert not list(tmp_path.iterdir())


def test_every_moment_of_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "x.part"
    ResumableLines(path, "key").append([{"a": 1}, {"b": 2}])
    content = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        lines = ResumableLines(path, "key")
        whole = sum(end <= length for end in ends)
        assert list(lines) == [{"a": 1}, {"b": 2}][: max(whole - 1, 0)]
        lines.append(["next"])
        assert list(ResumableLines(path, "key"))[-1] == "next"


@pytest.mark.parametrize("content", ['{"key": "other"}\n1\n', "no json\n", "[1]\n", '{"a": 1}\n'])
def test_what_is_of_something_else_is_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.part"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"x\.part' holds the beginning of another run"):
        ResumableLines(path, "key")
    assert path.read_text() == content


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_nothing_is_written_through_a_link(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "x.part", tmp_path / "target"
    target.write_text("kept")
    {
        "link": lambda: path.symlink_to(target),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
    }[kind]()
    with pytest.raises(ValueError, match=r"x\.part' is a link or no file"):
        ResumableLines(path, "key")
    assert target.read_text() == "kept"
