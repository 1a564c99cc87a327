"""Rows of numbers by key, in files that only grow: a cache that outlives a kill.

Each run that adds something has a file of its own, so that any number of processes write at once.
A file is groups of rows one behind another: a head (mark, numbers in a row, rows, checksum), a key
of 16 bytes for each row, the rows in float32. A group is there as a whole or not at all: one that a
kill cut off, or whose checksum is wrong, is not.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import struct
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fgclip_det.io.messages import one_line
from fgclip_det.io.regular_files import open_regular

KEY_BYTES = 16
_MARK = b"ROW1"
_HEAD = struct.Struct("<4s3I")
# Names begin with the time: what was written again later is what counts. Nothing else is dropped.
_NAME = re.compile(r"\d{20}-[0-9a-f]{8}\.rows")


class _Group(NamedTuple):
    """Where a group lies, and what its head says."""

    path: Path
    offset: int
    width: int
    count: int
    checksum: int

    @property
    def size(self) -> int:
        """Bytes behind the head."""
        return self.count * (KEY_BYTES + 4 * self.width)


class RowStore:
    """Rows of one owner, in a folder that several owners share and that is kept within a size.

    Args:
        folder: Of all owners; it is made where it is not there.
        owner: Whose rows these are: the name of a folder within.
        limit: Bytes that the files of all owners may take. The files that were not used for longest
            go first; those that this object read or wrote stay, and what has no room is not kept.

    Attributes:
        is_full: Whether something had no room.

    Raises:
        ValueError: `folder` is no folder, or `limit` is not above 0.
    """

    def __init__(self, folder: str | os.PathLike, owner: str, limit: int) -> None:
        if limit <= 0:
            raise ValueError(f"the limit of {str(folder)!r} is {limit} bytes: it must be above 0")
        self.folder, self.limit = Path(folder), limit
        self._own_folder = self.folder / owner
        try:
            self._own_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"{str(folder)!r} cannot keep anything ({one_line(error)}): name another folder"
            ) from None
        self._own = self._own_folder / f"{time.time_ns():020d}-{secrets.token_hex(4)}.rows"
        self._used: set[Path] = {self._own}
        self._places: dict[bytes, tuple[_Group, int]] = {}
        self.is_full = not self._make_room(0)
        for path in sorted(_files(self._own_folder, "*")):
            for group, keys in _groups(path):
                self._note(group, keys)

    def __len__(self) -> int:
        """Keys that have a row, as far as the heads of groups tell."""
        return len(self._places)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """(W,) float32 of each key that has a row; a row that is broken is not there."""
        wanted: dict[_Group, list[bytes]] = defaultdict(list)
        for key in keys:
            if key in self._places:
                wanted[self._places[key][0]].append(key)
        found: dict[bytes, np.ndarray] = {}
        for group, own in wanted.items():
            rows = _read(group)
            if rows is not None:
                self._use(group.path)
                found |= {key: rows[self._places[key][1]] for key in own}
        return found

    def add(self, keys: Sequence[bytes], rows: np.ndarray) -> None:
        """Keep (N, W) float32 rows as one group, unless there is no room.

        Raises:
            OSError: Writing failed; what was kept before is there.
        """
        values = np.ascontiguousarray(rows, dtype="<f4")
        body = b"".join(keys) + values.tobytes()
        shape = (values.shape[1], len(keys))
        if len(body) != len(keys) * (KEY_BYTES + 4 * shape[0]):
            raise ValueError(f"{len(keys)} keys of {KEY_BYTES} bytes for rows {values.shape}")
        if not self._make_room(_HEAD.size + len(body)):
            self.is_full = True
            return
        with self._own.open("ab") as stream:
            # Another process may have dropped the file, which then begins anew.
            offset, checksum = stream.tell(), _checksum(shape, body)
            stream.write(_HEAD.pack(_MARK, *shape, checksum) + body)
        self._note(_Group(self._own, offset, *shape, checksum), keys)

    def _note(self, group: _Group, keys: Sequence[bytes]) -> None:
        self._places.update({key: (group, row) for row, key in enumerate(keys)})

    def _use(self, path: Path) -> None:
        if path not in self._used:
            self._used.add(path)
            with contextlib.suppress(OSError):  # dropped just now, or another user's
                os.utime(path)

    def _make_room(self, size: int) -> bool:
        """Drop files until `size` more bytes are within the limit; whether they are."""
        found = _files(self.folder, "*/*")
        files = [(status, path) for path in found if (status := _status(path))]
        total = size + sum(status.st_size for status, _ in files)
        for status, path in sorted(files, key=lambda file: file[0].st_mtime_ns):
            if total <= self.limit:
                break
            if path not in self._used:
                path.unlink(missing_ok=True)
                total -= status.st_size
        return total <= self.limit


def _files(folder: Path, pattern: str) -> list[Path]:
    paths = (path for path in folder.glob(pattern) if _NAME.fullmatch(path.name))
    return [path for path in paths if not path.is_symlink()]


def _groups(path: Path) -> Iterator[tuple[_Group, list[bytes]]]:
    """The whole groups of a file, as far as their heads tell, and their keys."""
    try:
        with open_regular(path, "kept rows") as stream:
            size = os.fstat(stream.fileno()).st_size
            while len(head := stream.read(_HEAD.size)) == _HEAD.size:
                mark, width, count, checksum = _HEAD.unpack(head)
                group = _Group(path, stream.tell() - _HEAD.size, width, count, checksum)
                end = stream.tell() + group.size
                if mark != _MARK or end > size:
                    return
                keys = stream.read(count * KEY_BYTES)
                yield group, [keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES)]
                stream.seek(end)
    except ValueError:
        return  # dropped by another process just now, or no file at all


def _read(group: _Group) -> np.ndarray | None:
    """(count, width) float32 rows of a group; None where they are broken or gone."""
    try:
        with open_regular(group.path, "kept rows") as stream:
            stream.seek(group.offset + _HEAD.size)
            body = stream.read(group.size)
    except ValueError:
        return None
    if _checksum((group.width, group.count), body) != group.checksum:
        return None
    rows = np.frombuffer(body, dtype="<f4", offset=group.count * KEY_BYTES)
    return rows.reshape(group.count, group.width)


def _checksum(shape: tuple[int, int], body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(struct.pack("<2I", *shape)))


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
