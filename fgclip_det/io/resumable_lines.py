"""Results that grow line by line in a file, so that a run that was cut off goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


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
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise ValueError(f"{str(path)!r} is a link or no file: remove it, results go there")
        self._repair()

    def __iter__(self) -> Iterator[Any]:
        """The results that were written so far."""
        if self.path.exists():
            with self.path.open(encoding="utf-8") as stream:
                next(stream)
                yield from map(json.loads, stream)

    def append(self, results: list[Any]) -> None:
        """Write results, one a line, and hand them to the disk."""
        lines = [] if self.path.exists() else [json.dumps({"key": self.key})]
        lines += map(json.dumps, results)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write("".join(f"{line}\n" for line in lines))

    def remove(self) -> None:
        """The results are elsewhere now."""
        self.path.unlink(missing_ok=True)

    def _repair(self) -> None:
        """Check whose the file is, and take off what a kill left of its last line."""
        if not self.path.exists():
            return
        with self.path.open("rb") as stream:
            head = stream.readline()
            whole = len(head) if head.endswith(b"\n") else 0
            for line in stream:
                whole += len(line) if line.endswith(b"\n") else 0
        if not whole:
            self.remove()
            return
        try:
            found = json.loads(head)["key"]
        except (ValueError, KeyError, TypeError):
            found = None
        if found != self.key:
            raise ValueError(
                f"{str(self.path)!r} holds the beginning of another run, with other files or "
                "settings: remove it, or name another place to write to"
            )
        with self.path.open("rb+") as stream:
            stream.truncate(whole)
