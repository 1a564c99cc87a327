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
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil
import socketio
import torch
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
    """One user, as the page's own scripts speak to the server."""

    def __init__(self, url: str, number: int, right: dict[tuple[int, str], Told]) -> None:
        self.url, self.number, self.right = url, number, right
        self.wrong: list[str] = []
        self.taken: list[float] = []
        self.keys: set[str] = set()
        self.elements: dict[str, Any] = {}
        self._changed = asyncio.Event()

    async def run(self, until: asyncio.Event) -> None:
        """Ask until it is told to stop."""
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as http:
            async with http.get(self.url) as answer:
                page = await answer.text()
            packed = re.search(r"parseElements\(String\.raw`(.*?)`\)", page, re.DOTALL)[1]
            for escaped, letter in _ESCAPED.items():
                packed = packed.replace(escaped, letter)
            self.elements = json.loads(packed)
            self.id = re.search(r"['\"]client_id['\"]: ?['\"]([\w-]+)", page)[1]
            sio = socketio.AsyncClient(http_session=http, reconnection=False)
            sio.on("update", self._update)
            tab = uuid.uuid4()
            query = f"client_id={self.id}&next_message_id=0&implicit_handshake=true&tab_id={tab}"
            query += f"&document_id={uuid.uuid4()}"
            path = "/_nicegui_ws/socket.io"
            await sio.connect(f"{self.url}?{query}", transports=["websocket"], socketio_path=path)
            await self._until(lambda: len(self._views()) >= 3)
            where = re.search(r"/upload/[-A-Za-z0-9_]+", page)[0]
            where = f"{self.url}{where}?name=own{self.number}.png"
            async with http.post(where, data=own_picture(self.number)) as answer:
                if answer.status != 200:
                    self.wrong.append(f"upload: {await answer.text()}")
            await self._until(lambda: len(self._views()) >= 4)
            while not until.is_set():
                await self._ask(sio, random.choice(QUESTIONS))
            await sio.disconnect()

    async def _ask(self, sio: socketio.AsyncClient, text: str) -> None:
        field, listener = self._field()
        began = time.perf_counter()
        event = {"id": int(field), "client_id": self.id, "listener_id": listener}
        await sio.emit("event", {**event, "args": [json.dumps(text)]})
        asked = f'data-asked="{text}"'
        await self._until(lambda: all(asked in one["svg"] for one in self._views()))
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
        told.pop("_id", None)
        for key, element in told.items():
            if element is None:
                self.elements.pop(key, None)
            else:
                self.elements[key] = element
        self._changed.set()

    async def _until(self, holds: Any) -> None:
        while not holds():
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 300)


def right_answers(count: int) -> dict[tuple[int, str], Told]:
    """By picture and question, what the Python interface tells: the bundled ones, then the own."""
    torch.set_num_threads(1)
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


async def measured(url: str, pid: int, count: int, seconds: float) -> dict[str, Any]:
    """What all clients saw."""
    right = right_answers(count)
    until = asyncio.Event()
    clients = [Client(url, number, right) for number in range(count)]
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
        "shared": len(own) - len(set(own)),
        "median_s": statistics.median(taken) if taken else float("nan"),
        "p95_s": taken[int(len(taken) * 0.95)] if taken else float("nan"),
        "per_s": len(taken) / (seconds * 3 / 4),
        "mb_before": before / 1e6,
        "mb_after": after / 1e6,
    }


def run(clients: int, seconds: float) -> dict[str, Any]:
    """Start a server, and let clients ask it."""
    command = [sys.executable, "-m", "fgclip_det.cli", "web", "--no-browser", "--port", "0"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        url = re.search(r"open (\S+)", server.stdout.readline())[1]
        return asyncio.run(measured(url, server.pid, clients, seconds))
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
    for line in told["wrong"][:5]:
        print(line, file=sys.stderr)
    return 1 if told["wrong"] or told["shared"] else 0


if __name__ == "__main__":
    sys.exit(main())
