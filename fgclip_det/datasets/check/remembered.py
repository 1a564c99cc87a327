"""The file beside an annotation file that remembers a check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fgclip_det.datasets.check.picture_headers import SeenPicture, file_state
from fgclip_det.io import read_json, write_json

_FORMAT, _VERSION = "fgclip_det/data_check", 2
_SUFFIX = ".data_check"


class Memory(NamedTuple):
    """What an earlier check found.

    Attributes:
        pictures: Those that were whole, by name.
        findings: Of an annotation file that is still the same; None if it is not, or was wrong.
    """

    pictures: Mapping[str, SeenPicture]
    findings: Sequence[str] | None


def state_of(path: Path) -> list[int]:
    """Of the settings: what tells whether the annotation file is still the same.

    Taken before the file is read, so that one that is written meanwhile is read again.
    """
    try:
        return list(file_state(path))
    except OSError:  # whoever reads it tells so
        return []


def recall(path: Path, settings: Sequence[object]) -> Memory:
    """What is remembered of an annotation file; nothing where that cannot be read.

    Args:
        path: The annotation file.
        settings: On which the findings depend beside the pictures, for JSON; see `state_of`.
    """
    try:
        values = read_json(_file_of(path), "memory", max_bytes=None)
        if (values["format"], values["version"]) != (_FORMAT, _VERSION):
            return Memory({}, None)
        pictures = {name: SeenPicture(*row) for name, row in values["pictures"].items()}
        findings = values["findings"] if values["settings"] == list(settings) else None
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
            "settings": list(settings),
            "findings": memory.findings,
            "pictures": memory.pictures,
        }
        write_json(_file_of(path), values)
    except (OSError, ValueError):
        return


def _file_of(path: Path) -> Path:
    return path.with_name(path.name + _SUFFIX)
