"""A picture with what was found in it, as an element of the page; its half in the browser is
``picture_view.js``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nicegui.element import Element
from nicegui.events import GenericEventArguments

# Of a picture on the screen, in pixels, before a browser tells it.
_FIRST_WIDTH = 420
_WIDTHS = (120, 2000)


class PictureView(Element, component="picture_view.js"):
    """A picture.

    What a browser tells is checked here; nothing else of it is used.

    Args:
        name: Of the picture.
        size: Its width and height in pixels. Not the picture itself: Python keeps a closed page
            until it looks for cycles, and a file would stay in memory with it.
        url: Where its pixels are.
        on: Called with an event's name and what it tells: "resized"; "like" and "unlike" with
            "name" and "box" (xyxy in pixels of the picture); "heat" with "name"; "removed".

    Attributes:
        size: See above.
        shown_width: On the screen, in pixels.
    """

    def __init__(
        self,
        name: str,
        size: tuple[int, int],
        url: str,
        on: Callable[[str, dict[str, Any]], Any],
    ) -> None:
        super().__init__()
        self.size, self.shown_width = size, _FIRST_WIDTH
        self._props["src"] = url
        self._props["name"] = name
        self._props["size"] = [*size]
        self._on = on
        self.show("", [], "")
        for kind in ("resized", "like", "unlike", "heat", "removed"):
            self.on(kind, self._hearing(kind))

    def show(self, svg: str, rows: list[dict[str, Any]], told: str) -> None:
        """Show an answer.

        Args:
            svg: Drawn over the picture: all text of it escaped.
            rows: See `overlay.rows_of`.
            told: A line below.
        """
        self._props["svg"], self._props["rows"], self._props["told"] = svg, rows, told
        self.update()

    def lay(self, layer: str, caption: str) -> None:
        """Lay a heat map over it; "" for none."""
        self._props["layer"], self._props["caption"] = layer, caption
        self.update()

    def set_busy(self, told: str) -> None:
        """Say what it waits for; "" for nothing."""
        self._props["busy"] = told
        self.update()

    def _hearing(self, kind: str) -> Callable[[GenericEventArguments], Any]:
        def hear(event: GenericEventArguments) -> Any:
            told = _checked(kind, event.args, self.size)
            if kind == "resized" and told is not None:
                self.shown_width = told["width"]
            return None if told is None else self._on(kind, told)

        return hear


def _checked(kind: str, told: Any, size: tuple[int, int]) -> dict[str, Any] | None:
    """What an event tells, or None where no page of ours would tell it."""
    told = told if isinstance(told, dict) else {}
    if kind == "removed":
        return {}
    if kind == "resized":
        width = told.get("width")
        if not _is_number(width):
            return None
        low, high = _WIDTHS
        # Of a picture as tall as a tower the drawing is no taller than the highest width.
        return {"width": int(min(max(width, low), high, high * size[0] / size[1] + 1))}
    name, box = told.get("name"), told.get("box")
    if not isinstance(name, str):
        return None
    if kind == "heat":
        return {"name": name}
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return None
    return {"name": name, "box": [float(value) for value in box]}


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < 1e6 and math.isfinite(value)
