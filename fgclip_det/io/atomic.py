"""The one way to write: a file or a folder is whole or as it was, whoever else writes it.

Everything is written under a short name of its own in the same folder, which is made exclusively,
so that a link that somebody planted there is never followed, and then takes its final name. Folders
that are links are followed; a link at the final name is replaced, and its target left as it was.
The mode of a file that was there is not kept: the umask decides, as of every new file.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from fgclip_det.io.json_files import to_json

_SUFFIX = ".partial"
_ATTEMPTS = 100
# Windows has neither.
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


@contextmanager
def replaced_file(path: str | os.PathLike, is_new: bool = False) -> Iterator[Path]:
    """A path to write to, whose file takes the place of `path` once it is written and on disk.

    It is there, empty, and bears another suffix than `path`: who writes tells the format. Any
    number of threads and processes may write the same file: one of theirs is there in the end.

    Args:
        path: The file to write; its folder exists.
        is_new: Whether no file may have this name: of several writers one gets it.

    Raises:
        OSError: Writing failed; `path` is as it was, and nothing is left beside it.
            `FileExistsError` where it `is_new` and something has its name.
    """
    path = Path(path)
    with _named_errors(path):
        _check_name(path)
        with _own_file(path.parent) as partial:
            mode = partial.stat().st_mode
            yield partial
            _sync(partial, mode)
            if is_new:
                _take_free_name(partial, path)
            else:
                os.replace(partial, path)


@contextmanager
def replaced_text(path: str | os.PathLike) -> Iterator[TextIO]:
    """A UTF-8 text to write piece by piece, see `replaced_file`.

    Line ends are kept as they are written. Where the name of `path` ends in ``.gz`` the text is
    gzipped, without a name and a time: the same text gives the same bytes.
    """
    path = Path(path)
    with replaced_file(path) as partial, _opened(partial) as raw:
        packed = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw
        with io.TextIOWrapper(packed, encoding="utf-8", newline="") as text:
            yield text


def write_bytes(path: str | os.PathLike, data: bytes, is_new: bool = False) -> None:
    """Write a file of some bytes, see `replaced_file`."""
    with replaced_file(path, is_new) as partial, _opened(partial) as stream:
        stream.write(data)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a UTF-8 text with its line ends as they are, see `replaced_file`.

    Raises:
        ValueError: The text holds half a surrogate pair, which has no UTF-8.
        OSError: Writing failed.
    """
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{str(path)!r} cannot be written ({error}): mend the text") from None
    write_bytes(path, data)


def write_json(
    path: str | os.PathLike, value: Any, indent: int | None = 1, ensure_ascii: bool = True
) -> None:
    """Write a JSON file that ends in a line end, see `replaced_file`.

    Args:
        path: The file; its folder exists.
        value: What to write.
        indent: Spaces of each level; None writes one line.
        ensure_ascii: Whether all but ASCII is written as escapes.

    Raises:
        ValueError: The value holds what JSON does not know or `read_json` refuses.
        OSError: Writing failed.
    """
    write_text(path, f"{to_json(value, repr(str(path)), indent, ensure_ascii)}\n")


@contextmanager
def replaced_folder(path: str | os.PathLike) -> Iterator[Path]:
    """A folder to write to, which takes the place of `path` once all is written.

    Any number of threads and processes may write the same folder: one of theirs is there in the
    end.

    Args:
        path: The folder to write, or a link, which is replaced; the folder that it is in exists.

    Raises:
        OSError: Writing failed; `path` is as it was, and nothing is left beside it.
    """
    path = Path(path)
    with _named_errors(path):
        _check_name(path, is_folder=True)
        with _own_folder(path.parent) as partial:
            yield partial
            _take_name(partial, path)


@contextmanager
def replaced_files(folder: str | os.PathLike) -> Iterator[Path]:
    """A folder to write files to, which take their names in `folder` once all are on the disk.

    What else is in `folder` stays. A kill while the files are renamed may leave some of each.

    Args:
        folder: Where the files go; it exists.

    Raises:
        OSError: Writing failed; `folder` is as it was.
    """
    folder = Path(folder)
    with _named_errors(folder), _own_folder(folder) as partial:
        with _own_file(partial) as probe:
            mode = probe.stat().st_mode
        yield partial
        written = sorted(partial.iterdir())
        for path in written:
            _check_name(folder / path.name)
            _sync(path, mode)
        with _own_folder(folder) as aside:
            _take_names(written, folder, aside)


def disk_error(error: Exception, path: str | os.PathLike) -> OSError:
    """What a writer that is not Python's reports of the disk, as the error that it was."""
    found = re.search(r"os error (\d+)", str(error))
    code = int(found[1]) if found else errno.EIO
    return OSError(code, os.strerror(code), os.fspath(path))


def check_writable(folder: str | os.PathLike) -> None:
    """Find out whether a folder can be made and written to, without leaving a trace.

    Raises:
        OSError: It cannot; names the folder, or what stands in its way.
    """
    existing = Path(folder).absolute()
    while not _exists(existing):
        existing = existing.parent
    with _named_errors(existing), _own_file(existing):
        pass


def _exists(path: Path) -> bool:
    """True for a link to nothing too; a name that cannot be, as it is too long, is an error."""
    with _named_errors(path):
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


def _own_name(folder: Path) -> Path:
    return folder / f".{secrets.token_hex(8)}{_SUFFIX}"


def _own_file(folder: Path) -> AbstractContextManager[Path]:
    """An empty file that was not there before."""

    def make(path: Path) -> None:
        # The mode is what a program gives that knows nothing better: the umask decides.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _NO_FOLLOW, 0o666))

    return _own(folder, make, lambda path: path.unlink(missing_ok=True))


def _own_folder(folder: Path) -> AbstractContextManager[Path]:
    """An empty folder that was not there before."""
    return _own(folder, Path.mkdir, lambda path: shutil.rmtree(path, ignore_errors=True))


@contextmanager
def _own(
    folder: Path, make: Callable[[Path], None], remove: Callable[[Path], None]
) -> Iterator[Path]:
    """What is made exclusively, and is gone in the end, also where Ctrl-C comes as it is made."""
    for _ in range(_ATTEMPTS):
        partial, is_own = _own_name(folder), True
        try:
            try:
                make(partial)
            except FileExistsError:
                is_own = False
                continue
            yield partial
            return
        finally:
            if is_own:
                remove(partial)
    raise FileExistsError(errno.EEXIST, "no free name for a temporary file")


def _check_name(path: Path, is_folder: bool = False) -> None:
    """Fail before the work and not after it: what is no such file or folder, or too long a name."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode) != is_folder and not stat.S_ISLNK(mode):
        code = errno.ENOTDIR if is_folder else errno.EISDIR
        raise OSError(code, os.strerror(code))
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
        # A new file would take the place of /dev/null, for whoever may do so.
        raise OSError(errno.EEXIST, "a device or a pipe stands there, name another file")


def _opened(partial: Path) -> BinaryIO:
    """A file to write to, unless a link took its place since it was made."""
    flags = os.O_WRONLY | getattr(os, "O_BINARY", 0) | _NO_FOLLOW
    return os.fdopen(os.open(partial, flags), "wb")


def _sync(partial: Path, mode: int) -> None:
    """Hand a file to the disk; some file systems tell only here that they are full.

    Its mode is that of the file that was made first: who writes may have put another in its place.
    """
    handle = os.open(partial, os.O_RDWR | _NO_FOLLOW)
    try:
        if hasattr(os, "fchmod"):  # Windows has none
            os.fchmod(handle, stat.S_IMODE(mode))
        os.fsync(handle)
    finally:
        os.close(handle)


def _take_free_name(partial: Path, path: Path) -> None:
    """Give a file its final name, unless something has it."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
    except OSError:
        # Not all file systems know links: the name is taken by an empty file first.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _NO_FOLLOW, 0o666))
        os.replace(partial, path)


def _take_name(partial: Path, path: Path) -> None:
    """Give a folder its final name, whoever else takes it meanwhile."""
    for _ in range(_ATTEMPTS):
        _check_name(path, is_folder=True)
        with _set_aside(path):
            try:
                os.rename(partial, path)
                return
            except OSError as error:
                # Another writer's folder, or a link, took the name: it is the one to replace now.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
    raise FileExistsError(errno.EEXIST, "others write it all the time")


def _take_names(written: list[Path], folder: Path, aside: Path) -> None:
    """Give files their final names, all of them or none; `aside` holds those that had them."""
    begun: list[tuple[str, bool]] = []
    try:
        for path in written:
            was_there = os.path.lexists(folder / path.name)
            begun.append((path.name, was_there))
            if was_there:
                os.replace(folder / path.name, aside / path.name)
            os.replace(path, folder / path.name)
    except BaseException:
        for name, was_there in begun:
            if not was_there:
                (folder / name).unlink(missing_ok=True)
            elif os.path.lexists(aside / name):
                os.replace(aside / name, folder / name)
        raise


@contextmanager
def _set_aside(path: Path) -> Iterator[None]:
    """Free a name of its folder, which comes back if it is not taken."""
    aside = _own_name(path.parent)
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        yield
        return
    try:
        yield
    except BaseException:
        try:
            os.rename(aside, path)
        except OSError:
            if os.path.lexists(path):  # another's, else this is all there is
                _remove(aside)
        raise
    _remove(aside)


def _remove(aside: Path) -> None:
    if aside.is_symlink():
        aside.unlink()
    else:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Errors of the disk that name nothing, or a temporary name, name what was to be written."""
    try:
        yield
    except OSError as error:
        named = Path(os.fsdecode(error.filename or _SUFFIX))
        if error.errno is None or not any(part.endswith(_SUFFIX) for part in named.parts):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
