"""Patterns such as ``photos/**/*.jpg``, for shells that leave them as they are."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable

from fgclip_det.apis.inputs.kinds import EXTENSIONS


def is_pattern(path: str) -> bool:
    """Whether a path that does not exist may be meant as a pattern."""
    return glob.has_magic(path)


def matches(pattern: str, hidden: Iterable[str] = ()) -> tuple[list[tuple[str, str]], list[str]]:
    """What a pattern is of, sorted: ``*``, ``?``, ``[ab]``, and ``**`` for folders of any depth.

    As in a shell, names that begin with a period are matched only where the pattern has it.

    Args:
        pattern: A path with such signs.
        hidden: Real paths of folders whose pictures are left out.

    Returns:
        Pictures with their names, the way to them from the pattern's first sign on, without
        ending; and folders, which a pattern with ``**`` has none of, since it names what is in
        them.
    """
    parts = pattern.split(os.sep)
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    root = len(os.sep.join([*parts[:fixed], ""]))
    pictures, folders = [], []
    for path in sorted(glob.iglob(pattern, recursive=True)):
        stem, ending = os.path.splitext(path)
        if ending.lower() in EXTENSIONS and not os.path.isdir(path):
            if not (hidden and _is_below(os.path.realpath(path), hidden)):
                pictures.append((path, stem[root:]))
        elif "**" not in parts and os.path.isdir(path):
            folders.append(path)
    return pictures, folders


def _is_below(path: str, folders: Iterable[str]) -> bool:
    return any(path.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)
