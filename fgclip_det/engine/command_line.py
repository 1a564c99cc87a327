"""Shared by the command-line tools: reading a config, and checks before anything is computed."""

from __future__ import annotations

import argparse
import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from fgclip_det.compat import load_checkpoint_file
from fgclip_det.engine.config_files import read_config_file
from fgclip_det.engine.launch.process_group import take_environment
from fgclip_det.io import check_writable

# Read by `Runner` and by the tools beside the arguments of `Runner.__init__`.
_OTHER_KEYS = {
    "activation_checkpointing",
    "compile",
    "custom_imports",
    "find_unused_parameters",
    "model_wrapper_cfg",
    "runner_type",
    "sync_bn",
}


class ConfigOptionsAction(DictAction):
    """MMEngine's ``key=value`` arguments; a malformed one is an error of argparse's."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        for value in values:
            if "=" not in value:
                raise argparse.ArgumentError(self, f"{value!r} is no key=value")
        try:
            super().__call__(parser, namespace, values, option_string)
        except (ValueError, AssertionError, IndexError) as error:
            raise argparse.ArgumentError(self, f"{' '.join(values)!r}: {error}") from error


def read_config(
    path: str,
    cfg_options: dict[str, Any] | None = None,
    work_dir: str | None = None,
    needs: Sequence[str] = (),
) -> Config:
    """Read a config file and apply what the command line overrides.

    Args:
        path: Python config in MMEngine's text format.
        cfg_options: Dotted keys and their new values.
        work_dir: Folder for logs and checkpoints; None keeps the config's, else
            ``work_dirs/<name of the config>``.
        needs: Keys that the tool cannot do without.

    Raises:
        ValueError: The file is missing, cannot be read or lacks a needed key, an override does not
            fit it, or the work dir is a file.
    """
    config = read_config_file(path)
    known = {*config, *inspect.signature(Runner.__init__).parameters, *_OTHER_KEYS}
    for key in cfg_options or {}:
        if key.partition(".")[0] not in known:
            raise ValueError(f"--cfg-options: {path!r} has no {key!r}: check its spelling")
    try:
        config.merge_from_dict(cfg_options or {})
    except (KeyError, TypeError, IndexError, AssertionError) as error:
        raise ValueError(f"--cfg-options does not fit {path!r}: {error}") from error
    missing = [key for key in needs if config.get(key) is None]
    if missing:
        raise ValueError(f"config {path!r} has no {', '.join(missing)}: use one that does")
    config.work_dir = work_dir or config.get("work_dir") or f"work_dirs/{Path(path).stem}"
    if Path(config.work_dir).is_file():
        raise ValueError(f"work dir {config.work_dir!r} is a file: name another")
    return config


def given_path(text: str) -> Path:
    """An argument that is a path; "", of a shell's variable that is not set, is none.

    Raises:
        argparse.ArgumentTypeError: It is "".
    """
    if not text:
        raise argparse.ArgumentTypeError("'' is no path: leave the option out, or give one")
    return Path(text)


def check_target(out: Path, *read: str | os.PathLike) -> Path:
    """Say what is wrong with a file of results before anything is computed.

    Args:
        out: The file.
        read: What the tool reads, which must not be written over.

    Returns:
        `out`.

    Raises:
        ValueError: It is no ``.json`` file in a folder that is there, or one of `read`.
        OSError: The folder cannot be written to.
    """
    if out.suffix != ".json" or not out.parent.is_dir() or out.is_dir():
        raise ValueError(f"{str(out)!r} must be a .json file in a folder that is there")
    # Of a link that leads to itself `Path.resolve` has no answer.
    if any(os.path.realpath(out) == os.path.realpath(other) for other in read):
        raise ValueError(f"{str(out)!r} would be written over what is read: name another file")
    check_writable(out.parent)
    return out


def set_launcher(config: Config, launcher: str, local_rank: int) -> None:
    """Take over how the processes were started.

    Raises:
        ValueError: Nothing started them.
    """
    os.environ.setdefault("LOCAL_RANK", str(local_rank))
    if launcher != "none":
        take_environment(launcher, config.get("env_cfg", {}).get("dist_cfg", {}).get("port"))
    config.launcher = launcher


def check_checkpoint(path: str | None) -> None:
    """Say what is wrong with a checkpoint before anything is built or written; not for URLs.

    Raises:
        ValueError: See `load_checkpoint_file`.
    """
    if path is not None and "://" not in path:
        load_checkpoint_file(path)
