"""Whether bars are shown by what works deep below a command, and knows nothing of its options."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_SHOWN: ContextVar[bool] = ContextVar("bars are shown", default=True)


def bars_are_shown() -> bool:
    """Whether a bar may be shown here."""
    return _SHOWN.get()


@contextmanager
def without_bars(is_quiet: bool = True) -> Iterator[None]:
    """Show none within, if `is_quiet`."""
    token = _SHOWN.set(bars_are_shown() and not is_quiet)
    try:
        yield
    finally:
        _SHOWN.reset(token)
