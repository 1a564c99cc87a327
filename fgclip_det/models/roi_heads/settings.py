"""Settings of heads, checked where they are given: numbers in their range, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

# Cosines of float32 are rounded by about 1e-7: multiplied by more than this, that is all they show.
MAX_TEMPERATURE = 1e6


def check_number(name: str, value: Any, low: float, high: float = math.inf) -> None:
    """Make sure that a setting is a finite number within bounds, which are part of the range.

    Raises:
        ValueError: It is not, or is a bool or a text.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not abs(value) < math.inf:
        raise ValueError(f"{name} is {value!r}: it must be a number")
    if not low <= value <= high:
        wanted = f"in [{low:g}, {high:g}]" if math.isfinite(high) else f"{low:g} or more"
        raise ValueError(f"{name} must be {wanted}, got {value}")


def check_count(name: str, value: Any) -> None:
    """Make sure that a setting is a whole number from 1.

    Raises:
        ValueError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} is {value!r}: it must be a whole number from 1")


def check_bool(name: str, value: Any) -> None:
    """Make sure that a setting is True or False.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}: it must be True or False")


def check_temperature(name: str, value: Any) -> None:
    """Make sure that cosines can be multiplied by a setting before a softmax.

    Raises:
        ValueError: It is no number, not positive, or so large that rounding decides.
    """
    check_number(name, value, -math.inf)
    if value <= 0:
        raise ValueError(f"{name} must be positive, got {value}")
    check_number(name, value, 0, MAX_TEMPERATURE)


def check_test_cfg(test_cfg: Mapping[str, Any]) -> None:
    """Make sure of those settings of a second stage's ``test_cfg`` that are there.

    Args:
        test_cfg: See `OpenVocabRoIHead` and `classify_regions`.

    Raises:
        ValueError: A setting is of another kind or out of range.
    """
    for key in ("alpha", "beta", "score_thr", "mask_thr_binary"):
        if key in test_cfg:
            check_number(f"test_cfg.{key}", test_cfg[key], 0, 1)
    if "vlm_temperature" in test_cfg:
        check_temperature("test_cfg.vlm_temperature", test_cfg["vlm_temperature"])
    if "max_per_img" in test_cfg:
        check_count("test_cfg.max_per_img", test_cfg["max_per_img"])
    if "nms" not in test_cfg:
        return
    suppression = test_cfg["nms"]
    if not isinstance(suppression, Mapping) or "iou_threshold" not in suppression:
        raise ValueError(
            f"test_cfg.nms is {suppression!r}: it must be such as dict(iou_threshold=0.5)"
        )
    check_number("test_cfg.nms.iou_threshold", suppression["iou_threshold"], 0, 1)
    check_bool("test_cfg.nms.class_agnostic", suppression.get("class_agnostic", False))
