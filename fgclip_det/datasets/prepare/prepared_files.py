"""Files made from others: written whole or not at all, and checked line by line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from fgclip_det.io import check_writable, replaced_text

_EXCERPT = 60


@dataclass(frozen=True)
class PreparedFile:
    """A JSON object to be written.

    The same content always gives the same bytes, one entry of a list a line, so that a file can be
    compared without being held in memory a second time.

    Attributes:
        name: File name.
        head: Keys that are written first, each on one line.
        lists: Keys whose lists are written one entry a line.
        summary: What it holds, in words.
    """

    name: str
    head: dict[str, Any] = field(default_factory=dict)
    lists: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    summary: str = ""

    def lines(self) -> Iterator[tuple[str, str]]:
        """Each line with its end, and a name of its content for messages."""
        keys = [*self.head, *self.lists]
        yield "the beginning", "{\n"
        for key in keys:
            comma = "" if key == keys[-1] else ","
            if key in self.head:
                yield repr(key), f"{json.dumps(key)}: {json.dumps(self.head[key])}{comma}\n"
                continue
            yield f"the beginning of {key!r}", f"{json.dumps(key)}: [\n"
            last = len(self.lists[key]) - 1
            for index, entry in enumerate(self.lists[key]):
                ending = "" if index == last else ","
                yield f"id {entry['id']} of {key!r}", f"{json.dumps(entry)}{ending}\n"
            yield f"the end of {key!r}", f"]{comma}\n"
        yield "the end", "}\n"

    @property
    def num_lines(self) -> int:
        """Number of lines."""
        return 2 + len(self.head) + sum(2 + len(entries) for entries in self.lists.values())


def write_files(folder: str | Path, files: Iterable[PreparedFile]) -> list[str]:
    """Write files beside their final places, then move them there when all are whole.

    A run that fails or is killed before leaves the files that were there. What is not yet whole has
    a name with a leading dot; a run that is killed outright leaves it behind.

    Args:
        folder: Made if missing.
        files: Made one after another, so that sources need not be held all at once.

    Returns:
        The summary of each file, behind its path.

    Raises:
        ValueError: The folder cannot be written to, or the disk is full.
    """
    folder = Path(folder)
    _check_writable(folder)
    summaries = []
    try:
        with ExitStack() as stack:
            for file in files:
                final = folder / file.name
                with _named_errors(final):
                    _write(stack.enter_context(replaced_text(final)), file)
                summaries.append(f"{final}: {file.summary}")
    except OSError as error:
        raise _unwritten(error.filename or folder, error) from error
    return summaries


def check_files(folder: str | Path, files: Iterable[PreparedFile]) -> list[str]:
    """Compare files on disk with what they must be; writes nothing.

    Args:
        folder: Where they lie.
        files: What they must be.

    Returns:
        The summary of each file, behind its path.

    Raises:
        ValueError: A file is missing or differs; the first difference is named.
    """
    summaries = []
    for file in files:
        path = Path(folder) / file.name
        difference = _first_difference(path, file)
        if difference is not None:
            raise ValueError(f"{str(path)!r} {difference}: run the tool again without --check")
        summaries.append(f"{path}: {file.summary}")
    return summaries


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Says which file an error of the disk kept from being written."""
    try:
        yield
    except OSError as error:
        raise _unwritten(path, error) from error


def _unwritten(path: str | Path, error: OSError) -> ValueError:
    return ValueError(
        f"{str(path)!r} cannot be written ({error.strerror or error}); what was there is still "
        "whole: make room, or choose another folder with --out"
    )


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_writable(folder)
    except OSError as error:
        raise ValueError(
            f"cannot write to the folder {str(folder)!r} ({error.strerror}): choose another with "
            "--out"
        ) from error


def _write(stream: TextIO, file: PreparedFile) -> None:
    for _, line in _progress(f"write {file.name}", file):
        stream.write(line)
    stream.flush()
    # No file takes its place before all are on the disk.
    os.fsync(stream.fileno())


def _progress(description: str, file: PreparedFile) -> Iterable[tuple[str, str]]:
    return tqdm(
        file.lines(), desc=description, total=file.num_lines, unit="line", disable=None, leave=False
    )


def _first_difference(path: Path, file: PreparedFile) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as stream:
            pairs = zip_longest(stream, _progress(f"check {file.name}", file))
            for number, (found, expected) in enumerate(pairs, start=1):
                what, line = expected or ("after the end", "")
                if found != line:
                    return f"differs in line {number}, {what}: {_excerpts(found or '', line)}"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def _excerpts(found: str, expected: str) -> str:
    pairs = zip_longest(found, expected)
    first = next(index for index, (one, other) in enumerate(pairs) if one != other)
    start = max(0, first - _EXCERPT // 2)
    here, there = (text[start : start + _EXCERPT] for text in (found, expected))
    return f"found {here!r}, expected {there!r}"
