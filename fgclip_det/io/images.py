"""The one way to read a picture, as (H, W, 3) uint8 RGB, and to write one.

What becomes of pictures of every kind, whoever reads them:

* Orientation is the caller's to say: ``"shown"``, as viewers turn it by its EXIF entry and as its
  user sees it, or ``"stored"``, as the boxes of most annotation files count its pixels.
* Transparency is put on white. Grey, palette, LAB and CMYK become RGB.
* 16-bit values are divided by 257: 65535 becomes 255. Whole numbers of 32 bits are taken for 16-bit
  ones unless all are below 256.
* Floats are taken for 0 to 255 and clipped; NaN is 0.
* Of an animation, and of a file of several pages, the first picture is read.
* Only files on a disk are read, no pipes and devices, of `FORMATS` alone, and no picture of more
  than `MAX_PIXELS`, whatever Pillow's own limit is.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from fgclip_det.io.atomic import write_bytes
from fgclip_det.io.regular_files import open_regular

Orientation = Literal["shown", "stored"]
# Formats of photographs and screenshots, whatever a file's name says. Pillow reads more: of
# PostScript it starts another program. HEIF and JXL are read where a plugin of Pillow's is
# registered, such as pillow_heif.
FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "JXL", "PNG", "PPM", "TGA")
FORMATS += ("TIFF", "WEBP")
MAX_PIXELS = 179_000_000
MAX_PADDED_PIXELS = 64_000_000
_BITS_16_TO_8 = 257
# What undoes each orientation of EXIF's; all but two undo themselves.
_TURNED_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


class _Limit(int):
    """As Pillow's limit: Pillow warns of more pixels and refuses twice as many, this refuses."""

    def __rmul__(self, other: int) -> int:
        return int(self)


class _PillowLimit:
    """Holds Pillow's limit, which is global, at `MAX_PIXELS` while any thread is inside.

    A program may have set it for its own files. Some formats decode when they are opened, and some
    look at the limit again when they are decoded.
    """

    def __init__(self) -> None:
        self._limit = _Limit(MAX_PIXELS)
        self._lock = threading.Lock()
        self._inside = 0
        self._before: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, self._limit
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._restore()

    def forks_safely(self) -> _PillowLimit:
        """No thread but the one that forks is in the child, which must not wait for the others."""
        if hasattr(os, "register_at_fork"):  # Windows has none
            os.register_at_fork(
                before=self._lock.acquire,
                after_in_parent=self._lock.release,
                after_in_child=self._begin_anew,
            )
        return self

    def _begin_anew(self) -> None:
        if self._inside:
            self._inside = 0
            self._restore()
        self._lock.release()

    def _restore(self) -> None:
        if Image.MAX_IMAGE_PIXELS is self._limit:  # else somebody set it meanwhile
            Image.MAX_IMAGE_PIXELS = self._before


_limited_pixels = _PillowLimit().forks_safely()


def read_image(path: str | os.PathLike, orientation: Orientation = "shown") -> np.ndarray:
    """Read a picture; the module tells what becomes of those of other kinds than 8-bit RGB.

    Args:
        path: A file that Pillow reads.
        orientation: "shown" turns it by its EXIF entry; "stored" does not.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ValueError: Missing, empty, truncated, too large, no picture or no file on a disk.
    """
    if orientation not in ("shown", "stored"):
        raise ValueError(f"orientation {orientation!r} is unknown: choose 'shown' or 'stored'")
    with opened_picture(path) as (image, _):
        return to_rgb(_turned(image, orientation))


def decode_image(
    data: bytes,
    where: str,
    orientation: Orientation = "stored",
    most_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """As `read_image`, of the bytes of a file, such as one that lies in an archive.

    Args:
        data: Of the file.
        where: What it is called in messages, such as ``picture 'a.jpg' of 'b.tar'``.
        orientation: As of `read_image`.
        most_pixels: Pictures of more are not decoded.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ValueError: Empty, truncated, too large or no picture.
    """
    if orientation not in ("shown", "stored"):
        raise ValueError(f"orientation {orientation!r} is unknown: choose 'shown' or 'stored'")
    if not data:
        raise ValueError(f"{where} is empty: copy it again")
    width = height = 0
    with _decoded(io.BytesIO(data), where, most_pixels) as image:
        width, height = image.size
        if width * height <= most_pixels:
            return to_rgb(_turned(image, orientation))
    raise ValueError(
        f"{where} has {width} x {height} pixels, more than {most_pixels / 1e6:g} million: make it "
        "smaller"
    )


@contextmanager
def opened_picture(path: str | os.PathLike) -> Iterator[tuple[Image.Image, BinaryIO]]:
    """Pillow's image of a file of `FORMATS`, and the file; what goes wrong inside is said of it.

    Raises:
        ValueError: Missing, empty, truncated, too large, no picture or no file on a disk.
    """
    where = f"picture {str(path)!r}"
    with open_regular(path, "picture") as stream:
        if not os.fstat(stream.fileno()).st_size:
            raise ValueError(f"{where} is empty: copy it again")
        with _decoded(stream, where) as image:
            yield image, stream


@contextmanager
def _decoded(stream: BinaryIO, where: str, most_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Pillow's image of a stream that is not empty, see `opened_picture`."""
    Image.init()
    # Not every Pillow is built with all of them.
    formats = [name for name in FORMATS if name in Image.OPEN]
    try:
        with _limited_pixels, Image.open(stream, formats=formats) as image:
            yield image
    except UnidentifiedImageError:
        name = where.removeprefix("picture ")
        raise ValueError(
            f"{name} is not a picture of a known format: give a PNG or JPEG file"
        ) from None
    except Image.DecompressionBombError:
        raise ValueError(
            f"{where} is too large (more than {most_pixels / 1e6:.0f} million pixels): make it "
            "smaller"
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # broken bytes raise whatever a format's reader runs into
        raise ValueError(f"{where} cannot be read ({error}): truncated, copy it again") from None


def to_rgb(image: Image.Image) -> np.ndarray:
    """A Pillow picture of any mode as (H, W, 3) uint8, RGB, as it is stored; see the module."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if image.mode != "I" or values.max(initial=0) > 255:
            values = values // _BITS_16_TO_8
        transparent = np.asarray(image) == image.info.get("transparency")
        values = np.where(transparent, 255, values)
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        values = np.nan_to_num(np.asarray(image), posinf=255, neginf=0)
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    elif image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        color = image.info.get("transparency")
        if isinstance(color, tuple) and max(color) > 255:
            # Of a PNG of 16 bits, of whose colors Pillow keeps the upper half.
            image.info["transparency"] = tuple(value >> 8 for value in color)
        image = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def write_image(path: str | os.PathLike, image: Image.Image) -> None:
    """Write a picture, whole or not at all, in the format that the suffix of `path` names.

    Raises:
        ValueError: No format has this suffix.
        OSError: Writing failed; `path` is as it was.
    """
    suffix = os.path.splitext(path)[1].lower()
    kind = Image.registered_extensions().get(suffix)
    if kind not in Image.SAVE:
        raise ValueError(
            f"no picture can be written to {str(path)!r}: {suffix!r} is no known suffix, name it "
            ".png or .jpg"
        )
    # To memory: Pillow would open a name once more, and follow a link that was put there.
    stream = io.BytesIO()
    image.save(stream, format=kind)
    write_bytes(path, stream.getvalue())


def check_padded_size(width: int, height: int, where: str = "a picture") -> None:
    """Make sure that a picture still fits into memory once it is resized and padded.

    Args:
        width: In pixels, after padding.
        height: Likewise.
        where: Which picture, for the message.

    Raises:
        ValueError: It has more than `MAX_PADDED_PIXELS`.
    """
    if width * height > MAX_PADDED_PIXELS:
        raise ValueError(
            f"{where} would be padded to {width} x {height} pixels, more than "
            f"{MAX_PADDED_PIXELS / 1e6:.0f} million: cut it or make it smaller"
        )


def _turned(image: Image.Image, orientation: Orientation) -> Image.Image:
    if orientation == "shown":
        return ImageOps.exif_transpose(image)
    # Pillow turns TIFF files by itself when it decodes them, and removes the entry.
    entry = image.getexif().get(ExifTags.Base.Orientation) if image.format == "TIFF" else None
    image.load()
    return image if entry not in _TURNED_BACK else image.transpose(_TURNED_BACK[entry])
