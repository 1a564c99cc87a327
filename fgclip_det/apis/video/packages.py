"""Packages that only videos need."""

from __future__ import annotations

import importlib
from types import ModuleType

from fgclip_det.exit_codes import import_advice


def needed(name: str) -> ModuleType:
    """A package of the extra ``video``.

    Args:
        name: "av", "supervision" or "trackers".

    Raises:
        ImportError: It is not installed; names what installs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(import_advice(error) or str(error), name=error.name) from error
