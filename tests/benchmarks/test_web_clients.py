"""A few users at once are answered as the Python interface answers, each with its own picture."""

from __future__ import annotations

import pytest

pytest.importorskip("nicegui", reason="the page's extra [web] is not installed")
from benchmarks import web_clients


@pytest.mark.slow
@pytest.mark.parametrize("cuts", [False, True])
def test_users_are_answered_right_and_apart(cuts: bool) -> None:
    """`cuts`: also where connections break, as on a machine too busy for signs of life."""
    told = web_clients.run(clients=3, seconds=10, cuts=cuts)
    assert told["wrong"] == []
    assert told["shared"] == 0
    assert told["answers"] >= 6
    assert not cuts or told["broken"] > 0
    # Megabytes; a leak of one answer's pictures would be far more.
    assert told["mb_after"] < told["mb_before"] + 200
