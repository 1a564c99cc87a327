"""Bytes of files that have an end: pipes and devices are refused before anything waits for them."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_FREE_MEMORY_UNKNOWN = 8 << 30
_PIECE = 1 << 20
# Unix has the first, Windows the second.
_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@contextmanager
def open_regular(path: str | os.PathLike, what: str = "file") -> Iterator[BinaryIO]:
    """A file to read from, by its bytes.

    Args:
        path: The file, or a link to it.
        what: What to call it in messages.

    Raises:
        ValueError: It is missing, a folder, a pipe or a device, or may not be read.
    """
    where = f"{what} {str(path)!r}"
    if "\0" in os.fsdecode(path):
        raise ValueError(f"{where} cannot be read (no name holds a zero): check the path")
    try:
        # Asked first, since opening a device may already change something; asked again of what was
        # opened, since another file may have taken the name in between.
        _check_regular(os.stat(path), where)
        # Opening a pipe without this flag waits for whoever writes to it.
        with os.fdopen(os.open(path, os.O_RDONLY | _NO_WAIT), "rb") as stream:
            _check_regular(os.fstat(stream.fileno()), where)
            yield stream
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{where} cannot be read ({reason}): check the path") from error


def read_bytes(path: str | os.PathLike, what: str = "file", max_bytes: int | None = None) -> bytes:
    """Content of a file, unpacked where its name ends in ``.gz``.

    Args:
        path: The file, or a link to it.
        what: What to call it in messages.
        max_bytes: The most that it may hold, unpacked; None for a quarter of the free memory.

    Raises:
        ValueError: As `open_regular`, or the file is larger or not gzipped.
    """
    limit = free_memory() // 4 if max_bytes is None else max_bytes
    with open_regular(path, what) as stream:
        opened = gzip.GzipFile(fileobj=stream) if Path(path).suffix == ".gz" else stream
        content = io.BytesIO()
        # Reading all that is allowed at once would take as much memory for a file of two bytes.
        while content.tell() <= limit and (piece := opened.read(_PIECE)):
            content.write(piece)
    if content.tell() > limit:
        raise ValueError(
            f"{what} {str(path)!r} is larger than {limit / 1e6:.0f} MB, the most that is read"
            f"{' (a quarter of the free memory)' if max_bytes is None else ''}: is it another "
            "file? If not, split it"
        )
    return content.getvalue()


def read_text(path: str | os.PathLike, what: str = "file", max_bytes: int | None = None) -> str:
    """Content of a UTF-8 file, with or without its mark.

    Raises:
        ValueError: As `read_bytes`, or it is no text.
    """
    try:
        text = read_bytes(path, what, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{what} {str(path)!r} cannot be read as text ({error.reason}): unpack it or save "
            "it as UTF-8"
        ) from None
    if "\0" in text:
        raise ValueError(
            f"{what} {str(path)!r} cannot be read as text (it holds zeros, as UTF-16 does): save "
            "it as UTF-8"
        )
    return text


def sha256_of(path: str | os.PathLike, what: str = "file") -> str:
    """Hex digits of the checksum of a file, of which a piece is in memory at a time.

    Args:
        path: The file.
        what: What it is, for messages.

    Raises:
        ValueError: See `open_regular`.
    """
    digest = hashlib.sha256()
    with open_regular(path, what) as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def free_memory() -> int:
    """Bytes that this machine can still give; 8 GiB where it does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            sizes = dict(line.split(":", 1) for line in lines)
        return int(sizes["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return _FREE_MEMORY_UNKNOWN


def _check_regular(status: os.stat_result, where: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{where} cannot be read (a pipe or a device): give a file on the disk")
