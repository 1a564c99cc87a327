"""Fonts that have the letters of a text: Pillow's own, matplotlib's, and those that are installed.

matplotlib, which knows what is installed, is imported when a letter is met that Pillow's own font
lacks.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Iterator, Sequence

from PIL import ImageFont

# After DejaVu Sans, which comes with matplotlib and has no Chinese; FG-CLIP 2 reads it.
MORE_FONTS = ("Noto Sans CJK SC", "Noto Sans SC", "WenQuanYi Micro Hei", "SimHei", "PingFang SC")
_OWN_LETTERS = frozenset(map(chr, range(32, 127)))
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def families() -> list[str]:
    """Names of installed fonts, in the order in which they are tried."""
    installed = {font.name for font in _manager().fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in MORE_FONTS if name in installed)]


def advise_font() -> None:
    """Warn that letters are drawn as boxes."""
    warnings.warn(
        "no font here has all the letters of these texts, which are drawn as boxes: install "
        f"one, such as {MORE_FONTS[0]}",
        stacklevel=3,
    )


def runs(text: str, size: int) -> list[tuple[str, Font]]:
    """A text in pieces, each with a font of its letters.

    Args:
        text: One line.
        size: In pixels.
    """
    if _OWN_LETTERS.issuperset(text):
        return [(text, _own_font(size))]
    pieces: list[tuple[str, Font]] = []
    for letters, path in _pieces(text):
        pieces.append((letters, _font(path, size) if path else _own_font(size)))
    return pieces


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Neighbours that one font has go together: scripts join their letters."""
    whole = next((path for path in _paths() if all(_has(path, letter) for letter in text)), None)
    if whole is not None:
        yield text, whole
        return
    start, current = 0, ""
    for place, letter in enumerate(text):
        path = next((path for path in _paths() if _has(path, letter)), None)
        if path is None:
            advise_font()
            path = current
        if path != current and place > start:
            yield text[start:place], current
            start = place
        current = path
    yield text[start:], current


@functools.cache
def _own_font(size: int) -> Font:
    return ImageFont.load_default(size=size)


@functools.cache
def _font(path: str, size: int) -> Font:
    return ImageFont.truetype(path, size)


@functools.cache
def _paths() -> Sequence[str]:
    manager = _manager()
    wanted = families()
    # Any other font is better than a box.
    paths = [manager.findfont(name) for name in wanted]
    others = (font.fname for font in manager.fontManager.ttflist if _is_readable(font))
    return list(dict.fromkeys([*paths, *sorted(others)]))


def _is_readable(font) -> bool:
    # Of symbols for formulas, and of boxes with a name for each script.
    return font.style == "normal" and not font.name.startswith(("cm", "STIX", "Last Resort"))


@functools.lru_cache(maxsize=4096)
def _has(path: str, letter: str) -> bool:
    return letter.isspace() or _face(path).get_char_index(ord(letter)) != 0


@functools.cache
def _face(path: str):
    return importlib.import_module("matplotlib.ft2font").FT2Font(path)


@functools.cache
def _manager():
    return importlib.import_module("matplotlib.font_manager")
