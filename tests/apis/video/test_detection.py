"""Files that a video becomes, and runs that were cut off."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from fgclip_det.apis.video.detection import detect_video
from fgclip_det.apis.video.looking import stream_video
from tests.apis.video.conftest import ColourDetector, av, squares, write_frames


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def test_a_video_becomes_lines_and_a_video(
    video: Path, detector: ColourDetector, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "deep"
    result = detect_video(detector, video, out_dir=out, progress=False)
    assert (result.frames, result.detections, result.objects, result.problem) == (12, 24, 2, None)
    assert (result.lines, result.drawn) == (out / "clip.jsonl", out / "clip.mp4")
    assert sorted(os.listdir(out)) == ["clip.jsonl", "clip.mp4", "clip.video.json"]
    lines = _lines(result.lines)
    assert [line["frame"] for line in lines] == list(range(12))
    assert [line["time_s"] for line in lines] == pytest.approx([i / 25 for i in range(12)])
    for index, line in enumerate(lines):
        assert (line["width"], line["height"]) == (96, 64)
        red, blue = line["detections"]
        assert (red["name"], red["score"]) == ("red", 0.8123)
        assert red["box"] == pytest.approx([4 + 2 * index, 8, 20 + 2 * index, 24], abs=2)
        assert (blue["name"], blue["score"]) == ("blue", 0.6)
        assert (red["id"], blue["id"]) == ((1, 2) if index else (None, None))
    assert _times(result.drawn) == pytest.approx([i / 25 for i in range(12)])
    about = json.loads((out / "clip.video.json").read_text(encoding="utf-8"))
    told = {"video": str(video), "width": 96, "height": 64, "vocabulary": ["red", "blue"]}
    told |= {"box_format": "xyxy", "threshold": 0.3, "every": 1, "rate": 25.0, "frames": 12}
    assert about.items() >= told.items()


def test_boxes_are_drawn_where_objects_are(
    video: Path, detector: ColourDetector, tmp_path: Path
) -> None:
    result = detect_video(detector, video, out_dir=tmp_path / "out", labels="off", progress=False)
    with av.open(str(result.drawn)) as container:
        frame = list(container.decode(video=0))[10].to_ndarray(format="rgb24").astype(int)
    scale = frame.shape[1] / 96
    assert scale >= 1 and frame.shape[0] % 2 == 0 and frame.shape[1] % 2 == 0
    left, middle = round(24 * scale), round(16 * scale)
    grey = np.abs(frame[middle, : left - 8] - 128).max()
    assert grey < 30
    # On the edge of the red square is a line that is neither the square's colour nor the ground's.
    edge = frame[middle, left - 4 : left + 5]
    assert min(np.abs(edge - (220, 30, 30)).sum(-1).max(), np.abs(edge - 128).sum(-1).max()) > 100


def test_each_third_frame_plays_as_long(
    video: Path, detector: ColourDetector, tmp_path: Path
) -> None:
    result = detect_video(detector, video, out_dir=tmp_path / "out", every=3, progress=False)
    assert detector.calls == result.frames == 4
    assert [line["frame"] for line in _lines(result.lines)] == [0, 3, 6, 9]
    assert _times(result.drawn) == pytest.approx([0, 0.12, 0.24, 0.36])


def test_a_video_of_odd_sides_and_changing_rate(detector: ColourDetector, tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.05, 0.5, 0.51, 2.0]
    frames = squares(6, (67, 97))
    path = write_frames(tmp_path / "a.mkv", frames, times=times, codec="ffv1", pixels="yuv444p")
    result = detect_video(detector, path, out_dir=tmp_path / "out", progress=False)
    assert [line["time_s"] for line in _lines(result.lines)] == pytest.approx(times, abs=2e-3)
    assert _times(result.drawn) == pytest.approx(times, abs=2e-3)
    assert _lines(result.lines)[0]["width"] == 97


def test_no_tracks_and_no_video_where_none_are_wanted(
    video: Path, detector: ColourDetector, tmp_path: Path
) -> None:
    result = detect_video(
        detector, video, "red", out_dir=tmp_path, track=False, save_video=False, progress=False
    )
    assert (result.drawn, result.objects) == (None, None)
    assert set(os.listdir(tmp_path)) == {"clip.mp4", "clip.jsonl", "clip.video.json"}
    assert all(
        set(row) == {"name", "score", "confidence", "box"}
        for row in _lines(result.lines)[0]["detections"]
    )


def test_a_video_without_anything_in_it(detector: ColourDetector, tmp_path: Path) -> None:
    path = write_frames(tmp_path / "a.mp4", [np.full((64, 64, 3), 128, np.uint8)] * 3)
    result = detect_video(detector, path, out_dir=tmp_path / "out", progress=False)
    assert (result.frames, result.detections, result.objects) == (3, 0, 0)
    assert [line["detections"] for line in _lines(result.lines)] == [[], [], []]
    assert len(_times(result.drawn)) == 3


@pytest.mark.parametrize("stop_at", [1, 2, 7, 12])
@pytest.mark.parametrize("is_torn", [False, True])
def test_a_run_that_was_cut_off_goes_on(
    video: Path, tmp_path: Path, stop_at: int, is_torn: bool
) -> None:
    whole = detect_video(ColourDetector(), video, out_dir=tmp_path / "whole", progress=False)
    first, second, out = ColourDetector(), ColourDetector(), tmp_path / "out"
    first.stop_at = stop_at
    with pytest.raises(KeyboardInterrupt):
        detect_video(first, video, out_dir=out, progress=False)
    part = out / "clip.jsonl.part"
    assert os.listdir(out) == ([part.name] if stop_at > 1 else [])
    if is_torn and part.exists():
        with part.open("ab") as stream:
            stream.write(b'{"frame": 99, "ti')
    result = detect_video(second, video, out_dir=out, progress=False)
    assert second.calls == 12 - (stop_at - 1)
    assert result.lines.read_bytes() == whole.lines.read_bytes()
    assert result.drawn.read_bytes() == whole.drawn.read_bytes()
    assert (result.frames, result.detections, result.objects) == (12, 24, 2)
    assert sorted(os.listdir(out)) == ["clip.jsonl", "clip.mp4", "clip.video.json"]


def _cut_off(video: Path, out: Path, **settings: object) -> None:
    detector = ColourDetector()
    detector.stop_at = 5
    with pytest.raises(KeyboardInterrupt):
        detect_video(detector, video, out_dir=out, progress=False, **settings)


@pytest.mark.parametrize(
    "settings",
    [{"texts": "red"}, {"every": 2}, {"score_thr": 0.5}, {"track": False}, {"tile": 64}],
    ids=lambda settings: next(iter(settings)),
)
def test_other_settings_are_refused_or_begun_anew(
    video: Path, detector: ColourDetector, tmp_path: Path, settings: dict
) -> None:
    out = tmp_path / "out"
    _cut_off(video, out)
    settings = {"out_dir": out, "progress": False, **settings}
    with pytest.raises(ValueError, match=r"clip\.jsonl\.part' holds the beginning of another run"):
        detect_video(detector, video, **settings)
    assert detector.calls == 0
    result = detect_video(detector, video, resume=False, **settings)
    assert detector.calls == result.frames > 0


def test_another_detector_or_file_is_refused(
    video: Path, detector: ColourDetector, tmp_path: Path
) -> None:
    _cut_off(video, tmp_path / "out")
    detector.weights_hash = "another"
    with pytest.raises(ValueError, match="another run"):
        detect_video(detector, video, out_dir=tmp_path / "out", progress=False)
    write_frames(video, squares(11))
    with pytest.raises(ValueError, match="another run"):
        detect_video(ColourDetector(), video, out_dir=tmp_path / "out", progress=False)


def test_a_finished_run_is_not_done_again(
    video: Path, detector: ColourDetector, tmp_path: Path
) -> None:
    settings = {"out_dir": tmp_path / "out", "progress": False}
    first = detect_video(detector, video, save_video=False, **settings)
    # Then the drawing alone, then nothing, then another drawing.
    drawn = detect_video(detector, video, labels="off", **settings)
    before = drawn.drawn.stat().st_mtime_ns
    assert detect_video(detector, video, labels="off", **settings) == drawn
    assert drawn.drawn.stat().st_mtime_ns == before
    again = detect_video(detector, video, labels="full", **settings)
    assert again.drawn.stat().st_mtime_ns != before
    again.drawn.unlink()
    assert len(_times(detect_video(detector, video, **settings).drawn)) == 12
    assert detector.calls == 12
    assert (first.frames, first.detections, first.objects) == (12, 24, 2)
    # Other words take the place of what is finished.
    assert detect_video(detector, video, "red", **settings).detections == 12


def test_a_copy_under_another_name_goes_on(
    video: Path, detector: ColourDetector, tmp_path: Path
) -> None:
    _cut_off(video, tmp_path / "out")
    shutil.move(video, tmp_path / "moved.mp4")
    detect_video(
        detector, tmp_path / "moved.mp4", out_dir=tmp_path / "out", name="clip", progress=False
    )
    assert detector.calls == 12 - 4


def test_the_video_itself_is_not_written_over(
    video: Path, detector: ColourDetector, tmp_path: Path
) -> None:
    before = video.read_bytes()
    with pytest.raises(ValueError, match="is the video itself"):
        detect_video(detector, video, out_dir=tmp_path, progress=False)
    assert video.read_bytes() == before and detector.calls == 0


def test_a_truncated_video_is_done_up_to_there(detector: ColourDetector, tmp_path: Path) -> None:
    def index_first(stream) -> None:
        stream.container.options["movflags"] = "faststart"

    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(40)]
    path = write_frames(tmp_path / "a.mp4", frames, change=index_first)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.warns(UserWarning, match="is broken"):
        result = detect_video(detector, path, out_dir=tmp_path / "out", progress=False)
    assert 0 < result.frames < 40 and result.problem is not None
    assert len(_times(result.drawn)) == len(_lines(result.lines)) == result.frames


def test_a_folder_that_cannot_be_made_is_told(
    video: Path, detector: ColourDetector, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file", encoding="utf-8")
    with pytest.raises(OSError, match="out"):
        detect_video(detector, video, out_dir=tmp_path / "out", progress=False)
    assert detector.calls == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": "long"}, "labels is 'long'"),
        ({"score_thr": 2}, "score_thr is 2"),
        ({"every": 0}, "every is 0"),
        ({"out_dir": 3}, "out_dir cannot be a int"),
    ],
)
def test_settings_that_are_none_are_refused(
    video: Path, detector: ColourDetector, tmp_path: Path, settings: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        detect_video(detector, video, **{"out_dir": tmp_path / "out", **settings})
    assert detector.calls == 0


def test_frames_without_files(video: Path, detector: ColourDetector) -> None:
    stream = stream_video(detector, video, "blue. red", every=4)
    frame, found = next(stream)
    assert (frame.index, found.names, found.ids.tolist()) == (0, ["red", "blue"], [-1, -1])
    assert found.labels.tolist() == [1, 0] and found.image_path == str(video)
    assert detector.calls == 1
    assert [found.ids.tolist() for _, found in stream] == [[1, 2], [1, 2]]
