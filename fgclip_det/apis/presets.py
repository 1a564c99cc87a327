"""Configs that have a name, and the repositories of the hub that they need."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

PRESETS = ("default", "balanced", "fast")
_DOOR = "photos"
_PACKAGE = Path(__file__).parents[1]


class Part(NamedTuple):
    """A repository that a preset needs.

    Attributes:
        kind: "detector" or "encoder".
        name: Its hub id.
        revision: That the config fixes, if it does.
    """

    kind: str
    name: str
    revision: str | None


def preset_path(model: Any) -> Any:
    """The config file of a preset's name, such as "photos/fast"; anything else as it is.

    Raises:
        ValueError: There is no preset of that name, or its config was not installed.
    """
    preset = preset_name(model)
    return model if preset is None else config_path(preset)


def preset_name(model: Any) -> str | None:
    """The word "fast" of "photos/fast", known or not; None of anything else."""
    if not isinstance(model, str) or model.partition("/")[0] != _DOOR or model.endswith(".py"):
        return None
    return model.partition("/")[2] or PRESETS[0]


def config_path(preset: str) -> Path:
    """The config file of a preset: of the installed package, or of a clone.

    Raises:
        ValueError: There is no preset of that name, or its config was not installed.
    """
    if preset not in PRESETS:
        raise ValueError(f"there is no preset {preset!r:.80}: use {', '.join(map(repr, PRESETS))}")
    tried = [place / "configs" / _DOOR / f"{preset}.py" for place in _places()]
    for path in tried:
        if path.is_file():
            return path
    raise ValueError(f"the preset {preset!r} is missing from {str(tried[0].parent)!r}: install it")


def preset_parts(preset: str) -> list[Part]:
    """What a preset is made of.

    Raises:
        ValueError: See `config_path`.
    """
    # Without its imports: whoever lists names waits for no detectors.
    model = Config.fromfile(config_path(preset), import_custom_modules=False).model
    parts = {"detector": model.detector, "encoder": model.encoder}
    return [
        Part(kind, part, None)
        if isinstance(part, str)
        else Part(kind, part["name"], part.get("revision"))
        for kind, part in parts.items()
    ]


def _places() -> list[os.PathLike]:
    return [_PACKAGE / ".mim", _PACKAGE.parent]
