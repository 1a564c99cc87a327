"""A hub on this machine: repositories of files in memory, with the published addresses."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Repository:
    """Files of one commit.

    Attributes:
        files: By name.
        licence: Of the card; None for a card that states none.
        status: What requests are answered with in place of 200, such as 401.
        tags: Names of revisions beside "main" and the commit.
    """

    files: dict[str, bytes]
    licence: str | None = "apache-2.0"
    status: int = 200
    error: str = ""
    tags: tuple[str, ...] = ()

    @property
    def commit(self) -> str:
        """40 hex digits of the content."""
        digest = hashlib.sha1()
        for name, data in sorted(self.files.items()):
            digest.update(name.encode() + b"\0" + data)
        return digest.hexdigest()


@dataclass
class Hub:
    """What is served, and what was asked for.

    Attributes:
        url: Where it listens.
        repositories: By id.
        requests: Method and path of each request so far.
        break_after: Files are cut after so many bytes, once; None for whole ones.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    break_after: int | None = None


def repository_of(directory: Path, **settings) -> Repository:
    """The files of a directory."""
    files = {p.relative_to(directory).as_posix(): p for p in directory.rglob("*") if p.is_file()}
    return Repository({name: path.read_bytes() for name, path in files.items()}, **settings)


@contextmanager
def serve() -> Iterator[Hub]:
    """Serve until the block ends."""
    hub = Hub()

    class Handler(_Handler):
        own = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    own: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.own.requests.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        found = api or file
        name = found[1] if found else ""
        repository = self.own.repositories.get(name)
        if repository is None:
            self._send(404, {"X-Error-Code": "RepoNotFound"})
            return
        if repository.status != 200:
            self._send(repository.status, {"X-Error-Code": repository.error})
            return
        revision = (found[3] if api else found[2]) or "main"
        if revision not in ("main", repository.commit, *repository.tags):
            self._send(404, {"X-Error-Code": "RevisionNotFound"})
        elif api and api[2] == "tree":
            self._send_json([_entry(n, d) for n, d in repository.files.items()])
        elif api:
            self._send_json(_info(name, repository))
        elif found[3] not in repository.files:
            self._send(404, {"X-Error-Code": "EntryNotFound"})
        else:
            self._send_file(repository, repository.files[found[3]])

    def _send_file(self, repository: Repository, data: bytes) -> None:
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked:
            start, status = int(asked[1]), 206
        etag = hashlib.sha256(data).hexdigest()
        headers = {
            "X-Repo-Commit": repository.commit,
            "ETag": f'"{etag}"',
            "Accept-Ranges": "bytes",
        }
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        rest = data[start:]
        limit = self.own.break_after
        if self.command == "GET" and limit is not None and len(rest) > limit:
            self.own.break_after = None
            self._send(status, headers, rest[:limit], len(rest))
            self.close_connection = True
            return
        self._send(status, headers, rest)

    def _send_json(self, value) -> None:
        headers = {"Content-Type": "application/json"}
        self._send(200, headers, json.dumps(value).encode())

    def _send(self, status: int, headers: dict, body: bytes = b"", length: int | None = None):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _entry(name: str, data: bytes) -> dict:
    return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}


def _info(name: str, repository: Repository) -> dict:
    files = [{"rfilename": n, "size": len(d)} for n, d in repository.files.items()]
    card = {} if repository.licence is None else {"license": repository.licence}
    return {"id": name, "sha": repository.commit, "siblings": files, "cardData": card, "tags": []}
