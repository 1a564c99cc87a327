"""Where the page listens, and who needs a token."""

from __future__ import annotations

import socket

import pytest

from fgclip_det.cli import main
from fgclip_det.web.address import Address, is_local


def test_this_machine_needs_no_token() -> None:
    address = Address.bind("127.0.0.1", 0)
    with address.socket:
        assert address.token is None
        assert address.url == f"http://127.0.0.1:{address.port}"
        with socket.create_connection(("127.0.0.1", address.port)):
            pass  # it listens already


def test_others_need_a_token() -> None:
    address = Address.bind("0.0.0.0", 0)
    with address.socket:
        assert len(address.token) >= 40
        assert address.url.endswith(f":{address.port}/?token={address.token}")


@pytest.mark.parametrize(
    ("number", "local"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.7", False)],
)  # fmt: skip
def test_what_is_local(number: str, local: bool) -> None:
    assert is_local(number) is local


def test_a_port_in_use_is_one_line(capsys: pytest.CaptureFixture) -> None:
    with Address.bind("127.0.0.1", 0).socket as taken:
        port = str(taken.getsockname()[1])
        assert main(["web", "--no-browser", "--port", port]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: port {port} of 127.0.0.1 is in use")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--port", "70000"], "error: --port is 70000"),
        (["--host", "no such name"], "error: --host is 'no such name'"),
        (["missing.png"], "error: no picture at 'missing.png'"),
    ],
)
def test_odd_arguments_are_one_line(arguments, line, capsys: pytest.CaptureFixture) -> None:
    assert main(["web", "--no-browser", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith(line) and said.count("\n") == 1
