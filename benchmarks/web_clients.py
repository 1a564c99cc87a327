"""Many users of ``fgclip-det web`` at once: every answer is right, nobody sees another's picture.

Each client loads the page, opens its WebSocket, sends a picture of its own, and types other names
again and again; each answer is compared with that of the Python interface, box by box. Memory is
the server's resident set, after a quarter of the time and at the end.

    python benchmarks/web_clients.py --clients 50 --seconds 600 > benchmarks/results/web_cpu.md
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import re
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil
import socketio
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.apis.detector_loading import BUNDLED
from fgclip_det.io import decode_image

ROOT = Path(__file__).resolve().parents[1]
COLORS = ("blue", "purple", "cyan")
SHAPES = ("star", "cross", "ring")
QUESTIONS = [f"a {color} {shape}" for color in COLORS for shape in SHAPES]
_ESCAPED = {"&#36;": "$", "&#96;": "`", "&gt;": ">", "&lt;": "<", "&amp;": "&"}
Told = list[tuple[str, tuple[float, ...]]]


def own_picture(seed: int) -> bytes:
    """A picture that no other client has: a bundled one with a mark of its own."""
    files = sorted((BUNDLED / "images").iterdir())
    pixels = np.array(Image.open(files[seed % len(files)]).convert("RGB"))
    pixels[-1, :16] = [[seed % 256, seed // 256, 0]]
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


class Client:
    """One user, as the page's own scripts speak to the server: also after a connection broke.

    Args:
        url: Of the page.
        number: Whose picture is sent.
        right: See `right_answers`.
        cuts: Whether the connection is cut at times, in the middle of a question.
    """

    def __init__(
        self, url: str, number: int, right: dict[tuple[int, str], Told], cuts: bool = False
    ) -> None:
        self.url, self.number, self.right, self.cuts = url, number, right, cuts
        self.wrong: list[str] = []
        self.taken: list[float] = []
        self.keys: set[str] = set()
        self.elements: dict[str, Any] = {}
        self.connections = 0
        self._next = 0
        self._sent: dict[str, Any] | None = None
        self._changed = asyncio.Event()

    async def run(self, until: asyncio.Event) -> None:
        """Ask until it is told to stop."""
        jar = aiohttp.CookieJar(unsafe=True)
        # As in browsers, which make a connection of its own for a WebSocket.
        wires = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(cookie_jar=jar, connector=wires) as self.http:
            async with self.http.get(self.url) as answer:
                page = await answer.text()
            packed = re.search(r"parseElements\(String\.raw`(.*?)`\)", page, re.DOTALL)[1]
            for escaped, letter in _ESCAPED.items():
                packed = packed.replace(escaped, letter)
            self.elements = json.loads(packed)
            self.id = re.search(r"['\"]client_id['\"]: ?['\"]([\w-]+)", page)[1]
            self.query = f"client_id={self.id}&implicit_handshake=true&tab_id={uuid.uuid4()}"
            self.query += f"&document_id={uuid.uuid4()}"
            await self._connect()
            await self._until("the bundled pictures", lambda: len(self._views()) >= 3)
            where = re.search(r"/upload/[-A-Za-z0-9_]+", page)[0]
            where = f"{self.url}{where}?name=own{self.number}.png"
            async with self.http.post(where, data=own_picture(self.number)) as answer:
                if answer.status != 200:
                    self.wrong.append(f"upload: {await answer.text()}")
            await self._until("the picture that was sent", lambda: len(self._views()) >= 4)
            while not until.is_set():
                await self._ask(random.choice(QUESTIONS))
            await self.sio.disconnect()

    async def _connect(self) -> None:
        """Make the connection, and say what was said last: it may not have arrived."""
        self.sio = socketio.AsyncClient(http_session=self.http, reconnection=False)
        self.sio.on("update", self._update)
        self.sio.on("disconnect", lambda *reason: self._changed.set())
        url = f"{self.url}?{self.query}&next_message_id={self._next}"
        path = "/_nicegui_ws/socket.io"
        await self.sio.connect(url, transports=["websocket"], socketio_path=path)
        self.connections += 1
        if self._sent is not None:
            await self.sio.emit("event", self._sent)

    async def _ask(self, text: str) -> None:
        field, listener = self._field()
        began = time.perf_counter()
        event = {"id": int(field), "client_id": self.id, "listener_id": listener}
        self._sent = {**event, "args": [json.dumps(text)]}
        if self.sio.connected:
            await self.sio.emit("event", self._sent)
        if self.cuts and len(self.taken) % 5 == 3:
            await self.sio.eio.disconnect(abort=True)
        asked = f'data-asked="{text}"'
        what = f"{text!r} asked"
        await self._until(what, lambda: all(asked in one["svg"] for one in self._views()))
        self.taken.append(time.perf_counter() - began)
        for place, view in enumerate(self._views()):
            number = place if place < 3 else self.number + 3
            own = place < 3 or view["name"] == f"own{self.number}.png"
            told = [(row["name"], tuple(row["box"])) for row in view["rows"]]
            if not own or told != self.right[number, text]:
                self.wrong.append(f"{view['name']}: {text}: {told}")
        self.keys |= {view["src"] for view in self._views()}

    def _field(self) -> tuple[str, str]:
        for key, element in self.elements.items():
            if "names" in (element.get("props") or {}).get("label", ""):
                for event in element.get("events", ()):
                    if event["type"].startswith("update:"):
                        return key, event["listener_id"]
        raise ValueError("the page has no field of names")

    def _views(self) -> list[dict[str, Any]]:
        props = (one.get("props") or {} for one in self.elements.values())
        return [one for one in props if "svg" in one]

    def _update(self, told: dict[str, Any]) -> None:
        number = told.pop("_id")
        if number < self._next:
            return
        self._next = number + 1
        for key, element in told.items():
            if element is None:
                self.elements.pop(key, None)
            else:
                self.elements[key] = element
        self._changed.set()

    async def _until(self, what: str, holds: Callable[[], bool]) -> None:
        while not holds():
            self._changed.clear()
            if not self.sio.connected:
                await self._connect()
            try:
                await asyncio.wait_for(self._changed.wait(), 300)
            except asyncio.TimeoutError:  # of its own in Python 3.10
                raise TimeoutError(f"client {self.number} waited 300 s for {what}") from None


def right_answers(count: int) -> dict[tuple[int, str], Told]:
    """By picture and question, what the Python interface tells: the bundled ones, then the own."""
    detector = OpenVocabInferencer()
    pictures = sorted(map(str, (BUNDLED / "images").iterdir()))
    pictures += [decode_image(own_picture(number), "a picture") for number in range(count)]
    right = {}
    for number, regions in enumerate(detector.propose(pictures, progress=False)):
        for text in QUESTIONS:
            found = regions.classify(text, one_name=True)
            boxes = [tuple(box) for box in found.boxes.tolist()]
            right[number, text] = list(zip(found.names, boxes, strict=True))
    return right


async def measured(
    url: str, pid: int, count: int, seconds: float, cuts: bool = False
) -> dict[str, Any]:
    """What all clients saw."""
    right = right_answers(count)
    until = asyncio.Event()
    clients = [Client(url, number, right, cuts) for number in range(count)]
    process = psutil.Process(pid)
    running = [asyncio.create_task(one.run(until)) for one in clients]
    # The first answers include sending a picture.
    while not all(len(one.taken) > 1 for one in clients):
        await asyncio.sleep(0.2)
        for task in running:
            if task.done():
                task.result()
    await asyncio.sleep(seconds / 4)
    before, began = process.memory_info().rss, [len(one.taken) for one in clients]
    await asyncio.sleep(seconds * 3 / 4)
    after = process.memory_info().rss
    until.set()
    await asyncio.gather(*running)
    taken = sorted(v for one, n in zip(clients, began, strict=True) for v in one.taken[n:])
    own = [key for one in clients for key in one.keys]
    return {
        "clients": count,
        "answers": sum(len(one.taken) for one in clients),
        "wrong": [line for one in clients for line in one.wrong],
        "broken": sum(one.connections - 1 for one in clients),
        "shared": len(own) - len(set(own)),
        "median_s": statistics.median(taken) if taken else float("nan"),
        "p95_s": taken[int(len(taken) * 0.95)] if taken else float("nan"),
        "per_s": len(taken) / (seconds * 3 / 4),
        "mb_before": before / 1e6,
        "mb_after": after / 1e6,
    }


def run(clients: int, seconds: float, cuts: bool = False) -> dict[str, Any]:
    """Start a server, and let clients ask it; `cuts`: see `Client`."""
    command = [sys.executable, "-m", "fgclip_det.cli", "web", "--no-browser", "--port", "0"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        url = re.search(r"open (\S+)", server.stdout.readline())[1]
        return asyncio.run(measured(url, server.pid, clients, seconds, cuts))
    finally:
        server.kill()
        server.wait()


def main(argv: list[str] | None = None) -> int:
    """Prints the page; the exit code tells whether all was right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    args = parser.parse_args(argv)
    told = run(args.clients, args.seconds)
    print("# Many users of one page\n")
    given = f"--clients {args.clients} --seconds {args.seconds:g}"
    print(f"`python benchmarks/web_clients.py {given}`")
    print("\nThe bundled model on a CPU, clients on the same machine; four pictures each.\n")
    columns = {
        "users": told["clients"],
        "answers": told["answers"],
        "wrong": len(told["wrong"]),
        "addresses shared": told["shared"],
        "median s": f"{told['median_s']:.2f}",
        "95 % s": f"{told['p95_s']:.2f}",
        "answers/s": f"{told['per_s']:.1f}",
        "MB before": f"{told['mb_before']:.0f}",
        "MB after": f"{told['mb_after']:.0f}",
    }
    print(f"| {' | '.join(columns)} |\n|{' ---: |' * len(columns)}")
    print(f"| {' | '.join(map(str, columns.values()))} |")
    if told["broken"]:
        print(f"\nConnections that broke and were made anew: {told['broken']}.")
    for line in told["wrong"][:5]:
        print(line, file=sys.stderr)
    return 1 if told["wrong"] or told["shared"] else 0


if __name__ == "__main__":
    sys.exit(main())
