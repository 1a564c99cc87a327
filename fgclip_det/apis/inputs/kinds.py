"""Kinds of files among what users give, told by how their names end."""

from __future__ import annotations

import os

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
VIDEO_EXTENSIONS = (
    ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv",
    ".webm", ".wmv",
)  # fmt: skip


def is_video(path: str | os.PathLike) -> bool:
    """Whether a file or an address is a video by the ending of its name; it is not opened."""
    name = os.fspath(path)
    if is_url(name):
        name = name.partition("#")[0].partition("?")[0]
    return os.path.splitext(name)[1].lower() in VIDEO_EXTENSIONS


def is_url(path: object) -> bool:
    """Whether it is an ``http://`` or ``https://`` address."""
    return isinstance(path, str) and path.lower().startswith(("http://", "https://"))
