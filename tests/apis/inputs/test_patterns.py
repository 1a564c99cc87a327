"""Patterns that shells leave as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgclip_det.apis.inputs.picture_lists import find_images, named_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b/c.png", "b/d/e.jpg", "x[1].png", "x1.png", "a.txt", "out/vis/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"?")
    return tmp_path


def test_patterns_name_pictures(folder: Path) -> None:
    named = named_images([f"{folder}/**/*.*"], without=[folder / "out"])
    assert list(named.values()) == ["a", "b/c", "b/d/e", "x1", "x[1]"]
    assert list(named_images([f"{folder}/b*"]).values()) == ["b/c", "b/d/e"]
    assert [path.name for path in find_images(f"{folder}/?.jpg")] == ["a.jpg"]
    assert [path.name for path in find_images(f"{folder}/b*", recursive=False)] == ["c.png"]


def test_a_file_of_that_name_wins(folder: Path) -> None:
    assert find_images(f"{folder}/x[1].png") == [folder / "x[1].png"]
    (folder / "x[1].png").unlink()
    assert find_images(f"{folder}/x[1].png") == [folder / "x1.png"]


def test_what_matches_nothing_is_said(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"no picture matches .*\*\.webp"):
        find_images(f"{folder}/*.webp")


def test_folders_by_themselves_and_videos(folder: Path) -> None:
    assert [p.name for p in find_images(folder, recursive=False)] == ["a.jpg", "x1.png", "x[1].png"]
    with pytest.raises(ValueError, match="folders below it were not looked into"):
        find_images(folder / "out", recursive=False)
    with pytest.raises(ValueError, match="fgclip-det detect handles videos"):
        find_images("film.mp4")
