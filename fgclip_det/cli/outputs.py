"""Where results of pictures go, under names that are free or their own."""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from fgclip_det.apis.inputs.kinds import is_url
from fgclip_det.apis.inputs.piped import STANDARD_INPUT
from fgclip_det.exit_codes import UNSAFE
from fgclip_det.io import check_writable, path_text, to_json, write_bytes, write_image

# What commands write below OUT, and never take for pictures.
FOLDERS = ("preds", "vis", "heatmaps")
# Of most file systems, in bytes.
_LONGEST_NAME = 255


def check_folder(folder: Path, given: str, option: str = "--out-dir") -> None:
    """Find out before the work is done, and without leaving a trace, whether it can be written to.

    Args:
        folder: Where results go.
        given: What was typed.
        option: Behind which option.

    Raises:
        ValueError: It cannot.
    """
    try:
        check_writable(folder)
    except (OSError, ValueError) as error:
        is_file = isinstance(error, NotADirectoryError)
        reason = getattr(error, "strerror", None) or error
        if is_file:
            reason = f"{error.filename!r} is a file, not a folder"
        raise ValueError(
            f"{option} {given!r} cannot be written to ({reason}): name another"
        ) from error


def write_result(
    folder: Path,
    name: str,
    suffix: str,
    data: bytes,
    picture: str,
    owner_of: Callable[[Path], str],
    drawing_of: Callable[[str], Path] | None = None,
) -> str:
    """Write the result of a picture, and never over that of another.

    A name that is taken by another picture's result, or that is too long or holds what no terminal
    should see, is told apart by 8 hex digits of the picture's path. Whoever writes a name first has
    it: a second command that writes into the same folder finds it taken. Pictures of the standard
    input, which have no path, are numbered.

    Args:
        folder: Where to; it is made if missing, as are folders that `name` names.
        name: Wanted name, without its ending; parts are divided by "/".
        suffix: The ending.
        data: What to write; `owner_of` finds the picture in it.
        picture: The picture's file.
        owner_of: The path of the picture that a file is of; raises `ValueError` for others.
        drawing_of: Where the drawing of a name is going to be. One that is there without a result
            is somebody's picture, and its name is taken.

    Returns:
        The name that it has, without its ending.

    Raises:
        OSError: It cannot be written.
    """
    mine, is_piped = _identity(picture), picture == STANDARD_INPUT
    for candidate in _numbered(name) if is_piped else candidates(name, mine, suffix):
        path = folder / f"{candidate}{suffix}"
        if drawing_of is not None and _is_foreign(drawing_of(candidate), path, picture):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_bytes(path, data, is_new=True)
        except (FileExistsError, IsADirectoryError):
            if is_piped or not _is_of(path, mine, owner_of):
                continue
            write_bytes(path, data)
        if candidate != name:
            warnings.warn(
                f"the result of {picture!r} is in {str(path)!r}: its own name is taken, or cannot "
                "be used",
                stacklevel=2,
            )
        return candidate
    raise FileExistsError(f"all names for the result of {picture!r} are taken")


def write_drawing(path: Path, image: Image.Image, result: Path) -> None:
    """Write the drawing that belongs to a result, which goes where the drawing cannot be written.

    Raises:
        OSError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, image)
    except BaseException:
        result.unlink(missing_ok=True)
        raise


def print_line(values: Mapping[str, Any], where: str) -> None:
    """Print a JSON line at once, in ASCII, so that any terminal takes it and obeys nothing in it.

    Raises:
        ValueError: It holds what JSON does not know; `where` says what it is.
    """
    line = to_json(values, where).replace("\x7f", "\\u007f")
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def source_text(picture: str) -> str:
    """What a result says it is of: the absolute path of a file; a URL, or "-", as it is."""
    return picture if _is_no_file(picture) else path_text(os.path.abspath(picture))


def _identity(picture: str) -> str:
    """What tells a picture from others, however it was named."""
    return picture if _is_no_file(picture) else path_text(os.path.realpath(picture))


def _is_no_file(picture: str) -> bool:
    return picture == STANDARD_INPUT or is_url(picture)


def _is_foreign(drawing: Path, result: Path, picture: str) -> bool:
    # In this order: whoever draws has written the result before.
    if os.path.lexists(drawing) and not os.path.lexists(result):
        return True
    return os.path.realpath(drawing) == os.path.realpath(picture)


def _is_of(path: Path, mine: str, owner_of: Callable[[Path], str]) -> bool:
    try:
        return _identity(owner_of(path)) == mine
    except (ValueError, OSError):
        return False


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def candidates(name: str, mine: str, suffix: str) -> Iterator[str]:
    """Names that can be written, from the wanted one to one that nothing else has.

    Args:
        name: Wanted name, without its ending; parts are divided by "/".
        mine: What tells the picture or video from others.
        suffix: The longest ending.
    """
    way, stem = os.path.split(UNSAFE.sub("_", name))
    if os.path.join(way, stem) == name and len((stem + suffix).encode()) <= _LONGEST_NAME:
        yield name
    digest = hashlib.sha256(mine.encode()).hexdigest()
    for digits in (8, len(digest)):
        mark = f"-{digest[:digits]}"
        room = _LONGEST_NAME - len(mark) - len(suffix)
        yield str(PurePosixPath(way, stem.encode()[:room].decode(errors="ignore") + mark))
