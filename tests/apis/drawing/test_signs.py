"""Names look the same everywhere, and can be read on their colours."""

from __future__ import annotations

import pytest

from fgclip_det.apis.drawing.signs import signs_of

NAMES = [f"name {number}" for number in range(300)]


def test_a_name_has_one_sign() -> None:
    for name in ("cup", "杯子", "\ud800", ""):
        assert signs_of([name]) == signs_of([name, name])
    assert signs_of(["cup", "plate"])["cup"] == signs_of(["cup"])["cup"]


@pytest.mark.parametrize("count", [1, 7, 8, 21])
def test_names_differ(count: int) -> None:
    signs = signs_of(NAMES[:count])
    assert len({*signs.values()}) == count
    assert len({sign.color for sign in signs.values()}) == min(count, 7)


def test_any_number_of_names() -> None:
    assert len({*signs_of(NAMES).values()}) == 21
    assert signs_of([]) == {}


def test_ink_has_contrast() -> None:
    def luminance(color) -> float:
        parts = [v / 255 for v in color]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for sign in {*signs_of(NAMES).values()}:
        low, high = sorted((luminance(sign.color), luminance(sign.ink)))
        assert (high + 0.05) / (low + 0.05) >= 4.5
