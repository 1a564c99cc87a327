"""What the command-line tools share: reading a config, and errors that a user can mend."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config

EXIT_USER_ERROR = 2


def read_config(
    path: str, cfg_options: dict[str, Any] | None = None, work_dir: str | None = None
) -> Config:
    """Read a config file and apply what the command line overrides.

    Args:
        path: Python config in MMEngine's text format.
        cfg_options: Dotted keys and their new values.
        work_dir: Folder for logs and checkpoints; None keeps the config's, else
            ``work_dirs/<name of the config>``.

    Raises:
        ValueError: The file is missing or cannot be read, or an override does not fit it.
    """
    if not Path(path).is_file():
        raise ValueError(f"no config file at {path!r}: check the path")
    try:
        config = Config.fromfile(path)
    except (SyntaxError, OSError, ImportError, NameError, KeyError, AttributeError) as error:
        raise ValueError(f"config {path!r} cannot be read: {error}") from error
    try:
        config.merge_from_dict(cfg_options or {})
    except (KeyError, TypeError, IndexError, AssertionError) as error:
        raise ValueError(f"--cfg-options does not fit {path!r}: {error}") from error
    config.work_dir = work_dir or config.get("work_dir") or f"work_dirs/{Path(path).stem}"
    return config


def run_tool(main: Callable[[], None]) -> int:
    """Run a tool: errors of the user's become one line and exit code 2, bugs keep a traceback."""
    try:
        main()
    except (ValueError, FileNotFoundError, PermissionError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_USER_ERROR
    return 0
