"""Pickles of plain data are read; nothing that they would run is run, and torch is not needed."""

from __future__ import annotations

import os
import pickle
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
