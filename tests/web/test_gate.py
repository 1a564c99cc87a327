"""Who comes in: asked through the gate alone, with an application that says who it sees."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fgclip_det.web.gate import Gate, TooLarge

TOKEN = "t" * 43
LOCAL = frozenset({"localhost", "127.0.0.1"})


def ask(
    path: str = "/",
    headers: dict[str, str] | None = None,
    query: str = "",
    token: str | None = None,
    kind: str = "http",
    body: list[bytes] | None = None,
) -> tuple[list[dict[str, Any]], str | None]:
    """What is answered, and the user that came in; None where nobody did."""
    seen, sent = [], []
    parts = list(body or [b""])

    async def inside(scope, receive, send) -> None:
        seen.append(scope["fgclip_det.user"])
        for _ in parts[:]:
            await receive()
        accepted = "http.response.start" if kind == "http" else "websocket.accept"
        await send({"type": accepted, "status": 200, "headers": []})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    given = {"host": "127.0.0.1:8080", **(headers or {})}
    scope = {
        "type": kind, "path": path, "query_string": query.encode(),
        "headers": [(key.encode(), value.encode()) for key, value in given.items()],
    }  # fmt: skip
    gate = Gate(inside, token, None if token else LOCAL, 8080, 2_000_000)
    asyncio.run(gate(scope, receive, send))
    return sent, seen[0] if seen else None


def cookies(sent: list[dict[str, Any]]) -> list[str]:
    return [value.decode() for key, value in sent[0]["headers"] if key == b"set-cookie"]


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:8080"},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": ""},
    ],
)
def test_other_sites_stay_out(headers: dict[str, str], kind: str) -> None:
    sent, user = ask(headers=headers, kind=kind)
    assert user is None
    assert sent[0].get("status", 0) in (403, 421) or sent[0]["type"] == "websocket.close"


@pytest.mark.parametrize("path", ["/", "/_nicegui/static/nicegui.js", "/picture/a/b", "/upload/a"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("shown", ["", "t" * 42, "x" * 43, "\u00e4"])
def test_every_path_needs_the_token(path: str, kind: str, shown: str) -> None:
    headers = {"cookie": f"fgclip_det_token_8080={shown}"} if shown.isascii() else {}
    for query in ("", f"token={shown}"):
        sent, user = ask(path, headers, query, TOKEN, kind)
        assert user is None
        assert sent[0].get("status") == 403 or sent[0]["type"] == "websocket.close"


def test_an_address_of_many_fields_is_one_without_a_token() -> None:
    sent, user = ask(query="&".join(["a=1"] * 101), token=TOKEN)
    assert (user, sent[0]["status"]) == (None, 403)


def test_the_token_becomes_a_cookie() -> None:
    sent, user = ask(query=f"token={TOKEN}", token=TOKEN)
    assert (user, sent[0]["status"]) == (None, 303)
    assert cookies(sent) == [f"fgclip_det_token_8080={TOKEN}; Path=/; HttpOnly; SameSite=Lax"]
    headers = {"cookie": f"fgclip_det_token_8080={TOKEN}"}
    for kind in ("http", "websocket"):
        assert ask(headers=headers, token=TOKEN, kind=kind)[1] is not None


def test_each_browser_gets_a_secret_and_keeps_it() -> None:
    sent, first = ask()
    _, second = ask()
    assert first != second and len(first) >= 40
    assert cookies(sent) == [f"fgclip_det_user_8080={first}; Path=/; HttpOnly; SameSite=Lax"]
    sent, again = ask(headers={"cookie": f"fgclip_det_user_8080={first}"})
    assert again == first and cookies(sent) == []


def test_a_secret_that_anybody_could_guess_is_replaced() -> None:
    assert ask(headers={"cookie": "fgclip_det_user_8080=1"})[1] != "1"


@pytest.mark.parametrize(("path", "most"), [("/upload/a", 2_000_000), ("/", 1_100_000)])
def test_bodies_are_limited(path: str, most: int) -> None:
    assert ask(path, {"content-length": str(most)})[1] is not None
    for length in (str(most + 1), "-1", "many"):
        sent, user = ask(path, {"content-length": length})
        assert (user, sent[0]["status"]) == (None, 413)
    assert ask(path, body=[b"x" * (most // 2)] * 2)[1] is not None
    with pytest.raises(TooLarge, match="MB: make it smaller"):
        ask(path, body=[b"x" * (most // 2)] * 3)


def test_nothing_comes_from_elsewhere() -> None:
    headers = dict(ask()[0][0]["headers"])
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy and "http" not in policy
    assert headers[b"x-content-type-options"] == b"nosniff"
