"""Files are whole or as they were: links, long names, many writers, kills and full disks."""

from __future__ import annotations

import errno
import gzip
import os
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from fgclip_det.io import (
    atomic,
    check_writable,
    replaced_file,
    replaced_folder,
    replaced_text,
    write_bytes,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with replaced_file(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old" and partial.parent == tmp_path
    assert path.read_text() == "new"
    for error in (OSError(errno.ENOSPC, "no room"), KeyboardInterrupt(), ValueError("x")):
        with pytest.raises(type(error)), replaced_file(path) as partial:
            partial.write_text("ne")
            raise error
        assert path.read_text() == "new"
    assert names(tmp_path) == ["file"]


def test_texts_bytes_and_json(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    write_text(path, "红\r\na\n")
    assert path.read_bytes() == "红\r\na\n".encode()
    write_json(path, {"a": ["红"]})
    assert path.read_bytes() == b'{\n "a": [\n  "\\u7ea2"\n ]\n}\n'
    write_json(path, ["红", 1], indent=None, ensure_ascii=False)
    assert path.read_bytes() == '["红", 1]\n'.encode()


@pytest.mark.parametrize("ensure_ascii", [True, False])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "NaN|nan"),
        ({1, 2}, "set"),
        ("\ud800", "surrogate"),
        (10**400, "beyond a float64"),
    ],
    ids=["NaN", "set", "half a pair", "gigantic"],
)
def test_what_no_reader_takes_is_not_written(tmp_path, value, reason: str, ensure_ascii) -> None:
    path = tmp_path / "file.json"
    with pytest.raises(ValueError, match=rf"file\.json' cannot be written.*({reason})"):
        write_json(path, [value], ensure_ascii=ensure_ascii)
    assert not names(tmp_path)


def test_texts_piece_by_piece(tmp_path: Path) -> None:
    for name in ("a.txt", "a.gz", "b.gz"):
        with replaced_text(tmp_path / name) as stream:
            stream.write("红\n")
            stream.write("b\r\n" * 100_000)
    content = (tmp_path / "a.txt").read_bytes()
    assert content == "红\n".encode() + b"b\r\n" * 100_000
    packed = (tmp_path / "a.gz").read_bytes()
    assert gzip.decompress(packed) == content
    assert packed == (tmp_path / "b.gz").read_bytes()
    with pytest.raises(RuntimeError), replaced_text(tmp_path / "a.gz") as stream:
        stream.write("b")
        raise RuntimeError
    assert (tmp_path / "a.gz").read_bytes() == packed
    assert names(tmp_path) == ["a.gz", "a.txt", "b.gz"]


def test_a_link_at_the_final_name_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("kept")
    (tmp_path / "file").symlink_to("target")
    write_text(tmp_path / "file", "new")
    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "file").read_text() == "new"
    assert (tmp_path / "target").read_text() == "kept"


def test_folders_that_are_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write_text(tmp_path / "link" / "file", "x")
    with replaced_folder(tmp_path / "link" / "folder") as partial:
        (partial / "a").touch()
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "real") == ["file", "folder"]


def test_what_is_planted_at_the_temporary_name_is_not_touched(tmp_path, monkeypatch) -> None:
    (tmp_path / "target").write_text("kept")
    (tmp_path / ".taken0.partial").symlink_to("target")
    (tmp_path / ".taken1.partial").symlink_to("absent")
    (tmp_path / ".taken2.partial").write_text("another's")
    (tmp_path / ".taken3.partial").mkdir()
    enter = replaced_folder(tmp_path / "folder")
    for write in (write_text, lambda *_: enter.__enter__()):
        tokens = iter(["taken0", "taken1", "taken2", "taken3", "free"])
        monkeypatch.setattr(atomic.secrets, "token_hex", lambda _, tokens=tokens: next(tokens))
        write(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"
    assert (tmp_path / "target").read_text() == "kept"
    assert (tmp_path / ".taken2.partial").read_text() == "another's"
    assert not (tmp_path / "absent").exists()


def test_no_free_name_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".x.partial").mkdir()
    monkeypatch.setattr(atomic.secrets, "token_hex", lambda _: "x")
    with pytest.raises(OSError, match="no free name"):
        write_text(tmp_path / "file", "new")
    with pytest.raises(OSError, match="no free name"), replaced_folder(tmp_path / "folder"):
        pass


def test_a_link_that_takes_the_place_of_what_is_written_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("kept")
    with pytest.raises(OSError), replaced_file(tmp_path / "file") as partial:
        partial.unlink()
        partial.symlink_to("target")
    assert names(tmp_path) == ["target"]
    assert (tmp_path / "target").read_text() == "kept"


@pytest.mark.parametrize(
    "name",
    ["x" * 255, "红" * 85, f"{'x' * 251}.txt", f"a.{'x' * 253}"],
    ids=["long", "of three bytes a letter", "with a suffix", "with a long suffix"],
)
def test_every_legal_name(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "1")
    write_text(tmp_path / name, "2")
    with replaced_text(tmp_path / name) as stream:
        stream.write("3")
    assert (tmp_path / name).read_text() == "3"
    (tmp_path / name).unlink()
    for content in ("1", "2"):
        with replaced_folder(tmp_path / name) as partial:
            (partial / content).touch()
    assert names(tmp_path) == [name] and names(tmp_path / name) == ["2"]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("x" * 256, errno.ENAMETOOLONG),
        ("absent/file", errno.ENOENT),
        ("file/file", errno.ENOTDIR),
        ("folder", errno.EISDIR),
    ],
)
def test_what_cannot_be_written_is_said_before_the_work(
    tmp_path: Path, path: str, error: int
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError) as caught, replaced_file(tmp_path / path):
        raise AssertionError("was asked to write")
    assert caught.value.errno == error
    assert caught.value.filename == str(tmp_path / path)
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize(
    ("path", "error"),
    [("x" * 256, errno.ENAMETOOLONG), ("absent/folder", errno.ENOENT), ("file", errno.ENOTDIR)],
)
def test_what_cannot_be_a_folder_is_said_before_the_work(
    tmp_path: Path, path: str, error: int
) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OSError) as caught, replaced_folder(tmp_path / path):
        raise AssertionError("was asked to write")
    assert caught.value.errno == error
    assert caught.value.filename == str(tmp_path / path)
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "kept"


def test_errors_inside_a_folder_name_it(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with pytest.raises(FileNotFoundError) as caught, replaced_folder(folder) as partial:
        (partial / "absent" / "a").touch()
    assert caught.value.filename == str(folder)
    assert not names(tmp_path)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_as_of_every_other_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "file", "x")
        with replaced_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~umask


def test_permissions_do_not_depend_on_who_writes(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with replaced_file(tmp_path / "file") as partial:
            # As some writers do: a private file of their own takes the place of the one they got.
            other = tmp_path / "other"
            other.touch(0o600)
            other.replace(partial)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    (tmp_path / "file").write_text("old")

    def full(*_) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), ".x.partial")

    monkeypatch.setattr(atomic.os, call, full)
    with pytest.raises(OSError) as caught:
        write_text(tmp_path / "file", "new")
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path / "file")
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "old"


# Goes on until somebody has read.
_WRITER = """
import os, sys
from fgclip_det.io import replaced_text
for number in range(6000):
    if number >= 60 and os.path.exists(sys.argv[3]): break
    with replaced_text(sys.argv[1]) as stream:
        stream.writelines([sys.argv[2] * 100 + "\\n"] * 200)
"""


def _start(*arguments: object) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", *map(str, arguments)])


def test_two_processes_write_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path, seen = tmp_path / "folder" / "file", tmp_path / "seen"
    writers = [_start(_WRITER, path, letter, seen) for letter in "ab"]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            seen.touch()
            assert path.read_text() in {f"{letter * 100}\n" * 200 for letter in "ab"}
    assert seen.exists() and all(writer.returncode == 0 for writer in writers)
    assert names(path.parent) == ["file"]


_KILLED = """
import sys, time
from fgclip_det.io import replaced_file
with replaced_file(sys.argv[1]) as partial:
    partial.write_text("half")
    print("written", flush=True)
    time.sleep(600)
"""


def test_a_kill_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    writer = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout.readline() == "written\n"
    writer.kill()
    writer.wait()
    writer.stdout.close()
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(RuntimeError), replaced_folder(path) as partial:
        (partial / "new").touch()
        raise RuntimeError
    assert names(path) == ["old"] and names(tmp_path) == ["folder"]
    rename, tried = os.rename, []

    def fail_second(source, target) -> None:
        tried.append(target)
        if len(tried) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, target)

    monkeypatch.setattr(atomic.os, "rename", fail_second)
    with pytest.raises(OSError), replaced_folder(path) as partial:
        (partial / "new").touch()
    assert names(path) == ["old"] and names(tmp_path) == ["folder"]
    monkeypatch.undo()
    with replaced_folder(path) as partial:
        (partial / "new").touch()
    assert names(path) == ["new"] and names(tmp_path) == ["folder"]


_FOLDER_WRITER = """
import sys
from pathlib import Path
from fgclip_det.io import replaced_folder
for number in range(150):
    with replaced_folder(sys.argv[1]) as partial:
        for name in "ab":
            Path(partial, name).write_text(sys.argv[2])
"""


def test_several_processes_write_the_same_folder(tmp_path: Path) -> None:
    writers = [_start(_FOLDER_WRITER, tmp_path / "folder", letter) for letter in "abcd"]
    assert [writer.wait() for writer in writers] == [0] * 4
    assert names(tmp_path) == ["folder"]
    (content,) = {(tmp_path / "folder" / name).read_text() for name in "ab"}
    assert content in "abcd"


def test_an_interrupt_while_a_folder_is_renamed(tmp_path: Path, monkeypatch) -> None:
    path, rename, tried = tmp_path / "folder", os.rename, []
    path.mkdir()
    (path / "old").touch()

    def interrupt(source, target) -> None:
        tried.append(target)
        if len(tried) == 2:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(atomic.os, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt), replaced_folder(path):
        pass
    assert names(path) == ["old"] and names(tmp_path) == ["folder"]


def test_a_link_at_the_name_of_a_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "kept").touch()
    (tmp_path / "folder").symlink_to("target")
    with replaced_folder(tmp_path / "folder") as partial:
        (partial / "new").touch()
    assert names(tmp_path / "folder") == ["new"]
    assert names(tmp_path / "target") == ["kept"] and names(tmp_path) == ["folder", "target"]


def test_whether_a_folder_can_be_written_to(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert not names(tmp_path)
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "a"):
        with pytest.raises(NotADirectoryError) as caught:
            check_writable(path)
        assert caught.value.filename == str(tmp_path / "file")
    (tmp_path / "link").symlink_to("absent")
    with pytest.raises(OSError) as caught:
        check_writable(tmp_path / "link" / "a")
    assert caught.value.filename == str(tmp_path / "link")
    with pytest.raises(OSError) as caught:
        check_writable(tmp_path / ("x" * 300))
    assert caught.value.errno == errno.ENAMETOOLONG


def test_several_files_at_once_are_written_together(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), ExitStack() as stack:
        for name in "abc":
            stack.enter_context(replaced_file(tmp_path / name)).write_text(name)
        raise RuntimeError
    assert not names(tmp_path)
    with ExitStack() as stack:
        for name in "abc":
            stack.enter_context(replaced_file(tmp_path / name)).write_text(name)
    assert names(tmp_path) == ["a", "b", "c"]
