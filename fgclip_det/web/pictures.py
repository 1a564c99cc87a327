"""Pictures of users: their files, their pixels, and what a browser is shown of them."""

from __future__ import annotations

import io
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from fgclip_det.io import decode_image, quoted, read_image
from fgclip_det.web.limits import Limits

# Browsers scale a picture down anyway; the longer side in pixels.
_SHOWN_SIDE = 1600
# Small ones are shown as they are, to the pixel.
_LOSSLESS_PIXELS = 500_000


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that was sent, or that lies on the server.

    Attributes:
        name: Of its file, without folders; told by a browser, so never a path here.
        width: In pixels, as viewers turn it.
        height: Likewise.
        shown: What a browser is sent, PNG or JPEG: made here, whatever was sent.
        media_type: Of that.
        data: The file that was sent; None of one on the server.
        path: Of a file on the server, which its owner named; None of one that was sent.
        key: Nobody guesses it.
    """

    name: str
    width: int
    height: int
    shown: bytes
    media_type: str
    data: bytes | None = None
    path: Path | None = None
    key: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @classmethod
    def sent(cls, name: str, data: bytes, limits: Limits) -> Picture:
        """Of a file that was sent.

        Raises:
            ValueError: It is too large, broken, or no picture.
        """
        name = _base(name)
        limits.check_upload(len(data), name)
        pixels = _decoded(data, name, limits)
        return cls(name, pixels.shape[1], pixels.shape[0], *_encoded(pixels), data=data)

    @classmethod
    def on_server(cls, path: Path) -> Picture:
        """Of a file on the server, which has the limits of the package alone.

        Raises:
            ValueError: It cannot be read.
        """
        pixels = read_image(path)
        return cls(path.name, pixels.shape[1], pixels.shape[0], *_encoded(pixels), path=path)

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return len(self.shown) + len(self.data or b"")

    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8, RGB, decoded anew: files are smaller than pixels."""
        if self.data is None:
            return read_image(self.path)
        return decode_image(self.data, f"picture {self.name!r}", "shown")


def _base(name: str) -> str:
    """The last part of a name, short, as some browsers send paths."""
    return name.replace("\\", "/").rsplit("/", 1)[-1][-100:] or "picture"


def _decoded(data: bytes, name: str, limits: Limits) -> np.ndarray:
    where = f"picture {quoted(name)}"
    pixels = decode_image(data, where, "shown", limits.pixels)
    if min(pixels.shape[:2]) < 2:
        raise ValueError(
            f"{where} is {pixels.shape[1]} x {pixels.shape[0]} pixels: nothing can be seen in it"
        )
    return pixels


def _encoded(pixels: np.ndarray) -> tuple[bytes, str]:
    image = Image.fromarray(pixels)
    lossless = image.width * image.height <= _LOSSLESS_PIXELS
    image.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
    stream = io.BytesIO()
    image.save(stream, "PNG" if lossless else "JPEG", **({} if lossless else {"quality": 90}))
    return stream.getvalue(), "image/png" if lossless else "image/jpeg"
