"""The one way to read a config of MMEngine's."""

from __future__ import annotations

import os
from pathlib import Path

from mmengine.config import Config


def read_config_file(path: str | os.PathLike) -> Config:
    """Read a config file, which is a program of its author's, and runs.

    Only Python files are configs here. MMEngine reads JSON and YAML too, which look like data and
    are not: either may name a program as its base, and its YAML reader makes any object.

    Args:
        path: Python config in MMEngine's format.

    Raises:
        ValueError: The file is missing, of another kind, or cannot be read.
    """
    name = os.fspath(path)
    if not Path(name).is_file():
        raise ValueError(f"no config file at {name!r}: check the path")
    if Path(name).suffix != ".py":
        raise ValueError(f"config {name!r} is no Python file: give one that ends in .py")
    try:
        return Config.fromfile(name)
    except Exception as error:  # whatever it raises is its author's to mend
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"config {name!r} cannot be read ({reason}): mend it") from error
