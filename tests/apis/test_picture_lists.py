"""The pictures that a user means, in folders and out of them, and the names of what is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgclip_det.apis.picture_lists import find_images


def test_finds_pictures_in_folders_sorted(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"?")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in find_images(tmp_path)] == ["a.jpg", "b.PNG"]
    assert find_images([tmp_path / "b.PNG", tmp_path])[0].name == "b.PNG"


@pytest.mark.parametrize("name", ["none.png", "empty", "x" * 5000, "a\0b.png"])
def test_finding_says_what_is_wrong(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"check the path|holds no picture"):
        find_images(tmp_path / name)


def test_finding_needs_a_path() -> None:
    with pytest.raises(ValueError, match="name files or folders"):
        find_images([])
