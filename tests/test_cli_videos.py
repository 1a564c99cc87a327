"""Videos among what a command looks into: where results go, and what is said."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

import pytest

from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.cli import main
from fgclip_det.cli.report import Report
from fgclip_det.cli.videos import run_videos
from tests.apis.video.conftest import ColourDetector, squares, write_frames


@pytest.fixture
def detector() -> ColourDetector:
    return ColourDetector()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return write_frames(tmp_path / "in" / "clip.mp4", squares(6))


def arguments(out: Path | None, **changed: object) -> argparse.Namespace:
    settings = {
        "out_dir": None if out is None else str(out),
        "every": 1,
        "score_thr": 0.3,
        "conf_thr": None,
        "one_name": False,
        "no_track": False,
        "no_save_vis": False,
        "labels": "short",
        "tile": None,
        "overlap": None,
        "json": False,
        "quiet": False,
    }
    return argparse.Namespace(**settings | changed)


def written(out: Path) -> list[str]:
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())


def test_results_lie_with_those_of_pictures(
    clip: Path, detector: ColourDetector, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    report = Report()
    run_videos(detector, {str(clip): "a/clip"}, arguments(tmp_path / "out"), report)
    assert written(tmp_path / "out") == [
        "preds/a/clip.jsonl",
        "preds/a/clip.video.json",
        "vis/a/clip.mp4",
    ]
    assert (report.done, report.videos, report.rows, report.failures) == (1, 1, 12, [])
    assert report.tell(f"12 in {report.looked_into}") == 0
    told = f"{clip}: 12 detections of 2 object(s) in 6 frame(s); written to {tmp_path}/out/vis/a"
    printed = capsys.readouterr().out
    assert told in printed and printed.endswith("12 in 1 video(s)\n")


def test_settings_reach_the_video(clip: Path, detector: ColourDetector, tmp_path: Path) -> None:
    settings = {"every": 2, "no_track": True, "no_save_vis": True, "score_thr": 0.7, "tile": 64}
    run_videos(detector, [str(clip)], arguments(tmp_path / "out", **settings), Report())
    assert written(tmp_path / "out") == ["preds/clip.jsonl", "preds/clip.video.json"]
    text = (tmp_path / "out" / "preds" / "clip.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["frame"] for line in lines] == [0, 2, 4]
    assert {tuple(row) for line in lines for row in line["detections"]} == {
        ("name", "score", "confidence", "box")
    }
    assert {row["name"] for line in lines for row in line["detections"]} == {"red"}


def test_videos_of_one_name_are_told_apart(
    clip: Path, detector: ColourDetector, tmp_path: Path
) -> None:
    other = write_frames(tmp_path / "clip.mkv", squares(4), codec="ffv1")
    odd = tmp_path / "a\nb.mp4"
    shutil.copy(clip, odd)
    videos = {str(clip): "clip", str(other): "clip", str(odd): "a\nb"}
    for _ in range(2):
        report = Report()
        run_videos(detector, videos, arguments(tmp_path / "out", no_save_vis=True), report)
        assert (report.done, report.failures) == (3, [])
        lines = [name for name in written(tmp_path / "out") if name.endswith(".jsonl")]
        assert len(lines) == 3 and "preds/clip.jsonl" in lines
        assert all(name.isprintable() for name in lines)
    assert detector.calls == 6 + 4 + 6
    # A finished result of another video keeps its name in a later run too.
    run_videos(detector, [str(other)], arguments(tmp_path / "out", no_save_vis=True), Report())
    assert len((tmp_path / "out/preds/clip.jsonl").read_text("utf-8").splitlines()) == 6
    assert detector.calls == 6 + 4 + 6


def test_lines_are_printed_alone(
    clip: Path,
    detector: ColourDetector,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    run_videos(detector, [str(clip)], arguments(None, json=True), Report())
    printed = capsys.readouterr().out
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [line["frame"] for line in lines] == list(range(6))
    assert all(line["video"] == str(clip) and line["detections"] for line in lines)
    assert sorted(os.listdir(tmp_path)) == ["in"]
    run_videos(detector, [str(clip)], arguments(tmp_path / "out", json=True), Report())
    assert capsys.readouterr().out == printed


def test_one_that_fails_does_not_stop_the_others(
    clip: Path, detector: ColourDetector, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    report = Report(is_quiet=True)
    videos = [str(tmp_path / "broken.mp4"), str(tmp_path / "missing.mp4"), str(clip)]
    run_videos(detector, videos, arguments(tmp_path / "out", quiet=True), report)
    assert report.done == 1 and len(report.failures) == 2
    assert "broken.mp4' cannot be opened" in report.failures[0]
    assert "missing.mp4' cannot be read" in report.failures[1]
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_what_cannot_be_done_is_refused_first(
    clip: Path, detector: ColourDetector, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match=r"--out-dir .* cannot be written to"):
        run_videos(detector, [str(clip)], arguments(tmp_path / "file"), Report())
    assert detector.calls == 0


def test_masks_of_videos_are_refused_before_anything_is_loaded(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.delattr("fgclip_det.apis.inferencer.OpenVocabInferencer")
    picture = sorted((BUNDLED / "images").glob("*.png"))[0]
    given = [str(picture), str(clip), "--masks", "--out-dir", str(tmp_path / "out")]
    assert main(["detect", *given, "--texts", "a red circle"]) == 2
    assert "error: --masks is for pictures" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_takes_videos_and_pictures_together(
    cached_detector, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    picture = sorted((BUNDLED / "images").glob("*.png"))[0]
    given = [str(clip), str(picture), "--texts", "a red circle. a blue square"]
    given += ["--model", "tiny.py", "--out-dir", str(tmp_path / "out"), "--every", "3"]
    assert main(["detect", *given]) == 0
    files = {"preds/clip.jsonl", "preds/clip.video.json", "vis/clip.mp4", "results.jsonl"}
    files |= {f"preds/{picture.stem}.json", f"vis/{picture.stem}.png"}
    assert set(written(tmp_path / "out")) == files
    assert "in 1 picture(s) and 1 video(s); written to" in capsys.readouterr().out
    missing = str(tmp_path / "missing.mp4")
    assert main(["detect", missing, *given[2:]]) == 2
    assert f"video {missing!r} cannot be read" in capsys.readouterr().err
