"""Answers of a call: whose failures they hold, and how little of them stays."""

from __future__ import annotations

import gc
import json
import shutil
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.cli import main

PICTURES = sorted((BUNDLED / "images").glob("*.png"))
RGB = np.zeros((32, 32, 3), np.uint8)


def test_calls_at_once_have_failures_of_their_own(
    bundled_detector: OpenVocabInferencer, tmp_path: Path
) -> None:
    found = {}

    def ask(number: int) -> None:
        bad = [tmp_path / f"{number}_{i}.png" for i in range(number)]
        pictures = [RGB, *bad, RGB]
        found[number] = bundled_detector(pictures, "ring", on_error="collect", progress=False)

    numbers = range(5)
    for number in numbers:
        for i in range(number):
            (tmp_path / f"{number}_{i}.png").write_text("no picture")
    bundled_detector.encode("ring")
    threads = [threading.Thread(target=ask, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in numbers:
        assert len(found[number]) == 2
        failed = [picture for picture, _ in found[number].failures]
        assert failed == [str(tmp_path / f"{number}_{i}.png") for i in range(number)]


def test_streams_that_alternate_have_failures_of_their_own(
    bundled_detector: OpenVocabInferencer, tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    options = dict(texts="ring", on_error="collect", progress=False)
    good = bundled_detector.stream([RGB, RGB], **options)
    other = bundled_detector.stream([RGB, tmp_path / "bad.png", RGB], **options)
    for stream in (good, other, good, other):
        assert next(stream).width == 32
    assert good.failures == [] and [name for name, _ in other.failures] == [
        str(tmp_path / "bad.png")
    ]
    other.close()
    assert list(other) == []


def test_pixels_are_those_of_the_latest_answer(bundled_detector: OpenVocabInferencer) -> None:
    pictures = [RGB + shade for shade in range(5)]
    stream = bundled_detector.stream(
        pictures, "ring", batch_size=2, progress=False, keep_pixels=True
    )
    assert [int(stream.pixels.max()) for _ in stream] == list(range(5))
    stream = bundled_detector.stream(pictures, "ring", progress=False)
    assert next(stream).width == 32 and stream.pixels is None


def grown(run, few: int, many: int) -> float:
    """Bytes a picture that stay while `run` is at work."""
    sizes = []
    # What other packages keep for reuse is there after the first.
    for count in (many, few, many):
        gc.collect()
        sizes.append(run(count))
    return (sizes[2] - sizes[1]) / (many - few)


@pytest.mark.slow
def test_a_stream_keeps_nothing_of_what_was_answered(
    bundled_detector: OpenVocabInferencer, tmp_path: Path
) -> None:
    shutil.copy(PICTURES[0], tmp_path / "x.png")
    tracemalloc.start()

    def run(count: int) -> int:
        stream = bundled_detector.stream(
            [str(tmp_path / "x.png")] * count, score_thr=0, progress=False, keep_pixels=True
        )
        for _ in stream:
            pass
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    try:
        assert grown(run, 10, 60) < 1000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("command", ["demo", pytest.param("heatmap", marks=pytest.mark.slow)])
def test_commands_keep_little_of_a_picture(
    cached_detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Until the end: what is left when the last picture is told of."""
    from fgclip_det.cli.report import Report

    sizes = []
    tell = Report.tell

    def measured(self: Report, summary: str) -> int:
        gc.collect()
        sizes.append(tracemalloc.get_traced_memory()[0])
        return tell(self, summary)

    monkeypatch.setattr(Report, "tell", measured)
    tracemalloc.start()
    few, many = (10, 60) if command == "demo" else (3, 12)

    def run(count: int) -> int:
        folder = tmp_path / str(count)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for number in range(count):
            shutil.copy(PICTURES[0], folder / f"{number:04}.png")
        score = ["--score-thr", "0", "--no-save-vis"] if command == "demo" else []
        options = [*score, "--texts", "ring, star", "--device", "cpu", "--out-dir"]
        assert main([command, str(folder), *options, str(folder / "out")]) == 0
        return sizes[-1]

    try:
        assert grown(run, few, many) < (1000 if command == "demo" else 3000)
    finally:
        tracemalloc.stop()


def test_the_report_counts_all_and_shows_the_first(
    cached_detector, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = ["--score-thr", "0", "--out-dir", str(tmp_path), "--no-one-name"]
    # All that is asked for is found, however little of it is there.
    options += ["--negatives", "none", "--calibration", "none"]
    assert main(["demo", *map(str, PICTURES), *options]) == 0
    count = sum(
        len(json.loads(file.read_text("utf-8"))["detections"])
        for file in (tmp_path / "preds").iterdir()
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 22 and lines[20] == f"... and {count - 20} more"
    assert lines[21].startswith(f"{count} detections in 3 picture(s)")
