"""Colours and dashes of names: the same for a name wherever it is drawn.

The colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), made to be told apart by
colour-blind readers. Where there are more names than colours, dashes tell them apart too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

_COLORS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
# Drawn and left out, in line widths; none for a line without gaps.
_DASHES = ((), (6, 3), (2, 2))


class Sign(NamedTuple):
    """How the boxes of a name look.

    Attributes:
        color: RGB.
        dashes: Drawn and left out, in line widths; () for a line without gaps.
    """

    color: tuple[int, int, int]
    dashes: tuple[int, ...]

    @property
    def ink(self) -> tuple[int, int, int]:
        """Black or white, whichever has the higher contrast with the colour (WCAG 2)."""
        red, green, blue = (_linear(value / 255) for value in self.color)
        luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        return (0, 0, 0) if (luminance + 0.05) ** 2 > 1.05 * 0.05 else (255, 255, 255)


def signs_of(names: Iterable[str]) -> dict[str, Sign]:
    """The sign of each name of a vocabulary.

    A name has the same one in each vocabulary, unless another name there comes first to it: up to
    7 names differ in colour, up to 21 in colour or dashes.
    """
    signs: dict[str, Sign] = {}
    free = [[*range(len(_COLORS))] for _ in _DASHES]
    for name in dict.fromkeys(names):
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
        wanted = int.from_bytes(digest[:4], "big") % len(_COLORS)
        level = min(len(signs) // len(_COLORS), len(_DASHES) - 1)
        colors = free[level] or [*range(len(_COLORS))]
        color = min(colors, key=lambda one: (one - wanted) % len(_COLORS))
        if color in free[level]:
            free[level].remove(color)
        signs[name] = Sign(_COLORS[color], _DASHES[level])
    return signs


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
