"""Shapes, a generated benchmark."""

from fgclip_det.datasets.shapes.generator import (
    DEFAULT_SPLITS,
    PRESENCE_SPLITS,
    check,
    generate,
)

__all__ = ["DEFAULT_SPLITS", "PRESENCE_SPLITS", "check", "generate"]
