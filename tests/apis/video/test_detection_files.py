"""Files that stand where results go, and cameras, which see nothing twice."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fgclip_det.apis.video import source
from fgclip_det.apis.video.detection import detect_video
from tests.apis.video.conftest import ColourDetector, av


@pytest.mark.parametrize("name", ["clip.mp4", "clip.jsonl"])
def test_files_of_others_are_not_written_over(
    video: Path, detector: ColourDetector, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_bytes(b"of somebody")
    with pytest.raises(ValueError, match="is there already, and no result"):
        detect_video(detector, video, out_dir=out, progress=False)
    assert os.listdir(out) == [name] and (out / name).read_bytes() == b"of somebody"
    assert detector.calls == 0


def test_a_drawing_of_others_is_no_hindrance_where_none_is_made(
    video: Path, detector: ColourDetector, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "clip.mp4").write_bytes(b"of somebody")
    result = detect_video(
        detector, video, out_dir=tmp_path / "out", save_video=False, progress=False
    )
    assert result.frames == 12
    assert (tmp_path / "out" / "clip.mp4").read_bytes() == b"of somebody"


def test_results_of_ours_are_replaced(
    video: Path, detector: ColourDetector, tmp_path: Path
) -> None:
    detect_video(detector, video, out_dir=tmp_path / "out", progress=False)
    result = detect_video(detector, video, out_dir=tmp_path / "out", every=3, progress=False)
    assert result.frames == 4


class _StoppedDetector(ColourDetector):
    """Somebody presses Ctrl-C at each fifth frame."""

    def stream(self, images: Any, *given: Any, **settings: Any) -> Iterator[Any]:
        answers = list(super().stream(images, *given, **settings))
        if self.calls % 5 == 0:
            os.kill(os.getpid(), signal.SIGINT)
        yield from answers


def test_a_camera_is_looked_at_anew_until_it_is_stopped(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "is_webcam", lambda name: True)
    monkeypatch.setattr(source.VideoSource, "_opened", lambda self: av.open(str(video)))
    detector = _StoppedDetector()
    for run in (1, 2):
        result = detect_video(
            detector, "webcam", out_dir=tmp_path / "out", name="cam", progress=False
        )
        assert result.frames == 5 and detector.calls == 5 * run
        with av.open(str(result.drawn)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 5
    assert sorted(os.listdir(tmp_path / "out")) == ["cam.jsonl", "cam.mp4", "cam.video.json"]


def test_a_full_disk_loses_nothing_that_was_found(
    video: Path, detector: ColourDetector, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        # Room for the lines, and not for what is drawn.
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, before[1]))
        with pytest.raises(OSError, match=r"clip\.mp4"):
            detect_video(detector, video, out_dir=out, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(out) == ["clip.jsonl.part"]
    assert detect_video(detector, video, out_dir=out, progress=False).frames == 12
    assert detector.calls == 12
