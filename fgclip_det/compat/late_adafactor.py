"""MMEngine's optimizers without transformers, whose Adafactor is imported when it is asked for.

MMEngine imports it only to register it, transformers then imports peft where that is installed, and
peft all models of transformers: more than the rest of a start together.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from torch.optim import Optimizer

_BUILDER = "mmengine.optim.optimizer.builder"


def install() -> None:
    """Register the late Adafactor; nothing where MMEngine is missing or was imported already."""
    if _BUILDER in sys.modules:
        return
    absent = object()
    before = sys.modules.get("transformers", absent)
    # An import of it then fails, which MMEngine takes for a machine without transformers.
    sys.modules["transformers"] = None  # type: ignore[assignment]
    try:
        builder = importlib.import_module(_BUILDER)
    except ImportError:
        return
    finally:
        if before is absent:
            del sys.modules["transformers"]
        else:
            sys.modules["transformers"] = before  # type: ignore[assignment]
    if "Adafactor" not in builder.OPTIMIZERS:
        builder.OPTIMIZERS.register_module(name="Adafactor", module=adafactor)


def adafactor(params: Any, *arguments: Any, **options: Any) -> Optimizer:
    """transformers' Adafactor, with its arguments."""
    return importlib.import_module("transformers").Adafactor(params, *arguments, **options)
