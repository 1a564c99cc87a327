"""Pictures behind addresses, on a server of this machine."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from fgclip_det.apis.inputs import addresses
from fgclip_det.apis.inputs.addresses import name_of_address, read_address
from fgclip_det.apis.inputs.picture_lists import named_images, to_pixels

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)

# Of "me" and "a:b c", as RFC 7617 has them.
_SECRET = "Basic bWU6YTpiIGM="


def _png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "PNG")
    return stream.getvalue()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/private.png" and self.headers["Authorization"] != _SECRET:
            self.send_error(401)
            return
        if self.path == "/moved.png":
            self.send_response(302)
            self.send_header("Location", "/private.png")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path == "/file":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path == "/none.png":
            self.send_error(404)
            return
        data = b"<html>no picture</html>" if self.path == "/page" else _png()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:50] if self.path == "/cut.png" else data)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(addresses, "_SECONDS", 120)
    served = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()
    thread.join()


def test_a_picture_is_fetched(server: str) -> None:
    np.testing.assert_array_equal(to_pixels(f"{server}/a b.png?x=1"), PIXELS)
    assert named_images([f"{server}/a%20b.png?x=1"]) == {f"{server}/a%20b.png?x=1": "a_b"}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("none.png", "HTTP 404"),
        ("file", "not allowed"),
        ("page", "not a picture"),
        ("cut.png", "ended after 50"),
    ],
)
def test_says_what_is_wrong(server: str, path: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as told:
        read_address(f"{server}/{path}")
    assert f"{server}/{path}" in str(told.value) and "\n" not in str(told.value)


def test_too_large_and_out_of_reach(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="cannot be reached"):
        read_address("http://127.0.0.1:1/x.png")
    monkeypatch.setattr(addresses, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="too large"):
        read_address(f"{server}/a.png")


def test_names_of_addresses_are_names_of_files() -> None:
    assert name_of_address("http://host/..%2F..%2Fetc/p%2Fq.jpg") == "p_q"
    assert name_of_address("https://user:secret@host/") == "host"
    assert "secret" not in addresses.shown("https://user:secret@host/a.jpg")


def test_a_name_and_a_password_are_sent_to_that_server_alone(server: str) -> None:
    private = server.replace("//", "//me:a%3Ab c@")
    np.testing.assert_array_equal(read_address(f"{private}/private.png"), PIXELS)
    for address in (f"{server}/private.png", f"{private}/moved.png"):
        with pytest.raises(ValueError, match="401") as told:
            read_address(address)
        assert "a%3Ab" not in str(told.value)
