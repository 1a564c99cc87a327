"""Rows come back as they were, whatever was killed, broken, dropped or written at the same time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fgclip_det.io import RowStore

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 1 << 20


def keys(*numbers: int) -> list[bytes]:
    # Keys that end, or are, zeros: what strings of NumPy would cut.
    return [number.to_bytes(2, "big") + bytes(14) for number in numbers]


def rows(*numbers: int, width: int = 5) -> np.ndarray:
    return np.asarray(numbers, dtype=np.float32)[:, None] + np.arange(width, dtype=np.float32) / 8


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.rows"))


def held(store: RowStore, *numbers: int) -> list[int]:
    """Which of the numbers have a row; it is the right one."""
    found = store.find(keys(*numbers))
    for number in numbers:
        (key,) = keys(number)
        if key in found:
            assert np.array_equal(found[key], rows(number)[0])
    return [number for number in numbers if keys(number)[0] in found]


def test_rows_outlive_the_object_that_wrote_them(tmp_path: Path) -> None:
    store = RowStore(tmp_path / "new" / "cache", "ant", LIMIT)
    assert store.find(keys(0)) == {} and not files(store.folder)
    store.add(keys(0, 1, 2), rows(0, 1, 2))
    store.add(keys(300), rows(300))
    assert held(store, 0, 1, 2, 3, 300) == [0, 1, 2, 300]
    other = RowStore(store.folder, "ant", LIMIT)
    assert len(other) == 4 and held(other, 300, 2, 3, 0) == [300, 2, 0]
    assert held(RowStore(store.folder, "bee", LIMIT), 0, 300) == []


def test_numbers_are_kept_to_the_bit(tmp_path: Path) -> None:
    values = np.array([[-0.0, np.float32(1e-42), np.nan, np.inf, 0.1]], dtype=np.float32)
    RowStore(tmp_path, "ant", LIMIT).add(keys(1), values[:, ::-1])
    (found,) = RowStore(tmp_path, "ant", LIMIT).find(keys(1)).values()
    assert found.tobytes() == values[0, ::-1].tobytes()


@pytest.mark.parametrize("left", [0, 3, 16, 20, 48, 50, 100])
def test_a_group_that_was_cut_off_is_not_there(tmp_path: Path, left: int) -> None:
    store = RowStore(tmp_path, "ant", LIMIT)
    store.add(keys(0, 1), rows(0, 1))
    (path,) = files(tmp_path)
    whole = path.stat().st_size
    store.add(keys(2, 3, 4), rows(2, 3, 4))
    os.truncate(path, whole + left)
    again = RowStore(tmp_path, "ant", LIMIT)
    assert held(again, *range(5)) == [0, 1]
    again.add(keys(2, 3, 4), rows(2, 3, 4))
    assert held(RowStore(tmp_path, "ant", LIMIT), *range(5)) == [0, 1, 2, 3, 4]


def test_any_broken_byte_is_found_and_the_row_is_mended(tmp_path: Path) -> None:
    store = RowStore(tmp_path, "ant", LIMIT)
    store.add(keys(0), rows(0))
    store.add(keys(1), rows(1))
    (path,) = files(tmp_path)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 8]) + content[place + 1 :])
        left = held(RowStore(tmp_path, "ant", LIMIT), 0, 1)
        assert left in ([0], [1], []), place
    mended = RowStore(tmp_path, "ant", LIMIT)
    mended.add(keys(1), rows(1))
    # What was written later counts, though the broken file was used later.
    os.utime(path)
    assert held(RowStore(tmp_path, "ant", LIMIT), 1) == [1]


def test_the_folder_is_kept_within_its_limit(tmp_path: Path) -> None:
    size = 16 + 16 + 20  # of a file of one row
    for age, (owner, number) in enumerate([("ant", 1), ("bee", 2), ("ant", 3)]):
        RowStore(tmp_path, owner, LIMIT).add(keys(number), rows(number))
        newest = max(files(tmp_path), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (age, age))
    (tmp_path / "ant" / "mine.rows").write_bytes(bytes(100))
    # The first was used, so that the second is the oldest.
    assert held(RowStore(tmp_path, "ant", LIMIT), 1) == [1]
    store = RowStore(tmp_path, "cat", 3 * size)
    store.add(keys(4), rows(4))
    left = [len(RowStore(tmp_path, own, LIMIT)) for own in ("ant", "bee", "cat")]
    assert left == [2, 0, 1]
    store.add(keys(5), rows(5))
    assert held(store, 4, 5) == [4, 5] and not store.is_full
    assert held(RowStore(tmp_path, "ant", LIMIT), 1, 3) == [1]
    assert (tmp_path / "ant" / "mine.rows").exists(), "not of this kind"


def test_what_a_run_uses_stays_and_what_has_no_room_is_not_kept(tmp_path: Path) -> None:
    size = 16 + 16 + 20
    RowStore(tmp_path, "ant", LIMIT).add(keys(1), rows(1))
    store = RowStore(tmp_path, "ant", 2 * size)
    assert held(store, 1) == [1]
    store.add(keys(2), rows(2))
    assert not store.is_full
    store.add(keys(3), rows(3))
    assert store.is_full and held(store, 1, 2, 3) == [1, 2]
    # A smaller limit holds from the beginning.
    assert held(RowStore(tmp_path, "bee", 1), 1) == [] and not files(tmp_path)


def test_a_file_that_another_process_dropped_is_begun_again(tmp_path: Path) -> None:
    store = RowStore(tmp_path, "ant", LIMIT)
    store.add(keys(1), rows(1))
    files(tmp_path)[0].unlink()
    assert held(store, 1) == []
    store.add(keys(2), rows(2))
    assert held(store, 1, 2) == [2]
    assert held(RowStore(tmp_path, "ant", LIMIT), 1, 2) == [2]


def test_folders_that_cannot_be_are_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file' cannot keep anything \(.*name another folder"):
        RowStore(tmp_path / "file", "ant", LIMIT)
    with pytest.raises(ValueError, match="is 0 bytes: it must be above 0"):
        RowStore(tmp_path, "ant", 0)


_WRITER = """
import sys
import numpy as np
from fgclip_det.io import RowStore
folder, first, last = sys.argv[1], *map(int, sys.argv[2:])
store = RowStore(folder, "ant", 1 << 30)
for number in range(first, last):
    key = number.to_bytes(2, "big") + bytes(14)
    store.add([key], np.float32(number) + np.arange(5, dtype=np.float32)[None] / 8)
    print(number, flush=True)
"""


def _writer(folder: Path, first: int, last: int) -> subprocess.Popen:
    command = [sys.executable, "-c", _WRITER, str(folder), str(first), str(last)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_two_write_at_once_and_one_is_killed(tmp_path: Path) -> None:
    killed, other = _writer(tmp_path, 0, 30_000), _writer(tmp_path, 30_000, 30_200)
    told = [int(killed.stdout.readline()) for _ in range(50)]
    killed.send_signal(signal.SIGKILL)
    assert other.wait(600) == 0 and killed.wait(600) == -signal.SIGKILL
    told += [int(line) for line in killed.stdout] + list(range(30_000, 30_200))
    assert held(RowStore(tmp_path, "ant", LIMIT), *told) == told
    for process in (killed, other):
        process.stdout.close()
