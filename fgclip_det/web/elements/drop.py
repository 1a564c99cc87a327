"""Where pictures come in, as an element of the page; its half in the browser is ``drop.js``."""

from __future__ import annotations

from nicegui.element import Element


class Drop(Element, component="drop.js"):
    """A button and the whole page to drop files on, the clipboard, and a camera.

    Args:
        url: Where files are sent.
        most_bytes: Of one file, which the server sees to as well.
    """

    def __init__(self, url: str, most_bytes: int) -> None:
        super().__init__()
        self._props["url"], self._props["most"] = url, most_bytes
