"""Results that grow line by line in a file, so that a run that was cut off goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fgclip_det.io.json_files import parse_json, read_json_lines, to_json


class ResumableLines:
    """A file of JSON lines, the first of which tells what the others are results of.

    Args:
        path: The file; one that is there is gone on with. Its folder exists.
        key: Of all that the results depend on.

    Raises:
        ValueError: The file holds results of something else, or is no such file.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self._head = f"{to_json({'key': key}, repr(str(path)))}\n".encode()
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise ValueError(f"{str(path)!r} is a link or no file: remove it, results go there")
        # Where whole lines end, as far as this object knows, and whether half a line follows them.
        self._end, self._is_torn = self._whole(), True
        self._cut()

    def __iter__(self) -> Iterator[Any]:
        """The results that were written so far.

        Raises:
            ValueError: A line is broken; names it.
        """
        if self._end:
            self._cut()
            lines = (value for _, value in read_json_lines(self.path))
            next(lines)
            yield from lines

    def append(self, results: list[Any]) -> None:
        """Write results, one a line; one that fails leaves the file for the next to mend.

        Raises:
            ValueError: A result is no JSON, or another run writes the file.
            OSError: Writing failed.
        """
        where = f"a result for {str(self.path)!r}"
        lines = [f"{to_json(result, where)}\n".encode() for result in results]
        data = b"".join(lines if self._end else [self._head, *lines])
        self._cut()
        if self._size() != self._end:
            raise ValueError(f"another run writes {str(self.path)!r}: wait for it, then run again")
        self._is_torn = True
        with self.path.open("ab") as stream:
            stream.write(data)
        self._end += len(data)
        self._is_torn = False

    def remove(self) -> None:
        """The results are elsewhere now."""
        self.path.unlink(missing_ok=True)
        self._end = 0

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
