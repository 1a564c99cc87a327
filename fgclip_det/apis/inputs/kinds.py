"""Kinds of things among what users give, most told by how their names end."""

from __future__ import annotations

import os
import re
import stat

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
VIDEO_EXTENSIONS = (
    ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv",
    ".webm", ".wmv",
)  # fmt: skip
_WEBCAM = re.compile(r"webcam(?::\d+)?")


def is_video(path: str | os.PathLike) -> bool:
    """Whether a file or an address is a video by the ending of its name; it is not opened."""
    name = os.fspath(path)
    if is_url(name):
        name = name.partition("#")[0].partition("?")[0]
    return os.path.splitext(name)[1].lower() in VIDEO_EXTENSIONS


def is_webcam(source: str | os.PathLike) -> bool:
    """Whether it names a camera: "webcam", or "webcam:1" for the second."""
    return _WEBCAM.fullmatch(os.fspath(source)) is not None


def is_url(path: object) -> bool:
    """Whether it is an ``http://`` or ``https://`` address."""
    return isinstance(path, str) and path.lower().startswith(("http://", "https://"))


def is_folder(path: str) -> bool:
    """Whether it is a folder.

    Raises:
        OSError: There is no such path, or it cannot be looked at. A link to nothing is a file that
            cannot be read, as it is where a folder holds it.
    """
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except OSError:
        if os.path.islink(path):
            return False
        raise
