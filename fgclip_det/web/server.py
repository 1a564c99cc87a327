"""The server: it listens, then the model is read."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from nicegui import app as nicegui_app
from nicegui import ui
from starlette.requests import ClientDisconnect

from fgclip_det.exit_codes import EXIT_USER_ERROR, say, say_error
from fgclip_det.web.address import Address
from fgclip_det.web.engine import Engine
from fgclip_det.web.gate import UPLOADS, Gate, TooLarge
from fgclip_det.web.page import Page

# Seconds: the page that opens first is served before imports take the processor.
_HEAD_START = 1.0
# Seconds in which a file has to arrive, and files that are decoded at once.
_UPLOAD_TIME, _UPLOADS = 60, 4
# Seconds for which the page of a browser whose connection broke is kept. NiceGUI asks for a sign of
# life each 0.8 of them, and gives the browser 0.4 of them, which a busy machine may need.
_RECONNECT = 30.0
# Bytes of a message of a browser.
_MESSAGE = 1_000_000


class Desk:
    """All pages that are open.

    Args:
        engine: Answers them.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.pages: dict[str, Page] = {}
        self._decoding = asyncio.Semaphore(_UPLOADS)

    def admit(self, user: str) -> Page | None:
        """A new page; None where there are as many as may be."""
        if len(self.pages) >= self.engine.limits.sessions:
            return None
        key = secrets.token_urlsafe(32)
        self.pages[key] = Page(self.engine, key, user)
        return self.pages[key]

    def close(self, key: str) -> None:
        """Forget a page and all that was sent to it."""
        page = self.pages.pop(key, None)
        if page is not None:
            page.close()

    def of(self, key: str, request: Request) -> Page | None:
        """A page, if it is this browser's."""
        page = self.pages.get(key)
        return page if page is not None and page.user == request.scope[_USER] else None

    async def receive(self, page: Page, request: Request) -> None:
        """Read a file that is sent.

        Raises:
            ValueError: It is refused.
        """
        name = request.query_params.get("name", "picture")
        parts: list[bytes] = []
        try:
            await asyncio.wait_for(self._arriving(request, parts), _UPLOAD_TIME)
            async with self._decoding:
                await page.receive(name, b"".join(parts))
        except asyncio.TimeoutError:
            raise ValueError(f"it did not arrive within {_UPLOAD_TIME} s") from None
        finally:
            self.engine.budget.give(sum(map(len, parts)))

    async def _arriving(self, request: Request, parts: list[bytes]) -> None:
        """Nobody waits for a file of another, which may be slow, but all together have a bound."""
        async for part in request.stream():
            self.engine.budget.take(len(part))
            parts.append(part)


_USER = "fgclip_det.user"


def serve(address: Address, engine: Engine, opens_browser: bool = True) -> int:
    """Serve until Ctrl-C; returns the exit code.

    Args:
        address: That listens.
        engine: Not started yet.
        opens_browser: Whether the page is opened here.
    """
    _tell(address, engine)
    inner = _application(engine)
    hosts = None if address.token else frozenset({"localhost", "127.0.0.1", "[::1]", address.host})
    upload_bytes = engine.limits.upload_bytes
    gate = Gate(inner, address.token, hosts, address.port, upload_bytes)
    config = uvicorn.Config(
        gate, log_level="warning", ws_max_size=_MESSAGE, server_header=False, lifespan="on"
    )
    server = uvicorn.Server(config)
    watch = _Watch(engine, server, address.url if opens_browser else None)
    inner.state.watch = watch
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[address.socket])
    engine.stop()
    if engine.error is not None:
        say_error(engine.error)
        return EXIT_USER_ERROR
    say("stopped")
    return 0


class _Watch:
    """Starts the model after the first page, and ends the server where there is no model."""

    def __init__(self, engine: Engine, server: Any, opened: str | None) -> None:
        self._engine, self._server, self._opened = engine, server, opened

    async def run(self) -> None:
        if self._opened is not None:
            # Some of a terminal run until they are closed; nothing here waits for them.
            threading.Thread(target=webbrowser.open, args=(self._opened,), daemon=True).start()
        await asyncio.sleep(_HEAD_START)
        self._engine.start()
        while self._engine.error is None:
            await asyncio.sleep(0.2)
        await asyncio.sleep(_HEAD_START)  # for pages to say so
        self._server.should_exit = True
        self._server.force_exit = True


def _application(engine: Engine) -> FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(app.state.watch.run())
        yield
        watching.cancel()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    desk = Desk(engine)
    _add_page(desk)

    @app.get("/picture/{page}/{key}")
    def picture(page: str, key: str, request: Request) -> Response:
        own = desk.of(page, request)
        found = None if own is None else own.picture(key)
        if found is None:
            return Response(status_code=404)
        headers = {"cache-control": "private, no-store"}
        return Response(found.shown, media_type=found.media_type, headers=headers)

    @app.post(UPLOADS + "{page}")
    async def upload(page: str, request: Request) -> Response:
        own = desk.of(page, request)
        if own is None:
            return JSONResponse({"error": "this page is closed: load it again"}, 404)
        try:
            await desk.receive(own, request)
        except ClientDisconnect:
            return Response(status_code=400)  # to nobody
        except TooLarge as error:
            return JSONResponse({"error": str(error)}, 413)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 422)
        return JSONResponse({"ok": True})

    ui.run_with(
        app,
        title="fgclip-det",
        favicon="🔎",
        dark=None,
        reconnect_timeout=_RECONNECT,
        tailwind=False,
        show_welcome_message=False,
        binding_refresh_interval=None,
    )
    return app


def _add_page(desk: Desk) -> None:
    @ui.page("/")
    def index(request: Request) -> None:
        page = desk.admit(request.scope[_USER])
        if page is None:
            ui.label("as many people as may be look at this page: come back later")
            return
        ui.context.client.on_delete(lambda: desk.close(page.key))
        page.build()

    nicegui_app.on_exception(lambda error: say_error(f"{type(error).__name__}: {error}"))


def _tell(address: Address, engine: Engine) -> None:
    if address.token is not None:
        say(
            f"note: --host {address.host} lets others in: whoever has this address, with its "
            "token, sees the page, and may send pictures; the connection is not encrypted",
            file=sys.stderr,
        )
    say(f"open {address.url} (Ctrl-C stops it)")
    sys.stdout.flush()
