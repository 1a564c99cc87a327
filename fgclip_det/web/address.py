"""Where the page is: a port that is bound, and a token where others can reach it."""

from __future__ import annotations

import errno
import ipaddress
import secrets
import socket
from dataclasses import dataclass

from fgclip_det.io import quoted

_BACKLOG = 128


@dataclass(frozen=True)
class Address:
    """A port that listens.

    Attributes:
        host: As it was given.
        port: That was bound.
        token: Needed to come in; None where only this machine can.
        socket: That listens.
    """

    host: str
    port: int
    token: str | None
    socket: socket.socket

    @classmethod
    def bind(cls, host: str, port: int) -> Address:
        """Listen.

        Args:
            host: A name or number of this machine; "0.0.0.0" for all.
            port: 0 for any that is free.

        Raises:
            ValueError: There is no such host or port, or it is in use.
        """
        if not 0 <= port <= 65535:
            raise ValueError(f"--port is {port}: give 0 to 65535")
        try:
            (family, _, _, _, where), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            bound = socket.create_server(where[:2], family=family, backlog=_BACKLOG)
        except (socket.gaierror, UnicodeError):
            raise ValueError(f"--host is {quoted(host)}: this machine knows no such name") from None
        except OSError as error:
            raise ValueError(_told(error, host, port)) from None
        token = None if is_local(where[0]) else secrets.token_urlsafe(32)
        return cls(host, bound.getsockname()[1], token, bound)

    @property
    def url(self) -> str:
        """What to open in a browser."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.host in ("0.0.0.0", "::", ""):
            host = socket.gethostname()
        token = "" if self.token is None else f"/?token={self.token}"
        return f"http://{host}:{self.port}{token}"


def is_local(number: str) -> bool:
    """Whether only this machine reaches an address."""
    return ipaddress.ip_address(number.partition("%")[0]).is_loopback


def _told(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use: give another, such as --port 0 for any free one"
    if error.errno == errno.EACCES:
        return f"port {port} of {host} is for the system's own services: give --port 8080"
    return f"cannot listen at port {port} of {quoted(host)} ({error.strerror}): check --host"
