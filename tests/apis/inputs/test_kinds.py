"""Kinds of files, told by the endings of their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgclip_det.apis.inputs.kinds import is_url, is_video, is_webcam


@pytest.mark.parametrize(
    ("name", "video"),
    [
        ("a.mp4", True),
        ("A.MOV", True),
        (Path("folder.jpg") / "b.webm", True),
        ("http://host/a.mp4?size=1.jpg", True),
        ("http://host/a.jpg?from=b.mp4", False),
        ("a.mp4?.jpg", False),
        ("a.gif", False),
        ("mp4", False),
        ("folder.mp4/a.png", False),
    ],
)
def test_videos_are_told_by_their_ending(name: str | Path, video: bool) -> None:
    assert is_video(name) is video


def test_addresses_are_text_of_two_schemes() -> None:
    assert is_url("HTTPS://host/a") and is_url("http://host/a")
    assert not is_url("file:///a") and not is_url(Path("http://host/a")) and not is_url("httpx")


def test_webcams_are_named() -> None:
    assert is_webcam("webcam") and is_webcam("webcam:12")
    assert not is_webcam("webcam:") and not is_webcam("webcam.mp4") and not is_webcam("a/webcam")
