"""Frames as they are shown, and files that are no videos or broken ones."""

from __future__ import annotations

import os
import shutil
import warnings
import wave
from pathlib import Path

import numpy as np
import pytest

from fgclip_det.apis.video.source import VideoSource
from tests.apis.video.conftest import squares, write_frames

CORNERS = {"red": (200, 30, 40), "green": (20, 180, 60), "blue": (40, 60, 210), "grey": (90,) * 3}


def _quarters(height: int = 48, width: int = 64) -> np.ndarray:
    """A colour in each corner."""
    rgb = np.empty((height, width, 3), np.uint8)
    rgb[: height // 2, : width // 2] = CORNERS["red"]
    rgb[: height // 2, width // 2 :] = CORNERS["green"]
    rgb[height // 2 :, : width // 2] = CORNERS["blue"]
    rgb[height // 2 :, width // 2 :] = CORNERS["grey"]
    return rgb


def _corners(rgb: np.ndarray) -> list[str]:
    """Colours of the corners: left and right at the top, left and right at the bottom."""
    found = []
    for row in (5, -6):
        for column in (5, -6):
            distances = {
                n: np.abs(rgb[row, column] - np.array(c)).sum() for n, c in CORNERS.items()
            }
            found.append(min(distances, key=distances.get))
    return found


def test_frames_come_in_order_with_their_times(video: Path) -> None:
    source = VideoSource(video)
    frames = list(source)
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.time_s for frame in frames] == pytest.approx([i / 25 for i in range(12)])
    assert (source.width, source.height, source.rate, source.frame_count) == (96, 64, 25, 12)
    assert not source.is_live and source.problem is None
    for frame, drawn in zip(frames, squares(12), strict=True):
        assert frame.pixels.shape == (64, 96, 3) and frame.pixels.dtype == np.uint8
        assert np.abs(frame.pixels.astype(int) - drawn).mean() < 8


def test_every_third_frame_keeps_its_place_and_time(video: Path) -> None:
    whole, some = list(VideoSource(video)), list(VideoSource(video, every=3))
    assert [frame.index for frame in some] == [0, 3, 6, 9]
    for frame in some:
        assert frame.time_s == whole[frame.index].time_s
        np.testing.assert_array_equal(frame.pixels, whole[frame.index].pixels)


def test_it_can_be_read_again(video: Path) -> None:
    source = VideoSource(video)
    first, again = list(source), list(source)
    assert [frame.time_s for frame in first] == [frame.time_s for frame in again]
    np.testing.assert_array_equal(first[7].pixels, again[7].pixels)


def test_times_of_a_variable_rate_are_kept(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.05, 0.5, 0.51, 2.0]
    path = write_frames(tmp_path / "a.mp4", squares(6), times=times)
    assert [frame.time_s for frame in VideoSource(path)] == pytest.approx(times, abs=1e-3)


def test_times_begin_at_the_first_frame(tmp_path: Path) -> None:
    path = write_frames(tmp_path / "a.mkv", squares(3), times=[7.0, 7.1, 7.2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        times = [frame.time_s for frame in VideoSource(path)]
    assert times == pytest.approx([0, 0.1, 0.2], abs=2e-3)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("is_flipped", [False, True])
def test_it_is_turned_as_it_is_shown(tmp_path: Path, degrees: int, is_flipped: bool) -> None:
    def turn(stream) -> None:
        stream.set_display_rotation(degrees, hflip=is_flipped)

    path = write_frames(tmp_path / "a.mp4", [_quarters()] * 3, change=turn)
    source = VideoSource(path)
    # The angle is against the clock; the flip comes after it.
    shown = np.rot90(_quarters(), degrees // 90)
    shown = shown[:, ::-1] if is_flipped else shown
    assert (source.height, source.width) == shown.shape[:2]
    for frame in source:
        assert frame.pixels.shape == shown.shape
        assert frame.pixels.flags["C_CONTIGUOUS"]
        assert _corners(frame.pixels) == _corners(shown)


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    def widen(stream) -> None:
        stream.codec_context.sample_aspect_ratio = 2

    path = write_frames(tmp_path / "a.mp4", [_quarters()] * 2, change=widen)
    source = VideoSource(path)
    assert (source.height, source.width) == (48, 128)
    assert _corners(next(iter(source)).pixels) == _corners(_quarters())


@pytest.mark.parametrize("size", [(47, 63), (1, 1), (2160, 3840)])
def test_any_size_is_read(tmp_path: Path, size: tuple[int, int]) -> None:
    rgb = np.full((*size, 3), 77, np.uint8)
    path = write_frames(tmp_path / "a.mkv", [rgb], codec="ffv1", pixels="yuv444p")
    (frame,) = VideoSource(path)
    assert frame.pixels.shape == (*size, 3)
    assert abs(int(frame.pixels[0, 0, 0]) - 77) <= 2


def test_a_truncated_file_gives_what_it_has(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(60)]
    path = write_frames(tmp_path / "a.mp4", frames, change=_index_first)
    os.truncate(path, path.stat().st_size // 2)
    source = VideoSource(path)
    with pytest.warns(UserWarning, match=r"a\.mp4' is broken: .*looked into, up to"):
        found = list(source)
    assert 10 < len(found) < 50
    assert source.problem is not None


def _index_first(stream) -> None:
    stream.container.options["movflags"] = "faststart"


def test_packets_that_cannot_be_decoded_are_passed_over(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(20)]
    path = write_frames(tmp_path / "a.mkv", frames, codec="mjpeg", pixels="yuvj420p")
    data = bytearray(path.read_bytes())
    # The mark that begins a picture, in the middle of the file.
    place = data.index(b"\xff\xd8\xff", len(data) // 2)
    data[place : place + 600] = bytes(600)
    path.write_bytes(data)
    source = VideoSource(path)
    with pytest.warns(UserWarning, match="is broken"):
        found = list(source)
    assert len(found) == 19


def _sound(path: Path) -> None:
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(8000)
        stream.writeframes(bytes(16000))


def test_pieces_that_a_transport_stream_lacks_are_told(tmp_path: Path) -> None:
    path = write_frames(tmp_path / "clip.ts", squares(60))
    source = VideoSource(path)
    assert len(list(source)) == 60 and source.problem is None
    data = path.read_bytes()
    middle = len(data) // 2 // 188 * 188
    path.write_bytes(data[:middle] + data[middle + 6 * 188 :])
    source = VideoSource(path)
    with pytest.warns(UserWarning, match="1 of its packets are damaged"):
        frames = list(source)
    assert 40 < len(frames) < 60


def test_a_file_of_sound_is_refused(tmp_path: Path) -> None:
    _sound(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match=r"a\.mp4' holds no pictures, but audio: name a video"):
        VideoSource(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no video\n" * 100,
        b"\0" * 5000,
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        # Lists of other files, which FFmpeg would open.
        b"#EXTM3U\n#EXTINF:1,\nother.ts\n",
        b"ffconcat version 1.0\nfile other.mp4\n",
    ],
)
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"video '.*a\.mp4' cannot be opened"):
        VideoSource(path)


def test_lists_of_other_files_are_not_followed(video: Path, tmp_path: Path) -> None:
    for text in (f"ffconcat version 1.0\nfile {video.name}\n", "#EXTM3U\n#EXTINF:1,\nclip.mp4\n"):
        (tmp_path / "list.mp4").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match="cannot be opened"):
            VideoSource(tmp_path / "list.mp4")


def test_a_file_without_an_index_is_refused(video: Path) -> None:
    os.truncate(video, 700)
    with pytest.raises(ValueError, match="cannot be opened"):
        VideoSource(video)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for name in ("missing.mp4", ".", "pipe.mp4"):
        with pytest.raises(ValueError, match="cannot be read"):
            VideoSource(tmp_path / name)


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "2"])
def test_every_is_a_whole_number(video: Path, every: object) -> None:
    with pytest.raises(ValueError, match="every is"):
        VideoSource(video, every)


def test_an_address_is_refused() -> None:
    with pytest.raises(ValueError, match="download it"):
        VideoSource("https://example.invalid/a.mp4")


@pytest.mark.parametrize("name", [b"a:b.mp4", b"concat:a|b.mp4", b"\xff\xfe.mp4", b"a\nb.mp4"])
def test_odd_names_are_names(video: Path, name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(video.parent)
    shutil.copy(video, name)
    assert len(list(VideoSource(os.fsdecode(name)))) == 12


@pytest.mark.skipif(os.path.exists("/dev/video99"), reason="there is such a camera")
def test_a_webcam_that_is_not_there_is_told() -> None:
    with pytest.raises(ValueError, match="webcam:99 cannot be opened"):
        VideoSource("webcam:99")


def test_a_missing_package_is_named(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install 'fgclip_det\[video\]'"):
        VideoSource(video)
