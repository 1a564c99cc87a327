"""Configs that have a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgclip_det.apis import presets
from fgclip_det.cli.arguments import common
from tests.messages import says


def test_names_and_everything_else() -> None:
    assert presets.preset_path("photos") == presets.config_path("default")
    assert presets.preset_path("photos/fast").name == "fast.py"
    for other in ("photos/mine.py", "configs/a.py", Path("photos"), "photographs"):
        assert presets.preset_path(other) == other


@pytest.mark.parametrize("name", ["photos/slow", "photos/../fast", "photos/" + "x" * 500])
def test_unknown_presets(name: str) -> None:
    with pytest.raises(ValueError, match=says("no preset", "'default', 'balanced', 'fast'")):
        presets.preset_path(name)


def test_an_installed_package_has_its_own(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(presets, "_PACKAGE", tmp_path / "fgclip_det")
    with pytest.raises(ValueError, match=says("'fast'", "install it")):
        presets.config_path("fast")
    path = tmp_path / "fgclip_det" / ".mim" / "configs" / "photos" / "fast.py"
    path.parent.mkdir(parents=True)
    path.write_text("")
    assert presets.config_path("fast") == path


def test_parts() -> None:
    detector, encoder = presets.preset_parts("fast")
    assert detector == ("detector", "ustc-community/dfine-small-obj365", None)
    assert encoder == ("encoder", "qihoo360/fg-clip2-base", None)


def test_the_command_line_knows_the_same_presets() -> None:
    assert common.PRESETS == presets.PRESETS
