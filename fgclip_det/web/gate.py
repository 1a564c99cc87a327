"""Who may come in, with how much, and what browsers may do with what they get.

An application around the others, which every request passes: pages, scripts, styles, pictures and
WebSockets alike.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

UPLOADS = "/upload/"
# Bytes of a body elsewhere: NiceGUI's messages, where there are no WebSockets.
_MOST_BYTES = 1_100_000
# The page's own framework writes scripts and styles into the page; nothing may come from elsewhere.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' "
    "'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self'; media-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class Gate:
    """An ASGI application.

    A browser gets a cookie with a secret of its own, which `scope["fgclip_det.user"]` holds for the
    applications inside; with a token another one, so that the address bar forgets it.

    Args:
        app: What is inside.
        token: Needed in the address, ``?token=``, or the cookie that it brings; None for none.
        hosts: Names under which the page may be asked for, against others that lead here too; None
            for all.
        port: Tells the cookies of several servers of a machine apart.
        upload_bytes: Of a file that is sent.
    """

    def __init__(
        self,
        app: App,
        token: str | None,
        hosts: frozenset[str] | None,
        port: int,
        upload_bytes: int,
    ) -> None:
        self._app, self._token, self._hosts = app, token, hosts
        self._upload_bytes = upload_bytes
        self._names = (f"fgclip_det_token_{port}", f"fgclip_det_user_{port}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or refuse it with a line."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = {
            key.decode("latin-1").lower(): value.decode("latin-1")
            for key, value in scope["headers"]
        }
        cookies = _cookies(headers.get("cookie", ""))
        refusal = self._refusal(scope, headers, cookies)
        if refusal is not None:
            await _refuse(scope, send, *refusal)
            return
        token_name, user_name = self._names
        if scope["type"] == "http" and self._token and "token" in _query(scope):
            cookie = _cookie(token_name, self._token)
            where = [(b"location", scope["path"].encode("latin-1", "replace")), cookie]
            await _answer(send, 303, b"", where)
            return
        user = cookies.get(user_name)
        given = []
        if user is None or len(user) < 40:
            user = secrets.token_urlsafe(32)
            given.append(_cookie(user_name, user))
        scope["fgclip_det.user"] = user
        most = self._upload_bytes if scope["path"].startswith(UPLOADS) else _MOST_BYTES
        await self._app(scope, _counted(receive, most), _with_headers(send, given))

    def _refusal(
        self, scope: Scope, headers: Mapping[str, str], cookies: Mapping[str, str]
    ) -> tuple[int, str] | None:
        """Status and reason, where a request may not come in."""
        host = headers.get("host", "")
        if self._hosts is not None and _name(host) not in self._hosts:
            return 421, "this page is not for that name: open the address that was printed"
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return 403, "another site may not ask this one"
        if self._token is not None:
            shown = _query(scope).get("token") or cookies.get(self._names[0], "")
            if not hmac.compare_digest(shown.encode(), self._token.encode()):
                return 403, "the token is missing: open the address that was printed, with its end"
        most = self._upload_bytes if scope["path"].startswith(UPLOADS) else _MOST_BYTES
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > most:
            return 413, f"this is more than {most / 1e6:.0f} MB: make it smaller"
        return None


class TooLarge(Exception):
    """More was sent than may be."""


def _counted(receive: Receive, most: int) -> Receive:
    """Raises `TooLarge` where a body without a length goes on and on."""
    seen = 0

    async def counted() -> dict[str, Any]:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body") or b"") if message["type"] == "http.request" else 0
        if seen > most:
            raise TooLarge(f"this is more than {most / 1e6:.0f} MB: make it smaller")
        return message

    return counted


def _with_headers(send: Send, given: list[tuple[bytes, bytes]]) -> Send:
    async def with_headers(message: dict[str, Any]) -> None:
        if message["type"] in ("http.response.start", "websocket.accept"):
            more = [*_HEADERS, *given] if message["type"] == "http.response.start" else given
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await send(message)

    return with_headers


async def _refuse(scope: Scope, send: Send, status: int, reason: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": reason[:120]})
        return
    body = json.dumps({"error": reason}).encode()
    await _answer(send, status, body, [(b"content-type", b"application/json")])


async def _answer(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    headers = [*headers, *_HEADERS, (b"content-length", str(len(body)).encode())]
    headers.append((b"cache-control", b"no-store"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _query(scope: Scope) -> dict[str, str]:
    text = scope.get("query_string", b"").decode("latin-1")
    try:
        return {key: values[0] for key, values in parse_qs(text, max_num_fields=100).items()}
    except ValueError:  # more fields than any page of ours has
        return {}


def _name(host: str) -> str:
    """A name without its port."""
    return host.rsplit(":", 1)[0].lower() if not host.endswith("]") else host.lower()


def _cookies(header: str) -> dict[str, str]:
    try:
        return {key: morsel.value for key, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}


def _cookie(name: str, value: str) -> tuple[bytes, bytes]:
    return b"set-cookie", f"{name}={value}; Path=/; HttpOnly; SameSite=Lax".encode()
