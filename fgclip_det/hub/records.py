"""Which commit of which repository is in the cache, so that it is used again without a request.

A JSON file for each, in the hub's own cache. It holds what was seen, never what was supposed: a
commit is the hub's own answer, and a repository counts as fetched when all of its files had come.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from huggingface_hub import constants

from fgclip_det.io import read_json, write_json

NOT_STATED = "not stated"


@dataclass(frozen=True)
class Record:
    """What the hub said of a repository.

    Attributes:
        commit: 40 hex digits.
        licence: Of its card, as the hub names it, or "not stated".
        size: Bytes of `files`.
        files: Those that are read, below the repository's root.
        fetched: Whether all of them are in the cache.
    """

    commit: str
    licence: str = NOT_STATED
    size: int = 0
    files: list[str] = field(default_factory=list)
    fetched: bool = False


def cache_folder() -> Path:
    """The hub's cache, which its own settings place."""
    return Path(constants.HF_HUB_CACHE)


def record_path(name: str, revision: str | None) -> Path:
    """The file of a repository's record; one of its own where a revision was asked for."""
    key = name if revision is None else f"{name}@{revision}"
    return cache_folder() / "fgclip_det" / f"{quote(key, safe='@')}.json"


def read_record(name: str, revision: str | None = None) -> Record | None:
    """The record of a repository; a file that is broken is none, and is written anew."""
    path = record_path(name, revision)
    try:
        return _record(read_json(path)) if path.is_file() else None
    except (ValueError, OSError):
        return None


def write_record(name: str, revision: str | None, record: Record) -> None:
    """Write a record, or replace it.

    Raises:
        OSError: The cache cannot be written to.
    """
    path = record_path(name, revision)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(record), indent=1)


def is_commit(revision: str) -> bool:
    """Whether it names a commit, which nobody can move, and no branch or tag."""
    return len(revision) == 40 and not {*revision} - {*"0123456789abcdef"}


def _record(value: Any) -> Record | None:
    kinds = {"commit": str, "licence": str, "size": int, "files": list, "fetched": bool}
    if not isinstance(value, Mapping) or {*value} != {*kinds}:
        return None
    good = all(isinstance(value[key], kind) for key, kind in kinds.items())
    names = good and all(
        isinstance(name, str) and not os.path.isabs(name) and ".." not in Path(name).parts
        for name in value["files"]
    )
    return Record(**value) if names and is_commit(value["commit"]) else None
