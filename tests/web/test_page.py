"""A page without a server: what it holds."""

from __future__ import annotations

import weakref
from types import SimpleNamespace

import pytest

pytest.importorskip("nicegui", reason="the page's extra [web] is not installed")
from nicegui import ui
from nicegui.client import Client

from fgclip_det.web.engine import Engine
from fgclip_det.web.page import Page
from fgclip_det.web.pictures import Picture
from fgclip_det.web.snippets import Model


def test_it_keeps_no_picture_that_its_session_forgot() -> None:
    # Python keeps a closed page until it looks for cycles, and what it holds.
    page = Page(Engine(Model(), None), "key", "user")
    page.session = SimpleNamespace(is_looked_at=lambda key: True)
    with Client(ui.page("/")) as page._client, ui.element() as page._board:
        picture = Picture("a.png", 20, 10, b"shown", "image/png", b"file")
        page._show(picture)
    assert page._views[picture.key].size == (20, 10)
    seen = weakref.ref(picture)
    del picture
    assert seen() is None
