"""What a line of an error holds: few of many things, and nothing that a terminal would obey."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection
from typing import Any

_SHOWN = 5
_LONGEST = 100


def quoted(value: Any) -> str:
    """The `repr` of a value that a file gave; of one that is long the beginning and its length."""
    try:
        text = plain(repr(value))
    except (ValueError, RecursionError):  # a number of thousands of digits, or a deep list
        return f"{type(value).__name__} beyond all measure"
    return _cut(text, _LONGEST)


def one_line(error: object) -> str:
    """The first line of what another package reports, cut where it is long."""
    lines = str(error).strip().splitlines()
    return _cut(plain(lines[0].strip()) if lines else type(error).__name__, 2 * _LONGEST)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}... (of {len(text)} characters)"


def plain(text: str) -> str:
    """A text with escapes in place of control characters."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def path_text(path: str) -> str:
    """A path as text: bytes of it that are no UTF-8 are escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def listed(items: Collection[Any], what: str, joint: str = ", ") -> str:
    """The first five of some things; all of more than five stand in a file that is named.

    Args:
        items: Texts, or what is shown by its `repr`.
        what: What they are, such as "missing pictures"; the file bears its name.
        joint: Between two.
    """
    shown = [plain(item if isinstance(item, str) else repr(item)) for item in items]
    first = joint.join(_cut(item, 5 * _LONGEST) for item in shown[:_SHOWN])
    if len(shown) <= _SHOWN:
        return first
    path = _written(shown, what)
    where = "" if path is None else f", all in {path!r}"
    return f"{first}{joint}and {len(shown) - _SHOWN} more ({len(shown)} {what}{where})"


def _written(lines: list[str], what: str) -> str | None:
    """The file that holds the lines; None where the temporary folder takes none."""
    path = None
    try:
        handle, path = tempfile.mkstemp(".txt", f"fgclip_det-{'-'.join(what.split())}-")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.writelines(f"{line}\n" for line in lines)
    except OSError:
        if path is not None:
            os.unlink(path)
        return None
    return path
