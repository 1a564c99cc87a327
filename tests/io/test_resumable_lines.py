"""A file of results goes on after a kill, and is never gone on with for something else."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tracemalloc
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


@pytest.mark.parametrize(
    "content",
    [
        '{"key": "other"}\n1\n',
        "no json\n",
        "[1]\n",
        '{"a": 1}\n',
        "a note without a line end",
        '{"key": "key"} ',
        "[" * 200_000 + "\n",
    ],
    ids=["other", "text", "list", "no key", "a note", "not quite", "deep"],
)
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


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.part"
    ResumableLines(path, "key").append([1, 2])
    path.write_text(path.read_text().replace("1\n", "{\n"))
    with pytest.raises(ValueError, match=r"line 2 of .*x\.part' is no complete JSON"):
        list(ResumableLines(path, "key"))


@pytest.mark.parametrize("before", [[], ["first"]])
def test_a_failed_append_is_not_glued_to_the_next(tmp_path, monkeypatch, before: list) -> None:
    path = tmp_path / "x.part"
    lines = ResumableLines(path, "key")
    if before:
        lines.append(before)
    opened = Path.open

    class Full:
        def __init__(self, stream) -> None:
            self.stream = stream

        def __enter__(self):
            return self

        def __exit__(self, *_) -> None:
            self.stream.close()

        def write(self, data: bytes) -> None:
            self.stream.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "open", lambda *arguments: Full(opened(*arguments)))
    with pytest.raises(OSError):
        lines.append([{"lost": 1}])
    monkeypatch.undo()
    assert list(lines) == before
    lines.append(["next"])
    assert list(lines) == list(ResumableLines(path, "key")) == [*before, "next"]


def test_a_result_that_is_not_read_back_is_not_written(tmp_path: Path) -> None:
    lines = ResumableLines(tmp_path / "x.part", "key")
    with pytest.raises(ValueError, match=r"a result for .*x\.part' cannot be written"):
        lines.append([1, float("nan")])
    lines.append([2])
    assert list(lines) == [2]


def test_two_runs_do_not_mix_their_results(tmp_path: Path) -> None:
    path = tmp_path / "x.part"
    first = ResumableLines(path, "key")
    early = ResumableLines(path, "key")
    first.append([1])
    second = ResumableLines(path, "key")
    second.append([2])
    with pytest.raises(ValueError, match=r"another run writes .*x\.part'"):
        early.append([3])
    with pytest.raises(ValueError, match=r"another run writes .*x\.part'"):
        first.append([3])
    assert list(second) == [1, 2]


_RUN = """
import sys, time
from pathlib import Path
from fgclip_det.io.resumable_lines import ResumableLines
path, name, wait = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
lines = None
try:
    lines = ResumableLines(path, "key")
    for number in range(20):
        lines.append([[name, number, "x" * 300_000]])
        if number == 0:
            print("began", flush=True)
    if wait:
        sys.stdin.read()
except ValueError as error:
    print(error, flush=True)
"""


def _run(path: Path, name: str, wait: str = "") -> subprocess.Popen:
    command = [sys.executable, "-c", _RUN, str(path), name, wait]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, errors="replace"
    )


def test_two_processes_that_begin_at_once_do_not_tear_a_line(tmp_path: Path) -> None:
    path = tmp_path / "x.part"
    runs = [_run(path, name) for name in "ab"]
    told = [run.communicate()[0] for run in runs]
    lines = list(ResumableLines(path, "key"))
    refused = [text for text in told if "another run writes" in text]
    assert len(refused) <= 1
    by_name = {name: [number for one, number, _ in lines if one == name] for name in "ab"}
    finished = [name for name, text in zip("ab", told, strict=True) if "another" not in text]
    assert finished and all(by_name[name] == list(range(20)) for name in finished)


def test_the_second_process_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "x.part"
    first = _run(path, "a", "wait")
    assert first.stdout.readline() == "began\n"
    second = _run(path, "b")
    assert f"another run writes {str(path)!r}" in second.communicate()[0]
    with pytest.raises(ValueError, match=r"another run writes .*x\.part'"):
        ResumableLines(path, "key")
    assert first.communicate("")[0] == ""
    assert [line[:2] for line in ResumableLines(path, "key")] == [["a", n] for n in range(20)]
    third = _run(path, "c")
    assert third.communicate()[0] == "began\n"


def test_forked_workers_do_not_keep_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.part"
    lines = ResumableLines(path, "key")
    lines.append([1])
    reading, writing = os.pipe()
    begun, begins = os.pipe()
    worker = os.fork()
    if not worker:
        os.close(writing)
        os.write(begins, b"x")
        os.read(reading, 1)  # until the other end is closed
        os._exit(0)
    try:
        # A fork has the file until it runs.
        os.read(begun, 1)
        del lines
        assert _run(path, "b").communicate()[0] == "began\n"
    finally:
        for end in (reading, writing, begun, begins):
            os.close(end)
        os.waitpid(worker, 0)


def test_a_file_that_was_removed_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.part"
    lines = ResumableLines(path, "key")
    lines.append([1])
    lines.remove()
    lines.append([2])
    assert list(lines) == list(ResumableLines(path, "key")) == [2]


def test_lines_are_read_one_at_a_time(tmp_path: Path) -> None:
    lines = ResumableLines(tmp_path / "a", "key")
    lines.append([{"text": "x" * 10_000, "number": number} for number in range(2000)])
    tracemalloc.start()
    try:
        assert [line["number"] for line in lines] == list(range(2000))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_what_is_added_meanwhile_is_not_read(tmp_path: Path) -> None:
    lines = ResumableLines(tmp_path / "a", "key")
    lines.append([1, 2])
    found = []
    for line in lines:
        found.append(line)
        lines.append([line + 10])
    assert found == [1, 2]
    assert list(lines) == [1, 2, 11, 12]
