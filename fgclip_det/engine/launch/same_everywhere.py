"""Processes that run other code or another config than the first one are refused at the start."""

from __future__ import annotations

import hashlib
import platform
import socket
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch.distributed as dist
from mmengine.config import Config
from mmengine.dist import get_world_size

from fgclip_det.engine.launch.process_group import patient_group
from fgclip_det.io import quoted
from fgclip_det.ops import backend

_PACKAGE = Path(__file__).resolve().parents[2]
_PACKAGES = (
    "torch", "torchvision", "mmengine", "mmdet", "mmcv-lite", "mmcv", "transformers", "numpy",
)  # fmt: skip


def check_same_everywhere(config: Config) -> None:
    """Compare code, config and versions of all processes. All processes call this.

    Args:
        config: Of the run, with what the command line set.

    Raises:
        ValueError: In every process, naming one that differs and in what.
    """
    if get_world_size() == 1:
        return
    everyone: list[tuple[str, dict[str, str]]] = [("", {})] * get_world_size()
    mine = (socket.gethostname(), fingerprint(config))
    dist.all_gather_object(everyone, mine, group=patient_group())
    first = everyone[0][1]
    for rank, (host, one) in enumerate(everyone):
        differing = [key for key in sorted({*first, *one}) if first.get(key) != one.get(key)]
        if differing:
            key = differing[0]
            more = f", and {len(differing) - 1} more" if len(differing) > 1 else ""
            raise ValueError(
                f"process {rank} (on {host}) differs from process 0 in {key} "
                f"({quoted(one.get(key, 'none'))}, not {quoted(first.get(key, 'none'))}{more}): "
                "start all processes with one config and one copy of the code"
            )


def fingerprint(config: Config) -> dict[str, str]:
    """What has to be equal in all processes, by name.

    Args:
        config: Of the run.

    Returns:
        Hashes of the files of this package and of what ``custom_imports`` names, each setting of
        the config, and versions.
    """
    found = {f"file {path.relative_to(_PACKAGE.parent)}": _hash(path) for path in _code()}
    for name in (config.get("custom_imports") or {}).get("imports", []):
        path = getattr(sys.modules.get(name), "__file__", None)
        if path is not None:
            found.setdefault(f"module {name}", _hash(Path(path)))
    found |= {f"config {key}": value for key, value in _settings(config.to_dict())}
    for name in _PACKAGES:
        try:
            found[f"package {name}"] = version(name)
        except PackageNotFoundError:
            found[f"package {name}"] = "none"
    found |= {f"operators of {device}": kind for device, kind in backend().items()}
    return {**found, "Python": platform.python_version()}


def _code() -> list[Path]:
    return sorted(_PACKAGE.rglob("*.py"))


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _settings(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of a nested config, by its dotted name."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _settings(one, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        yield name, str(len(value))
        for number, one in enumerate(value):
            yield from _settings(one, f"{name}.{number}")
    else:
        # Of an object only what it is: its text may hold where it lies in memory.
        is_plain = value is None or isinstance(value, str | int | float)
        yield name, repr(value) if is_plain else type(value).__name__
