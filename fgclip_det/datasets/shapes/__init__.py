"""Shapes, a generated benchmark."""

from fgclip_det.datasets.shapes.generator import (
    DEFAULT_SPLITS,
    EXTRA_SPLITS,
    check,
    generate,
)

__all__ = ["DEFAULT_SPLITS", "EXTRA_SPLITS", "check", "generate"]
