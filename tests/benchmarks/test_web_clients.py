"""A few users at once are answered as the Python interface answers, each with its own picture."""

from __future__ import annotations

import pytest

pytest.importorskip("nicegui", reason="the page's extra [web] is not installed")
from benchmarks import web_clients


@pytest.mark.slow
def test_users_are_answered_right_and_apart() -> None:
    told = web_clients.run(clients=3, seconds=8)
    assert told["wrong"] == []
    assert told["shared"] == 0
    assert told["answers"] >= 6
    # Megabytes; a leak of one answer's pictures would be far more.
    assert told["mb_after"] < told["mb_before"] + 200
