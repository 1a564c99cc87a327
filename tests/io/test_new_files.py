"""A file that must be new: one writer gets the name, and nobody's file is written over."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from fgclip_det.io import write_bytes


@pytest.fixture(params=["links", "no links"], autouse=True)
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if request.param == "no links":
        monkeypatch.setattr(os, "link", refuse)


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    write_bytes(tmp_path / "x", b"one", is_new=True)
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("x", "link"):
        with pytest.raises(FileExistsError) as caught:
            write_bytes(tmp_path / name, b"two", is_new=True)
        assert caught.value.filename == str(tmp_path / name)
    assert (tmp_path / "x").read_bytes() == b"one"
    assert sorted(os.listdir(tmp_path)) == ["link", "x"]
    write_bytes(tmp_path / "x", b"three")
    assert (tmp_path / "x").read_bytes() == b"three"


def test_of_many_writers_one_gets_the_name(tmp_path: Path) -> None:
    won = []

    def write(number: int) -> None:
        try:
            write_bytes(tmp_path / "x", bytes([number]) * 100_000, is_new=True)
            won.append(number)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and os.listdir(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == bytes(won) * 100_000
