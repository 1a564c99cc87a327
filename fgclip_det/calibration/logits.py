"""Log-odds that a curve can be fitted to and read at, of NumPy arrays and of tensors alike."""

from __future__ import annotations

from typing import Any

import numpy as np

from fgclip_det.io import quoted

# A feature further from 0 counts as this: odds of 1e13 are as good as infinite ones.
LARGEST_LOGIT = 30.0


def checked_logits(values: Any, name: str) -> Any:
    """Log-odds as float64, held within `LARGEST_LOGIT`.

    In float32 a curve of many knots would not always rise.

    Args:
        values: An array or a tensor.
        name: The feature's.

    Raises:
        ValueError: They hold NaN.
    """
    values = held(values)
    if has_nan(values):
        raise ValueError(
            f"the feature {quoted(name)} holds NaN: the detector diverged, or its weights are "
            "broken"
        )
    return values


def held(values: Any) -> Any:
    """Log-odds as float64, held within `LARGEST_LOGIT`; NaN stays."""
    values = values.double() if hasattr(values, "double") else np.asarray(values, np.float64)
    return values.clip(-LARGEST_LOGIT, LARGEST_LOGIT)


def has_nan(values: Any) -> bool:
    """Whether one is NaN."""
    # Unlike every other number NaN differs from itself, for NumPy and for torch.
    return bool((values != values).any())


def to_float32(values: Any) -> Any:
    """An array or a tensor as float32."""
    return values.float() if hasattr(values, "float") else np.asarray(values, np.float32)
