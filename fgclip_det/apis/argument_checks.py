"""Arguments that users mistype, refused before they fail deep inside."""

from __future__ import annotations

import numbers
import os
from collections.abc import Sequence
from typing import Any


def check_score_thr(score_thr: Any) -> None:
    """Refuse a least score that is none.

    Raises:
        ValueError: It is no number in [0, 1].
    """
    if not (_is_a(score_thr, numbers.Real) and 0 <= score_thr <= 1):
        raise ValueError(f"score_thr is {score_thr!r}: it must be between 0 and 1")


def check_conf_thr(conf_thr: Any) -> None:
    """Refuse a least confidence that is none.

    Raises:
        ValueError: It is no number in [0, 1].
    """
    if not (_is_a(conf_thr, numbers.Real) and 0 <= conf_thr <= 1):
        raise ValueError(f"conf_thr is {conf_thr!r}: it must be between 0 and 1")


def check_batch_size(batch_size: Any) -> None:
    """Refuse a number of pictures that is none.

    Raises:
        ValueError: It is no whole number from 1.
    """
    if not (_is_a(batch_size, numbers.Integral) and batch_size >= 1):
        raise ValueError(f"batch_size is {batch_size!r}: it must be 1 or more, a whole number")


def check_whole_number(value: Any, what: str, least: int) -> None:
    """Refuse what is no whole number, or too small.

    Raises:
        ValueError: It is, or is no number.
    """
    if not (_is_a(value, numbers.Integral) and value >= least):
        raise ValueError(f"{what} is {value!r}: it must be {least} or more, a whole number")


def check_on_error(on_error: Any) -> None:
    """Refuse what is neither way to go on.

    Raises:
        ValueError: It is neither "raise" nor "collect".
    """
    if not isinstance(on_error, str) or on_error not in ("raise", "collect"):
        raise ValueError(f'on_error is {on_error!r}: it must be "raise" or "collect"')


def check_list(values: Any, kind: type, what: str) -> None:
    """Refuse what is no sequence of things of a kind.

    Raises:
        ValueError: It is none, or holds another kind.
    """
    is_list = isinstance(values, Sequence) and not isinstance(values, str | bytes)
    wrong = [v for v in values if not isinstance(v, kind)] if is_list else [values]
    if wrong:
        raise ValueError(
            f"{what} must be a list of {kind.__name__}, not {type(wrong[0]).__name__} "
            f"({wrong[0]!r:.80})"
        )


def check_path(path: Any, what: str) -> None:
    """Refuse what cannot be a path.

    Raises:
        ValueError: It is of another kind, empty, or holds a zero character.
    """
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise ValueError(f"{what} cannot be a {type(path).__name__} ({path!r:.80}): give a path")
    if not os.fspath(path) or "\0" in os.fspath(path):
        raise ValueError(f"{what} is {os.fspath(path)!r}, which is no path: check the path")


def _is_a(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
