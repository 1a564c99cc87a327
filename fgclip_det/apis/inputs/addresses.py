"""Pictures behind ``http://`` and ``https://`` addresses, by the standard library."""

from __future__ import annotations

import http.client
import os
import re
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import BinaryIO

import numpy as np

from fgclip_det.io import quoted, read_image

MAX_BYTES = 100_000_000
_SECONDS = 20
_SECONDS_ALTOGETHER = 300
_BLOCK = 1 << 16
_AGENT = "fgclip-det"


def read_address(url: str) -> np.ndarray:
    """Fetch a picture and read it as a file is read; nothing is kept.

    At most `MAX_BYTES` come, and redirects to other kinds of addresses, such as files of this
    machine, are not followed.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ValueError: No answer, an error, too large, cut off, or no picture.
    """
    with tempfile.TemporaryDirectory(prefix="fgclip-det-") as folder:
        path = os.path.join(folder, "picture")
        try:
            with open(path, "wb") as file:
                _fetch(url, file)
        except urllib.error.HTTPError as error:
            why = f"HTTP {error.code}: {error.reason}"
            error.close()
            raise ValueError(f"{_said(url)} cannot be fetched ({quoted(why)}): check it") from None
        except TimeoutError:
            raise ValueError(f"{_said(url)} does not answer in time: try again") from None
        except (OSError, http.client.HTTPException, UnicodeEncodeError) as error:
            why = quoted(str(getattr(error, "reason", None) or error or type(error).__name__))
            raise ValueError(
                f"{_said(url)} cannot be reached ({why}): check it, and the network"
            ) from None
        try:
            return read_image(path)
        except ValueError as error:
            told = str(error).replace(repr(path), repr(shown(url)))
            raise ValueError(told.replace("copy it again", "fetch it again")) from None


def shown(url: str) -> str:
    """An address without the user's name and password, and without what no terminal should see."""
    scheme, separator, rest = url.partition("://")
    place, slash, way = rest.partition("/")
    clean = f"{scheme}{separator}{place.rpartition('@')[2]}{slash}{way}"
    return "".join(letter if letter.isprintable() else f"%{ord(letter):02X}" for letter in clean)


def name_of_address(url: str) -> str:
    """A file's name for what is made of it, without ending: of its last part, else of its host."""
    parts = urllib.parse.urlsplit(shown(url))
    last = urllib.parse.unquote(parts.path.rstrip("/").rpartition("/")[2])
    stem = os.path.splitext(last)[0] or parts.netloc
    return re.sub(r"[^\w.-]+", "_", stem).strip(".") or "picture"


def _said(url: str) -> str:
    return f"picture {shown(url)!r}"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to other web addresses alone."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not newurl.lower().startswith(("http://", "https://")):
            raise urllib.error.URLError(f"it leads to {newurl!r}, which is no web address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetch(url: str, file: BinaryIO) -> None:
    opener = urllib.request.OpenerDirector()
    # Without those of file: and ftp:, which the default opener has.
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        _Redirects,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    # Blanks and letters of other scripts are sent as servers know them; what is escaped stays so.
    sent = urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]")
    try:
        request = urllib.request.Request(sent, headers={"User-Agent": _AGENT})
    except ValueError as error:
        raise urllib.error.URLError(str(error)) from None
    end = time.monotonic() + _SECONDS_ALTOGETHER
    with opener.open(request, timeout=_SECONDS) as answer:
        told = answer.headers.get("Content-Length") or ""
        expected = int(told) if told.isdecimal() else None
        _check_size(url, expected or 0)
        size = 0
        while block := answer.read(_BLOCK):
            size += len(block)
            _check_size(url, size)
            if time.monotonic() > end:
                raise TimeoutError
            file.write(block)
    if expected is not None and size < expected:
        raise urllib.error.URLError(f"it ended after {size} of {expected} bytes")


def _check_size(url: str, size: int) -> None:
    if size > MAX_BYTES:
        raise ValueError(
            f"{_said(url)} is too large (more than {MAX_BYTES / 1e6:.0f} MB): fetch it by hand and "
            "make it smaller"
        )
