"""A disk that is full at any byte, or at any call: what was there stays, and nothing beside it."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from fgclip_det.io import (
    replaced_files,
    replaced_folder,
    replaced_text,
    write_bytes,
    write_image,
    write_json,
)


def _content(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _text(path: Path, word: str) -> None:
    with replaced_text(path) as stream:
        for _ in range(30):
            stream.write(word * 10)


def _folder(path: Path, word: str) -> None:
    with replaced_folder(path) as partial:
        (partial / "a").write_text(word * 100)
        (partial / "b").write_text(word * 300)


def _files(path: Path, word: str) -> None:
    if not path.exists():
        path.mkdir()
    with replaced_files(path) as partial:
        (partial / "a").write_text(word * 100)
        (partial / "b").write_text(word * 300)


def _image(path: Path, word: str) -> None:
    write_image(path, Image.new("RGB", (9, 9), (len(word), ord(word[0]), 3)))


WRITERS = {
    "file.json": lambda path, word: write_json(path, [word] * 100),
    "file.bin": lambda path, word: write_bytes(path, word.encode() * 100),
    "file.txt": _text,
    "file.txt.gz": _text,
    "file.png": _image,
    "file.jpg": _image,
    "folder": _folder,
    "files": _files,
}


def _old_or_new(write: Callable[[Path, str], None], tmp_path: Path, name: str, fault) -> set[str]:
    """Which of both is there in the end, for every place that a fault can be at."""
    new_folder = tmp_path / "new"
    new_folder.mkdir()
    write(new_folder / name, "newer")
    seen, folder = set(), tmp_path / "target"
    folder.mkdir()
    for place in itertools.count():
        write(folder / name, "old")
        old = _content(folder)
        failed = False
        try:
            with fault(place):
                write(folder / name, "newer")
        except OSError as error:
            failed = True
            assert error.errno in (errno.ENOSPC, errno.EFBIG) and name in str(error)
        now = _content(folder)
        assert now == (old if failed else _content(new_folder))
        assert [path.name for path in folder.iterdir()] == [name]
        if (folder / name).is_dir():
            assert not [path for path in (folder / name).iterdir() if path.is_dir()]
        seen.add("old" if failed else "new")
        if not failed:
            return seen
    raise AssertionError


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_is_full_at_any_byte(tmp_path: Path, room_for, name: str) -> None:
    assert _old_or_new(WRITERS[name], tmp_path, name, lambda n: room_for(29 * n)) == {"old", "new"}


CALLS = ("open", "fsync", "replace", "rename", "mkdir")


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_is_full_at_any_call(tmp_path: Path, monkeypatch, name: str) -> None:
    real = {call: getattr(os, call) for call in CALLS}

    class Fault:
        def __init__(self, place: int) -> None:
            self._left = place

        def __enter__(self) -> None:
            for call in CALLS:
                monkeypatch.setattr(os, call, self._failing(call))

        def __exit__(self, *_: object) -> None:
            monkeypatch.undo()

        def _failing(self, call: str) -> Callable:
            def made(*arguments: object, **options: object) -> object:
                # To open what is there, such as a folder to remove, takes no room.
                takes_room = call != "open" or arguments[1] & (os.O_CREAT | os.O_WRONLY)
                self._left -= bool(takes_room)
                if takes_room and self._left == -1:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), ".x.partial")
                return real[call](*arguments, **options)

            return made

    assert _old_or_new(WRITERS[name], tmp_path, name, Fault) == {"old", "new"}


# Goes on until somebody has read.
_WRITER = """
import os, sys
from fgclip_det.io import write_bytes
for number in range(5000):
    if number >= 50 and os.path.exists(sys.argv[3]):
        break
    write_bytes(sys.argv[1], sys.argv[2].encode() * 3_000_000)
"""


def test_two_writers_of_large_files(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path, seen = tmp_path / "folder" / "file", tmp_path / "seen"
    command = [sys.executable, "-c", _WRITER, str(path)]
    writers = [subprocess.Popen([*command, letter, str(seen)]) for letter in "ab"]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            seen.touch()
            content = path.read_bytes()
            assert len(content) == 3_000_000 and len(set(content)) == 1
    assert seen.exists() and all(writer.returncode == 0 for writer in writers)
    assert [found.name for found in path.parent.iterdir()] == ["file"]


def test_files_take_their_names_together_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "kept").write_text("kept")
    with pytest.raises(RuntimeError), replaced_files(tmp_path) as partial:
        (partial / "a").write_text("new")
        raise RuntimeError
    assert _content(tmp_path) == {"a": b"old", "kept": b"kept"}
    with replaced_files(tmp_path) as partial:
        (partial / "a").write_text("new")
        (partial / "b").write_text("more")
        (partial / "b").chmod(0o600)
    assert _content(tmp_path) == {"a": b"new", "b": b"more", "kept": b"kept"}
    assert (tmp_path / "b").stat().st_mode == (tmp_path / "kept").stat().st_mode


@pytest.mark.parametrize("name", ["folder", "link"])
def test_what_stands_at_the_name_of_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "target").write_text("kept")
    (tmp_path / "link").symlink_to("target")
    try:
        with replaced_files(tmp_path) as partial:
            (partial / "a").write_text("new")
            (partial / name).write_text("new")
    except IsADirectoryError:
        assert name == "folder" and not (tmp_path / "a").exists()
    assert (tmp_path / "target").read_text() == "kept" and (tmp_path / "folder").is_dir()
