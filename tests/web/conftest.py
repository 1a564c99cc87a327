"""The page as its users get it: the command as a process, and a browser where there is one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

# Shows moving shapes, and asks nobody whether it may.
FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")

# All pictures of the page are answered, and drawn for the width that they have.
LAID_OUT = """() => {
  const frames = [...document.querySelectorAll('.frame')];
  return document.querySelector('svg.found .box') && frames.every((frame) => {
    const svg = frame.querySelector('svg.found');
    return svg && !frame.querySelector('.busy')
      && Math.abs(svg.viewBox.baseVal.width - frame.clientWidth) < 4;
  });
}"""


class Server:
    """``fgclip-det web`` as a process, and what it prints.

    Args:
        arguments: Of the command.
        opens: Command of the browser that it opens; None for none.
    """

    def __init__(self, *arguments: str, opens: str | None = None) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "BROWSER": opens or ""}
        command = [sys.executable, "-m", "fgclip_det.cli", "web", *arguments]
        command += ["--no-browser"] if opens is None else []
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        self.lines.extend(iter(self.process.stdout.readline, ""))

    @property
    def url(self) -> str:
        """The address that it prints."""
        for _ in range(6000):
            found = re.search(r"open (\S+)", "".join(self.lines))
            if found:
                return found[1]
            assert self.process.poll() is None, self.lines
            time.sleep(0.1)
        raise AssertionError("no address was printed")

    def stop(self) -> int:
        """Ends it as Ctrl-C does; its exit code."""
        self.process.send_signal(2)
        code = self.process.wait(600)
        self._reader.join(60)
        return code


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The bundled model and its pictures."""
    running = Server("--port", "0")
    yield running
    running.process.kill()
    running.process.wait()


# As long as it lives, its event loop runs in this thread, where tests elsewhere start their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium of the system."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with api.sync_playwright() as playwright:
        # In containers there is no sandbox, and the pages are our own.
        launched = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage", *FAKE_CAMERA]
        )
        yield launched
        launched.close()


@pytest.fixture
def visit(server: Server, browser: Any) -> Iterator[Any]:
    """Gives a function that opens the page as another user, ready to be asked.

    It takes settings of the browser's context, and a script that runs before those of the page.
    """
    contexts = []

    def open_page(script: str = "", **settings: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(script)
        page.set_default_timeout(120_000)
        page.errors, page.asked = [], []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(server.url)
        # Pictures are looked at one after the other, and drawn anew once their width is known.
        page.wait_for_function(LAID_OUT)
        return page

    yield open_page
    for context in contexts:
        context.close()
