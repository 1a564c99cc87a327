"""The video that was written, decoded again."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from fgclip_det.apis.video.writer import written_video
from tests.apis.video.conftest import av, squares


def _decoded(path: Path) -> tuple[object, list[np.ndarray], list[float]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        context = stream.codec_context
        facts = (context.name, context.pix_fmt, float(stream.average_rate), stream.frames)
        return facts, [f.to_ndarray(format="rgb24") for f in frames], [f.time for f in frames]


def test_frames_come_back(tmp_path: Path) -> None:
    given = squares(20)
    with written_video(tmp_path / "a.mp4", 25) as writer:
        for index, rgb in enumerate(given):
            writer.write(rgb, index / 25)
    facts, frames, times = _decoded(tmp_path / "a.mp4")
    assert facts == ("h264", "yuv420p", 25.0, 20)
    assert times == pytest.approx([index / 25 for index in range(20)])
    for rgb, frame in zip(given, frames, strict=True):
        assert frame.shape == (64, 96, 3)
        assert np.abs(frame.astype(int) - rgb).mean() < 4
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("colour", [(220, 30, 40), (20, 180, 60), (30, 60, 210), (128, 128, 128)])
def test_colours_stay(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    with written_video(tmp_path / "a.mp4", 25) as writer:
        writer.write(np.full((48, 64, 3), colour, np.uint8), 0)
    frame = _decoded(tmp_path / "a.mp4")[1][0]
    assert np.abs(frame[20, 20].astype(int) - colour).max() <= 4


def test_times_are_kept(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.05, 0.9, 3.0]
    with written_video(tmp_path / "a.mp4", 25) as writer:
        for rgb, time_s in zip(squares(5), times, strict=True):
            writer.write(rgb, time_s)
    assert _decoded(tmp_path / "a.mp4")[2] == pytest.approx(times, abs=1e-4)


@pytest.mark.parametrize("size", [(47, 63), (48, 63), (1, 1), (2160, 3840)])
def test_any_size_is_written(tmp_path: Path, size: tuple[int, int]) -> None:
    rgb = np.full((*size, 3), 77, np.uint8)
    rgb[-1, -1] = 200
    with written_video(tmp_path / "a.mp4", 25) as writer:
        writer.write(rgb, 0)
        writer.write(rgb, 1)
    frames = _decoded(tmp_path / "a.mp4")[1]
    height, width = (side + side % 2 for side in size)
    assert [frame.shape for frame in frames] == [(height, width, 3)] * 2


def test_a_frame_of_another_size_is_fitted_in(tmp_path: Path) -> None:
    with written_video(tmp_path / "a.mp4", 25) as writer:
        writer.write(np.full((64, 96, 3), 200, np.uint8), 0)
        writer.write(np.full((64, 32, 3), 200, np.uint8), 1)
    last = _decoded(tmp_path / "a.mp4")[1][1]
    assert last.shape == (64, 96, 3)
    assert last[32, 48].min() > 190 and last[32, 5].max() < 10 and last[32, 90].max() < 10


def test_one_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt), written_video(tmp_path / "a.mp4", 25) as writer:
        writer.write(squares(1)[0], 0)
        raise KeyboardInterrupt
    assert (tmp_path / "a.mp4").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_disk_that_is_full_is_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        with (
            pytest.raises(OSError, match=r"a\.mp4"),
            written_video(tmp_path / "a.mp4", 25) as writer,
        ):
            for index in range(200):
                writer.write(rng.integers(0, 255, (128, 128, 3), dtype=np.uint8), index / 25)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
