"""Pickles of plain data are read; nothing that they would run is run, and torch is not needed."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from fgclip_det.io import read_pickle


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *args) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data(tmp_path: Path, protocol: int) -> None:
    shared = [1, 2.5, "红", None, True]
    values = {"a": shared, "b": (shared, np.float32(3)), "c": np.arange(6.0).reshape(2, 3)}
    path = tmp_path / "values.pkl"
    path.write_bytes(pickle.dumps(values, protocol))
    found = read_pickle(path)
    assert found["a"] == shared and found["b"] == (shared, 3)
    assert found["b"][0] is found["a"]
    assert type(found["c"]) is np.ndarray and found["c"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_programs_do_not_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "values.pkl", tmp_path / "mark"
    path.write_bytes(pickle.dumps([Call(os.system, f"touch {mark}")]))
    with pytest.raises(ValueError, match=r"values\.pkl' is refused: it would run 'posix\.system'"):
        read_pickle(path)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "truncated"])
def test_what_is_no_pickle(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "values.pkl"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "truncated":
        path.write_bytes(pickle.dumps([1, 2])[:-3])
    with pytest.raises(ValueError, match=r"values\.pkl' (cannot be read|is refused)"):
        read_pickle(path)


@pytest.mark.parametrize(
    "content", [b"\x80\x02Nr" + struct.pack("<I", 120_000_000) + b".", b"Np150000000\n."]
)
def test_a_small_pickle_takes_little_memory(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "values.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"values\.pkl' is refused: it notes its value"):
        read_pickle(path)


def test_old_pickles_note_their_values_likewise(tmp_path: Path) -> None:
    path = tmp_path / "values.pkl"
    values = [[number] for number in range(1000)] * 2
    for protocol in (0, 1, 2):
        path.write_bytes(pickle.dumps(values, protocol))
        assert read_pickle(path) == values


@pytest.mark.parametrize(
    "value",
    [np.dtype("f4"), [np.ndarray], {"a": (np.dtype("U3"),)}, {np.dtype("f4")}, {np.ndarray: 1}],
)
def test_what_stands_for_numpy_is_no_value(tmp_path: Path, value) -> None:
    path = tmp_path / "values.pkl"
    path.write_bytes(pickle.dumps(value))
    with pytest.raises(ValueError, match=r"values\.pkl' is refused"):
        read_pickle(path)


def test_values_that_hold_themselves_or_are_shared(tmp_path: Path) -> None:
    path, ring = tmp_path / "values.pkl", []
    array = np.arange(3)
    ring.append((ring, array, {"a": array}))
    path.write_bytes(pickle.dumps((ring, array)))
    found, same = read_pickle(path)
    ((itself, first, inside),) = found
    assert itself is found and type(same) is np.ndarray
    assert first is same and inside["a"] is same


def test_an_empty_text_of_numpy(tmp_path: Path) -> None:
    path = tmp_path / "values.pkl"
    path.write_bytes(pickle.dumps([np.str_(""), np.bytes_(b""), np.str_("a")]))
    assert read_pickle(path) == ["", b"", "a"]
