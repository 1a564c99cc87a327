"""The file beside an annotation file that remembers a check."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fgclip_det.datasets.check.picture_headers import SeenPicture
from fgclip_det.io import read_json, write_json

_FORMAT, _VERSION = "fgclip_det/data_check", 1
_SUFFIX = ".data_check"


class Memory(NamedTuple):
    """What an earlier check found.

    Attributes:
        pictures: Those that were whole, by name.
        findings: Of an annotation file that is still the same; None if it is not, or was wrong.
    """

    pictures: Mapping[str, SeenPicture]
    findings: Sequence[str] | None


def recall(path: Path, settings: Sequence[object]) -> Memory:
    """What is remembered of an annotation file; nothing where that cannot be read.

    Args:
        path: The annotation file.
        settings: On which the findings depend beside the files, for JSON.
    """
    try:
        values = read_json(_file_of(path), "memory", max_bytes=None)
        if (values["format"], values["version"]) != (_FORMAT, _VERSION):
            return Memory({}, None)
        pictures = {name: SeenPicture(*row) for name, row in values["pictures"].items()}
        same = values["annotations"] == _state(path) and values["settings"] == list(settings)
        findings = values["findings"] if same else None
        if findings is not None and not all(isinstance(text, str) for text in findings):
            findings = None
        return Memory(pictures, findings)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Memory({}, None)


def remember(path: Path, settings: Sequence[object], memory: Memory) -> None:
    """Write what `recall` reads; where nothing can be written, nothing is remembered."""
    try:
        values = {
            "format": _FORMAT,
            "version": _VERSION,
            "annotations": _state(path),
            "settings": list(settings),
            "findings": memory.findings,
            "pictures": memory.pictures,
        }
        write_json(_file_of(path), values)
    except (OSError, ValueError):
        return


def _file_of(path: Path) -> Path:
    return path.with_name(path.name + _SUFFIX)


def _state(path: Path) -> list[int]:
    state = os.stat(path)
    return [state.st_size, state.st_mtime_ns]
