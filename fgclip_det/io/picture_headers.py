"""What the head of a picture's file tells: its size as stored, and how viewers turn it."""

from __future__ import annotations

import os
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, Image

from fgclip_det.io.images import opened_picture, read_image

# What ends a whole file. Of other formats the end is not looked at.
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
_TAIL = 64
# Orientations of EXIF's that swap width and height.
_SIDEWAYS = (5, 6, 7, 8)


# By orientation of EXIF's, what undoes it to pixels (H, W, ...).
_UNDO = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: np.rot90,
    7: lambda pixels: pixels.swapaxes(0, 1)[::-1, ::-1],
    8: lambda pixels: np.rot90(pixels, -1),
}


class PictureHeader(NamedTuple):
    """Size of a picture.

    Attributes:
        width: Of the picture as stored, in pixels.
        height: Likewise.
        sideways: Whether viewers swap the sides, by the EXIF entry.
    """

    width: int
    height: int
    sideways: bool


def read_header(path: str | os.PathLike) -> PictureHeader:
    """Read the size of a picture, and make sure that the file was not cut off.

    A JPEG or PNG file is whole if it ends as such a file ends (so does MPO, of phones, which is
    JPEG with further pictures); one that does not is decoded, which is slow. Of other formats only
    the header is read, and damage in the middle is never seen.

    Args:
        path: A file that Pillow reads.

    Raises:
        ValueError: Missing, empty, truncated, too large, no picture or no file on a disk.
    """
    with opened_picture(path) as (image, stream):
        header = _header(image)
        whole = _is_whole(stream, image.format)
    if not whole:
        # Cameras append films and notes: whether the picture itself is cut, decoding tells.
        read_image(path, "stored")
    return header


def undo_tiff_turn(path: str | os.PathLike, pixels: np.ndarray) -> np.ndarray:
    """Pixels of a decoder that follows no orientation of EXIF's but that of TIFF files.

    OpenCV and Pillow turn these whatever they are told.

    Args:
        path: The picture. Of a file on no disk nothing is undone.
        pixels: (H, W, ...) as decoded.

    Returns:
        As stored; `pixels` itself unless it is a TIFF file that was turned.
    """
    if os.path.splitext(path)[1].lower() not in (".tif", ".tiff"):
        return pixels
    try:
        with opened_picture(path) as (image, _):
            entry, kind = image.getexif().get(ExifTags.Base.Orientation), image.format
    except (OSError, ValueError):
        return pixels
    if kind != "TIFF" or entry not in _UNDO:
        return pixels
    return np.ascontiguousarray(_UNDO[entry](pixels))


def check_stored_size(
    path: str | os.PathLike, stored: tuple[int, int], annotated: tuple[float, float]
) -> None:
    """Make sure that annotations are of a picture as it is stored, not as it is shown.

    Boxes of an annotation file count the pixels of the file. Viewers turn a picture by its EXIF
    entry; where only the turned one has the annotated size, its boxes fit nothing that is read. Of
    a square picture nobody can tell: it is taken as stored. Other sizes pass.

    Args:
        path: The picture; read only for the message.
        stored: Its width and height in the file, in pixels.
        annotated: Width and height that the annotation file tells.

    Raises:
        ValueError: The annotated size is that of the turned picture.
    """
    width, height = stored
    if width == height or tuple(annotated) != (height, width):
        return
    told = (
        f"picture {str(path)!r} is stored with {width} x {height} px, but annotated with "
        f"{height} x {width}: "
    )
    try:
        sideways = read_header(path).sideways
    except (OSError, ValueError):  # of a remote file, say
        sideways = False
    if sideways:
        raise ValueError(
            f"{told}its boxes are of the picture as viewers turn it by its EXIF entry, and boxes "
            "must be of the stored one; save such pictures turned, without the entry "
            "(ImageMagick: mogrify -auto-orient)"
        )
    raise ValueError(f"{told}swap width and height in the annotation file")


def _header(image: Image.Image) -> PictureHeader:
    sideways = image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
    width, height = image.size
    if sideways and image.format == "TIFF":  # whose size Pillow gives as shown
        width, height = height, width
    return PictureHeader(width, height, sideways)


def _is_whole(stream: BinaryIO, kind: str | None) -> bool:
    end = _ENDS.get(kind or "")
    if end is None:
        return True
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _TAIL))
    return stream.read(_TAIL).rstrip(b"\0\r\n").endswith(end)
