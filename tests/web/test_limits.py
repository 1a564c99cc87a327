"""What is kept, and what is refused before it costs anything."""

from __future__ import annotations

import pytest

from fgclip_det.web.limits import Budget, Kept, Limits


def test_the_longest_unused_goes_first() -> None:
    kept = Kept(10)
    kept.put("a", 1, 4)
    kept.put("b", 2, 4)
    assert kept.get("a") == 1  # used: now b is the older one
    kept.put("c", 3, 4)
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (1, None, 3)
    assert (kept.used, len(kept)) == (8, 2)


def test_what_is_larger_than_all_is_not_kept() -> None:
    kept = Kept(10)
    kept.put("a", 1, 4)
    kept.put("b", 2, 11)
    assert (kept.get("a"), kept.get("b"), kept.used) == (1, None, 4)


def test_putting_again_counts_once() -> None:
    kept = Kept(10)
    for size in (4, 6, 2):
        kept.put("a", size, size)
    assert (kept.get("a"), kept.used) == (2, 2)
    kept.drop("a")
    kept.drop("a")
    assert (kept.used, len(kept)) == (0, 0)


def test_a_budget_is_of_all_together() -> None:
    budget = Budget(10)
    budget.take(6)
    with pytest.raises(ValueError, match="as many pictures as it may"):
        budget.take(5)
    budget.give(6)
    budget.take(10)
    assert budget.used == 10


@pytest.mark.parametrize("text", [None, 3, ["a"], "x" * 4001])
def test_odd_text_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="type"):
        Limits().check_text(text, "names")


def test_uploads_are_measured() -> None:
    limits = Limits(upload_bytes=5)
    limits.check_upload(5, "a.png")
    with pytest.raises(ValueError, match=r"'a\.png' has more than"):
        limits.check_upload(6, "a.png")
    with pytest.raises(ValueError, match="is empty"):
        limits.check_upload(0, "a.png")
