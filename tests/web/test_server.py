"""The command as a process: what is imported when, tokens, uploads, and how it ends."""

from __future__ import annotations

import base64
import http.client
import json
import re
import select
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fgclip_det.apis.detector_loading import BUNDLED
from tests.web.conftest import Server

ROOT = Path(__file__).resolve().parents[2]
FILE = sorted((BUNDLED / "images").iterdir())[0]
HEAVY = ("torch", "mmdet", "mmengine", "mmcv", "transformers", "matplotlib")


def ask(
    url: str, path: str = "/", method: str = "GET", body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=120)
    connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    told = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    connection.close()
    return told


def upload_path(page: bytes) -> str:
    return re.search(r"/upload/[\w-]+", page.decode())[0]


def test_it_listens_before_anything_heavy_is_imported() -> None:
    code = f"import sys, fgclip_det.cli.web; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_help_does_not_import_the_page() -> None:
    code = (
        "import sys\nfrom fgclip_det.cli.arguments import build_parser\nbuild_parser()\n"
        "print([m for m in sys.modules if m.startswith(('nicegui', 'fgclip_det.web'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_without_nicegui_it_says_what_to_install() -> None:
    code = (
        "import sys\nsys.modules['nicegui'] = None\nfrom fgclip_det.cli import main\n"
        "sys.exit(main(['web', '--no-browser', '--port', '0']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: nicegui") and done.stderr.count("\n") == 1
    assert 'pip install "fgclip_det[web]"' in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("opens", [None, "/nowhere/browser"])
def test_a_page_is_there_before_the_model(opens: str | None) -> None:
    running = Server("--port", "0", opens=opens)
    try:
        status, headers, page = ask(running.url)
        assert status == 200 and b"starting" in page
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert "httponly" in headers["set-cookie"].lower()
    finally:
        assert running.stop() == 0
    assert not [line for line in running.lines if "Traceback" in line]


@pytest.mark.slow
def test_a_model_that_is_missing_ends_it_with_a_line() -> None:
    # A browser of a terminal runs until it is closed (here until the server is), and nobody waits.
    waits = "p = os.getppid(); [time.sleep(0.1) for _ in range(2000) if os.getppid() == p]"
    browser = f"{sys.executable} -c 'import os, time; {waits}' %s"
    given = ("--port", "0", "--model", "missing.py", "--weights", "missing.pth")
    running = Server(*given, opens=browser)
    assert running.process.wait(600) == 2
    running._reader.join(60)
    (line,) = [one for one in running.lines if one.startswith("error: ")]
    assert "missing.py" in line


@pytest.mark.slow
def test_uploads_belong_to_one_browser(server: Server) -> None:
    _, headers, page = ask(server.url)
    path = upload_path(page)
    cookie = headers["set-cookie"].split(";")[0]
    for other in ({}, {"Cookie": f"{cookie[:-1]}x"}):
        assert ask(server.url, path, "POST", FILE.read_bytes(), **other)[0] == 404
    status, _, told = ask(server.url, path, "POST", FILE.read_bytes(), Cookie=cookie)
    # No script has opened this page, so that it has no pictures yet.
    assert status == 422
    assert "send the picture again" in json.loads(told)["error"]


@pytest.mark.slow
def test_large_files_are_refused_by_their_length(server: Server) -> None:
    _, headers, page = ask(server.url)
    cookie = headers["set-cookie"].split(";")[0]
    where = urlsplit(server.url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
    connection.putrequest("POST", upload_path(page))
    connection.putheader("Content-Length", str(10**9))
    connection.putheader("Cookie", cookie)
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert "MB: make it smaller" in json.loads(answer.read())["error"]
    connection.close()


def cut_off(url: str, head: str, body: bytes) -> str:
    """Sends a part of a body, and is gone; the line that the server said until then."""
    where = urlsplit(url)
    with socket.create_connection((where.hostname, where.port), timeout=60) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode())
        said = connection.recv(1000) if "Upgrade" in head else b""
        connection.sendall(body)
        time.sleep(0.05)
        # No farewell: the other side sees a reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return said.partition(b"\r\n")[0].decode()


@pytest.mark.slow
def test_who_is_cut_off_in_the_middle_disturbs_nobody(server: Server) -> None:
    _, headers, page = ask(server.url)
    told, cookie = len(server.lines), headers["set-cookie"].split(";")[0]
    head = f"Host: {urlsplit(server.url).netloc}\nCookie: {cookie}\n"
    upload = f"POST {upload_path(page)}?name=a.png HTTP/1.1\n{head}Content-Length: 999\n\n"
    upgrade = (
        f"GET /_nicegui_ws/socket.io/?EIO=4&transport=websocket HTTP/1.1\n{head}"
        "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\n"
        f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\n\n"
    )
    for _ in range(5):
        cut_off(server.url, upload, b"half")
        # A text frame of 100 bytes, of which two come.
        said = cut_off(server.url, upgrade, b"\x81\xe4\0\0\0\0ab")
        assert said == "HTTP/1.1 101 Switching Protocols"
    assert ask(server.url, Cookie=cookie)[0] == 200
    time.sleep(0.3)
    assert server.lines[told:] == []


@pytest.mark.slow
def test_slow_uploads_hold_nobody_up(server: Server) -> None:
    where, waiting = urlsplit(server.url), []
    for _ in range(8):
        _, headers, page = ask(server.url)
        cookie = headers["set-cookie"].split(";")[0]
        head = f"POST {upload_path(page)} HTTP/1.1\nHost: {where.netloc}\nCookie: {cookie}\n"
        waiting.append(socket.create_connection((where.hostname, where.port), timeout=60))
        waiting[-1].sendall(f"{head}Content-Length: 9\n\nhalf".replace("\n", "\r\n").encode())
    _, headers, page = ask(server.url)
    cookie = headers["set-cookie"].split(";")[0]
    ask(server.url, upload_path(page), "POST", FILE.read_bytes(), Cookie=cookie)
    # The others are given 60 s, and are told nothing before.
    assert select.select(waiting, [], [], 0)[0] == []
    for one in waiting:
        one.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        "/picture/a/b", "/picture/..%2f..%2fetc/passwd", "/upload/../../etc/passwd", "/docs",
        "/openapi.json", "/_nicegui/auto/static/../../../../pyproject.toml",
    ],
)  # fmt: skip
def test_no_file_of_the_server_is_reached(server: Server, path: str) -> None:
    status, _, body = ask(server.url, path)
    assert status in (404, 405)
    assert b"root:" not in body and b"build-system" not in body


@pytest.mark.slow
def test_other_hosts_need_the_token() -> None:
    running = Server("--port", "0", "--host", "0.0.0.0")
    try:
        token = running.url.rsplit("=", 1)[1]
        assert any(line.startswith("note: --host 0.0.0.0") for line in running.lines)
        local = f"http://127.0.0.1:{urlsplit(running.url).port}"
        assert ask(local)[0] == 403
        assert ask(local, f"/?token={token[:-1]}x")[0] == 403
        status, headers, _ = ask(local, f"/?token={token}")
        assert (status, headers["location"]) == (303, "/")
        cookie = headers["set-cookie"].split(";")[0]
        status, _, page = ask(local, Cookie=cookie)
        assert status == 200 and token.encode() not in page
        script = re.search(rb"/_nicegui/[\w./-]+nicegui\.js", page)[0].decode()
        assert ask(local, script)[0] == 403
        assert ask(local, script, Cookie=cookie)[0] == 200
    finally:
        running.process.kill()
