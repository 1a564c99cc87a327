"""A hostile input: how it is made, who gets it, and which exit codes are right; and its room."""

from __future__ import annotations

import copy
import json
import os
import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile.shared_data import Data

DONE, REFUSED, PARTLY, NO_SPACE, INTERRUPTED, PIPE_CLOSED = 0, 2, 3, 1, 130, 141
# Of a fork that fell over itself.
NO_RESULT = 99
Make = Callable[[Path, Data], Sequence[object]]


@dataclass(frozen=True)
class Case:
    """One run of one command.

    Attributes:
        id: Such as ``picture/zero bytes/demo``; distinct.
        command: ``fgclip-det`` or the file name of a tool.
        make: Fills the folder that the command runs in, and gives the arguments.
        codes: Exit codes that are right.
        errors: Lines that begin with ``error:`` if the exit code is not 0; None for any number.
        check: Says what is wrong with what the run left in its folder, or gives None.
        inside: Called in the child, right before the command: what happens while it runs.
        stdout: ``file``, ``full`` (a device without space), ``pipe`` (that nobody reads) or
            ``closed``.
        stderr: Likewise.
        encoding: Of stdout.
        places: Top-level names in the folder that the command may change; all else is an input.
    """

    id: str
    command: str
    make: Make
    codes: frozenset[int]
    errors: int | None = 1
    check: Callable[[Path, int], str | None] | None = None
    inside: Callable[[Path], None] | None = None
    stdout: str = "file"
    stderr: str = "file"
    encoding: str = "utf-8"
    places: tuple[str, ...] = ("out",)


@dataclass(frozen=True)
class Room:
    """Where a case works, and what its fork tells the parent."""

    path: Path

    @property
    def folder(self) -> Path:
        """The working directory of the command."""
        return self.path / "case"

    @property
    def before(self) -> Path:
        """JSON of what was in `folder` before the command ran."""
        return self.path / "before.json"

    @property
    def forbidden(self) -> Path:
        """One line for each thing that was executed."""
        return self.path / "forbidden"

    @property
    def broken(self) -> Path:
        """Traceback of a case that could not be made."""
        return self.path / "broken"

    def said(self, stream: str) -> str:
        """What the command wrote to ``stdout`` or ``stderr``."""
        path = self.path / stream
        return path.read_text("utf-8", "surrogateescape") if path.exists() else ""


def case(id: str, command: str, make: Make, codes: int | Iterable[int], **settings: Any) -> Case:
    """A `Case`; `codes` may be one."""
    codes = frozenset([codes] if isinstance(codes, int) else codes)
    return Case(id, command, make, codes, **settings)


REMOVED = object()


def with_value(value: Any, place: Sequence[str | int], new: Any) -> Any:
    """A copy of a JSON value with another one at a place; `REMOVED` takes it out."""
    value = copy.deepcopy(value)
    part = value
    for key in place[:-1]:
        part = part[key]
    if new is REMOVED:
        del part[place[-1]]
    else:
        part[place[-1]] = new
    return value


def write_json(path: Path, value: Any) -> Path:
    """Whatever Python's own writer makes of it: NaN, lone surrogates, endless numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_file(path: Path, content: bytes | str) -> Path:
    """A file in a folder that is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    path.write_bytes(data)
    return path


def written(content: bytes | str) -> Callable[[Path, Data], object]:
    """Writes a file of this content to a path."""
    return lambda path, data: write_file(path, content)


# What stands where a file is meant.
NO_FILES: dict[str, Callable[[Path, Data], object]] = {
    "a pipe": lambda path, data: os.mkfifo(path),
    "a folder": lambda path, data: path.mkdir(),
    "/dev/zero": lambda path, data: path.symlink_to("/dev/zero"),
    "missing": lambda path, data: None,
    "a link to itself": lambda path, data: path.symlink_to(path.name),
}


class Payload:
    """Creates ``canary`` in the working directory when it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch canary",)


PAYLOAD = pickle.dumps(Payload())
PAYLOADS: dict[str, bytes] = {
    "os.system": PAYLOAD,
    "protocol 0": pickle.dumps(Payload(), protocol=0),
    "exec": b'cbuiltins\nexec\n(S\'open("canary", "w")\'\ntR.',
    "eval by getattr": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR"
    b"(S'touch canary'\ntR.",
    "in a dict": pickle.dumps({"state_dict": {"a": Payload()}}),
    "subprocess": b"csubprocess\ncheck_output\n(S'/usr/bin/touch canary'\nI1\ntR.",
}

# Whole JSON files of the wrong shape; none is a right file of any kind.
JSON_SHAPES: dict[str, bytes] = {
    "empty": b"",
    "spaces": b" \n\t ",
    "null": b"null",
    "true": b"true",
    "number": b"5",
    "text": b'"a"',
    "list of numbers": b"[1, 2]",
    "list of lists": b"[[[]]]",
    "list of null": b"[null]",
    "deep lists": b"[" * 100_000,
    "deep closed lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"names":' * 100_000 + b"1" + b"}" * 100_000,
    "NaN": b"NaN",
    "1e999": b"[1e999]",
    "10**400": b"[1" + b"0" * 400 + b"]",
    "10**5000": b"1" + b"0" * 5000,
    "cut": b'{"images": [{"id": 1, "na',
    "two values": b"{} {}",
    "half a surrogate pair": b'["\\ud800"]',
    "bytes": bytes(range(256)) * 4,
    "NULs": b"\0" * 1000,
    "odd UTF-16": b"\xff\xfe[\0",
    "control characters": b'{"\\u001b[31m\\u0007\\n": {"\\u001b]0;x\\u0007": "\\u009b"}}',
    "pickle": PAYLOAD,
}

# What no option for a number takes; "--option=value" keeps a minus from being an option.
NO_NUMBERS = ("", "x", "1e400", "nan", "0x10", "\u0661\u0662", "1\0", "9" * 5000, "-0x1")
