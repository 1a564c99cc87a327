"""Results that grow line by line in a file, so that a run that was cut off goes on."""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fgclip_det.io.json_files import parse_json, to_json

try:
    import fcntl
except ImportError:  # Windows has none: there, only the file's size tells of another run
    fcntl = None  # type: ignore[assignment]

_ATTEMPTS = 100


class ResumableLines:
    """A file of JSON lines, the first of which tells what the others are results of.

    No other process may go on with it while this object is there.

    Args:
        path: The file; one that is there is gone on with. Its folder exists.
        key: Of all that the results depend on.

    Raises:
        ValueError: The file holds results of something else, is no such file, or another run
            writes it.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self._head = f"{to_json({'key': key}, repr(str(path)))}\n".encode()
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise ValueError(f"{str(path)!r} is a link or no file: remove it, results go there")
        self._lock: _Lock | None = _locked(path) if path.exists() else None
        # Where whole lines end, as far as this object knows, and whether half a line follows them.
        # Without the lock the file is that of a run that has just begun it.
        self._end, self._is_torn = self._whole() if self._lock else 0, self._lock is not None
        self._cut()

    def __iter__(self) -> Iterator[Any]:
        """The results that were written so far.

        Raises:
            ValueError: A line is broken; names it.
        """
        if self._end:
            self._cut()
            left = self._end
            # A line at a time: hours of a video do not fit into memory.
            with self.path.open("rb") as stream:
                for number, line in enumerate(stream, 1):
                    left -= len(line)
                    if left < 0:
                        return
                    if number > 1:
                        yield parse_json(line, f"line {number} of {str(self.path)!r}")

    def append(self, results: list[Any]) -> None:
        """Write results, one a line; one that fails leaves the file for the next to mend.

        Raises:
            ValueError: A result is no JSON, or another run writes the file.
            OSError: Writing failed.
        """
        where = f"a result for {str(self.path)!r}"
        lines = [f"{to_json(result, where)}\n".encode() for result in results]
        data = b"".join(lines if self._end else [self._head, *lines])
        if self._lock is None or not self._lock.holds(self.path):
            self._lock = _locked(self.path)
        self._cut()
        if self._size() != self._end:
            raise _other_run(self.path)
        self._is_torn = True
        with self.path.open("ab") as stream:
            stream.write(data)
        self._end += len(data)
        self._is_torn = False

    def remove(self) -> None:
        """The results are elsewhere now."""
        self.path.unlink(missing_ok=True)
        self._end, self._lock = 0, None

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _cut(self) -> None:
        """Take off what a kill or a full disk left of the last line."""
        if self._is_torn and self._size() > self._end:
            os.truncate(self.path, self._end)
        self._is_torn = False

    def _whole(self) -> int:
        """Bytes of whole lines, once it is known whose they are."""
        if not self.path.exists():
            return 0
        with self.path.open("rb") as stream:
            head = stream.readline()
            whole = len(head) if head.endswith(b"\n") else 0
            for line in stream:
                whole += len(line) if line.endswith(b"\n") else 0
        if whole:
            try:
                is_own = parse_json(head, "its first line")["key"] == self.key
            except (ValueError, KeyError, TypeError):
                is_own = False
        else:
            is_own = self._head.startswith(head)
        if not is_own:
            raise ValueError(
                f"{str(self.path)!r} holds the beginning of another run, with other files or "
                "settings: remove it, or name another place to write to"
            )
        return whole


class _Lock:
    """A file that this process alone goes on with; until nobody in it refers to this object.

    Children that are forked, such as workers that load pictures, do not keep it.
    """

    def __init__(self, handle: int) -> None:
        self._handle: int | None = handle
        _locks.add(self)

    def holds(self, path: Path) -> bool:
        """Whether it is of the file that now bears this name."""
        try:
            return self._handle is not None and os.path.samestat(
                os.fstat(self._handle), os.stat(path)
            )
        except FileNotFoundError:
            return False

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    __del__ = release


_locks: weakref.WeakSet[_Lock] = weakref.WeakSet()


def _release_all() -> None:
    for lock in list(_locks):
        lock.release()


if hasattr(os, "register_at_fork"):  # Windows has none
    os.register_at_fork(after_in_child=_release_all)


def _locked(path: Path) -> _Lock:
    """The lock of a file, which is made where it is not there."""
    for _ in range(_ATTEMPTS):
        held = next((lock for lock in list(_locks) if lock.holds(path)), None)
        if held is not None:  # of another object of this process, whose size tells of the other
            return held
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        lock = _Lock(os.open(path, flags, 0o666))
        try:
            if fcntl is not None:
                fcntl.flock(lock._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise _other_run(path) from None
            # A disk of another machine may know no locks.
        if lock.holds(path):  # else its owner removed it while it was opened
            return lock
    raise _other_run(path)


def _other_run(path: Path) -> ValueError:
    return ValueError(f"another run writes {str(path)!r}: wait for it, then run again")
