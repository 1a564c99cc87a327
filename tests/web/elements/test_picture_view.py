"""What a browser may tell of a picture: whatever else it tells is passed over."""

from __future__ import annotations

from typing import Any

import pytest

from fgclip_det.web.elements.picture_view import _checked

WIDE = (200, 100)
TOWER = (2, 2000)
BOX = [1, 2.5, 30, 40]


def test_an_example_has_a_name_and_a_box() -> None:
    told = _checked("like", {"name": "dent", "box": BOX, "more": 1}, WIDE)
    assert told == {"name": "dent", "box": [1.0, 2.5, 30.0, 40.0]}
    assert _checked("heat", {"name": "dent", "box": BOX}, WIDE) == {"name": "dent"}


@pytest.mark.parametrize(
    "told",
    [
        None, [], "dent", {}, {"name": "dent"}, {"name": 1, "box": BOX},
        {"name": "dent", "box": BOX[:3]}, {"name": "dent", "box": "1234"},
        {"name": "dent", "box": [1, 2, 3, "4"]}, {"name": "dent", "box": [1, 2, 3, True]},
        {"name": "dent", "box": [1, 2, 3, float("nan")]},
        {"name": "dent", "box": [1, 2, 3, 10**400]},
    ],
)  # fmt: skip
def test_what_no_page_tells_is_passed_over(told: Any) -> None:
    assert _checked("like", told, WIDE) is None
    assert _checked("unlike", told, WIDE) is None


def test_widths_stay_within_what_is_drawn() -> None:
    for given, width in ((420, 420), (1, 120), (10**5, 2000)):
        assert _checked("resized", {"width": given}, WIDE) == {"width": width}
    told = _checked("resized", {"width": 800}, TOWER)
    # No taller than the highest width, give or take the last pixel of the width.
    assert told["width"] * TOWER[1] / TOWER[0] <= 2 * 2000
    for given in (None, "400", float("inf"), True):
        assert _checked("resized", {"width": given}, WIDE) is None
