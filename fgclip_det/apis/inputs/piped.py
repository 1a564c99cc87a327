"""What comes through the standard input where "-" is given: a picture, or a list of them."""

from __future__ import annotations

import os
import re
import sys
import tempfile

import numpy as np

from fgclip_det.io import read_image

STANDARD_INPUT = "-"
MAX_BYTES = 500_000_000
# How files of pictures begin, as no list of paths does.
_BEGINNING = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|II\*\0|MM\0\*|RIFF....WEBP|\0\0\x01\0|P[1-6]\s+[0-9#]"
    rb"|BM....\0\0\0\0|\0\0\0.(?:ftyp(?:avif|avis|heic|heix|mif1)|jP  |JXL )",
    re.DOTALL,
)


class PipedPicture(str):
    """The text "-", with the picture's bytes that came through the standard input.

    Attributes:
        data: As of a picture's file.
    """

    __slots__ = ("data",)
    data: bytes

    @classmethod
    def of(cls, data: bytes) -> PipedPicture:
        """With these bytes."""
        made = cls(STANDARD_INPUT)
        made.data = data
        return made

    def pixels(self) -> np.ndarray:
        """As a file is read: (H, W, 3) uint8, RGB.

        Raises:
            ValueError: Truncated, too large, or no picture.
        """
        with tempfile.TemporaryDirectory(prefix="fgclip-det-") as folder:
            path = os.path.join(folder, "picture")
            with open(path, "wb") as file:
                file.write(self.data)
            try:
                return read_image(path)
            except ValueError as error:
                told = str(error).replace(repr(path), "from the standard input")
                raise ValueError(told) from None


def read_standard_input() -> list[str]:
    """The picture that is piped in, or else the paths, one a line (or parted by zero bytes).

    Raises:
        ValueError: Nothing or too much comes.
    """
    stream = sys.stdin.buffer
    data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(
            f"more than {MAX_BYTES / 1e6:.0f} MB came through the standard input: name files"
        )
    if _BEGINNING.match(data):
        return [PipedPicture.of(data)]
    parts = data.split(b"\0" if b"\0" in data else b"\n")
    paths = [os.fsdecode(part.removesuffix(b"\r")) for part in parts if part.strip()]
    if not paths:
        raise ValueError(
            "nothing came through the standard input: pipe a picture into it, or paths, one a line"
        )
    return [f".{os.sep}{path}" if path == STANDARD_INPUT else path for path in paths]
