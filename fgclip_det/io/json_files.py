"""The one way to read and make JSON: what every later step can hold, or a line on what is wrong.

Refused, with the file's name: NaN and infinities, numbers beyond a float64, half surrogate pairs
(which no file can be written with), nesting beyond Python's stack, files that are truncated or too
large, and in all but annotations and results an object that has a key twice. UTF-8 with or without
its mark, UTF-16 and UTF-32 are read.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from fgclip_det.io.messages import quoted
from fgclip_det.io.regular_files import read_bytes

MAX_JSON_BYTES = 64_000_000
_ID_LIMIT = 2**63
# A number of fewer digits with an exponent of two is below the largest float64, about 1.8e308.
_MANY_DIGITS = b"0" * 200
_LONG_EXPONENT = b"0e000"
_NUMBER_PARTS = bytes(
    ord("0") if code in b"0123456789" else ord("e") if code in b"eE" else ord(" ")
    for code in range(256)
)
_EXPONENT = re.compile(r"[eE]\+?[0-9]{3}")
_SCAN_LENGTH = 1 << 22
_SCAN_OVERLAP = 500
# Whole pairs and escaped backslashes are passed over; what is left of the group is half a pair.
_HALF_PAIR = re.compile(
    r"\\(?:\\|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(u[dD][89a-fA-F][0-9a-fA-F]{2}))"
)
_RAW_HALF = re.compile("[\ud800-\udfff]")


def read_json(
    path: str | os.PathLike, what: str = "file", max_bytes: int | None = MAX_JSON_BYTES
) -> Any:
    """Content of a JSON file, unpacked where its name ends in ``.gz``.

    Args:
        path: The file, or a link to it.
        what: What to call it in messages.
        max_bytes: The most that it may hold; None, for annotations and results, is a quarter of the
            free memory.

    Raises:
        ValueError: The file is missing, no file on a disk, too large, empty, no text, no complete
            JSON, or holds what the module refuses.
    """
    content = read_bytes(path, what, max_bytes)
    return parse_json(content, f"{what} {str(path)!r}", unique_keys=max_bytes is not None)


def read_json_lines(
    path: str | os.PathLike, what: str = "file", max_bytes: int | None = None
) -> Iterator[tuple[str, Any]]:
    """Yield the name of each line for messages, such as ``line 3 of 'a.jsonl'``, and its value.

    Only line ends end a line, not Unicode's separators; blank lines are passed over.

    Args:
        path: The file, in UTF-8.
        what: What to call it in messages.
        max_bytes: As of `read_json`.

    Raises:
        ValueError: As `read_json`; names the line.
    """
    content = read_bytes(path, what, max_bytes).removeprefix(b"\xef\xbb\xbf")
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            where = f"line {number} of {str(path)!r}"
            yield where, parse_json(line, where)


def parse_json(content: bytes | str, where: str, unique_keys: bool = False) -> Any:
    """The value of a JSON text.

    Args:
        content: The text.
        where: What it is called in messages, such as ``file 'a.json'``.
        unique_keys: Whether to refuse an object that has a key twice, the first of which would be
            lost. It takes time, and each line of large files is one that a program wrote.

    Raises:
        ValueError: It is empty, no text or no complete JSON, or holds what the module refuses.
    """
    text = content if isinstance(content, str) else _decoded(content, where)
    del content  # as large as the text
    if not text.strip():
        raise ValueError(f"{where} is no complete JSON (it is empty): truncated? Get it again")
    options: dict[str, Any] = {"parse_constant": _refuse}
    if unique_keys:
        options["object_pairs_hook"] = _to_object
    if _may_hold_gigantic_numbers(text):
        options |= {"parse_int": _to_int, "parse_float": _to_float}
    try:
        value = json.loads(text, **options)
    except RecursionError:
        raise ValueError(
            f"{where} is no complete JSON that can be read (nested too deep): get it again"
        ) from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{where} is no complete JSON ({error}): truncated? Get it again"
        ) from None
    except _Refused as error:
        raise ValueError(f"{where} holds {error}: mend or get it again") from None
    half = _half_pair(text)
    if half is not None:
        raise ValueError(f"{where} holds half a surrogate pair ({half}): mend the text")
    return value


def to_json(
    value: Any,
    where: str,
    indent: int | None = None,
    ensure_ascii: bool = True,
    default: Callable[[Any], Any] | None = None,
) -> str:
    """The JSON text of a value, which `parse_json` reads.

    Args:
        value: What to write.
        where: What it is called in messages.
        indent: Spaces of each level; None makes one line.
        ensure_ascii: Whether all but ASCII is written as escapes.
        default: Makes of what JSON does not know something that it does.

    Raises:
        ValueError: The value holds what JSON does not know or what `parse_json` refuses.
    """
    options: dict[str, Any] = {"indent": indent, "ensure_ascii": ensure_ascii, "default": default}
    try:
        text = json.dumps(value, allow_nan=False, **options)
        if _may_hold_gigantic_numbers(text):
            json.loads(text, parse_int=_to_int, parse_float=_to_float)
    except (TypeError, ValueError, RecursionError, _Refused) as error:
        raise ValueError(f"{where} cannot be written as JSON ({error})") from error
    half = _half_pair(text)
    if half is not None:
        raise ValueError(
            f"{where} cannot be written (half a surrogate pair, {half}): mend the text"
        )
    return text


def is_id(value: Any) -> bool:
    """True if a value of a JSON file can be an id: a whole number of 64 bits, and no bool."""
    return type(value) is int and -_ID_LIMIT <= value < _ID_LIMIT


class _Refused(Exception):
    """A number or a key that is refused."""


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode(json.detect_encoding(content))
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is no text ({error.reason}): unpack it first") from None


def _refuse(text: str) -> NoReturn:
    raise _Refused(f"{text}, which is no number of JSON")


def _to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise _Refused(f"the key {quoted(twice)} twice in one object")
    return made


def _may_hold_gigantic_numbers(text: str) -> bool:
    # Looks at all digits at once, since a function for each number would double the time; and at
    # a part at a time, since copies of the whole may not fit into memory.
    for start in range(0, len(text), _SCAN_LENGTH):
        part = text[start : start + _SCAN_LENGTH + _SCAN_OVERLAP]
        shapes = part.encode("utf-8", "surrogatepass").translate(_NUMBER_PARTS, b"+")
        if _MANY_DIGITS in shapes:
            return True
        if _LONG_EXPONENT in shapes:
            found = (at.start() for at in _EXPONENT.finditer(part))
            if any(_begins_outside(part, place) for place in found):
                return True
    return False


def _begins_outside(text: str, place: int) -> bool:
    """Whether an exponent may be that of a number: "3e456" in a file's name is none."""
    before = text[max(place - _SCAN_OVERLAP, 0) : place].rstrip("0123456789.-+eE")
    return before[-1:] in ("", "[", ":", ",", " ", "\t", "\r", "\n")


def _to_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _Refused(f"the number {_shortened(text)}, which is beyond a float64")
    return value


def _to_int(text: str) -> int:
    _to_float(text)
    return int(text)


def _shortened(text: str) -> str:
    return text if len(text) <= 20 else f"{text[:10]}... of {len(text)} characters"


def _half_pair(text: str) -> str | None:
    """The first half of a surrogate pair, as an escape, if there is one."""
    raw = None if text.isascii() else _RAW_HALF.search(text)
    if raw:
        return f"\\u{ord(raw.group()):04x}"
    # A single character is found ten times faster than two.
    if "\\" not in text or ("\\ud" not in text and "\\uD" not in text):
        return None
    return next((f"\\{found[1]}" for found in _HALF_PAIR.finditer(text) if found[1]), None)
