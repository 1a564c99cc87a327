"""Each letter is drawn with a font that has it; where none has, that is said once."""

from __future__ import annotations

import warnings

import pytest

from fgclip_det.apis.drawing import fonts


def test_plain_letters_need_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_manager", None)
    assert [letters for letters, _ in fonts.runs("a red cup 0.95", 14)] == ["a red cup 0.95"]


@pytest.mark.parametrize("text", ["красный круг", "كوب أحمر", "κόκκινο", "naïve café"])
def test_scripts_of_the_font_that_comes_along(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ((letters, font),) = fonts.runs(text, 14)
    assert letters == text
    assert font.getlength(text) > 0


def test_letters_that_no_font_has_are_said() -> None:
    with pytest.warns(UserWarning, match="no font"):
        pieces = fonts.runs("cup \U000e1000\N{FIRE} κόκκινο", 14)
    assert "".join(letters for letters, _ in pieces) == "cup \U000e1000\N{FIRE} κόκκινο"
