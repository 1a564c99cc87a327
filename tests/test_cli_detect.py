"""``fgclip-det detect``: what it writes and prints, and how it refuses."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_codec

import fgclip_det
from fgclip_det.apis.answers import Stream
from fgclip_det.apis.detections import Detections
from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.apis.inputs import picture_lists
from fgclip_det.cli import detect as command
from fgclip_det.cli import main, results

ROOT = Path(__file__).resolve().parents[1]
PICTURE = sorted((BUNDLED / "images").glob("*.png"))[0]
CONTRACT = ["image", "width", "height", "vocabulary", "conf_thr", "detections"]
ADDED = ["path", "box_format", "threshold", "model", "weights_hash", "encoder_hash", "version"]
TEXTS = "a blue dotted star. a green checkered star. a cyan striped ring"


def detect(*arguments: object) -> int:
    return main(["detect", *map(str, arguments), "--texts", TEXTS, "--device", "cpu"])


def written(out: Path) -> list[str]:
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())


def lines_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name in ("in/a.png", "in/b/c.png", "in/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PICTURE, tmp_path / name)
    return tmp_path / "in"


def test_results_tell_how_they_were_made(cached_detector, tmp_path: Path, pictures: Path) -> None:
    out = tmp_path / "out"
    assert detect(pictures, "--score-thr", 0, "--out-dir", out) == 0
    names = ["a", "b/c", "d"]
    assert written(out) == [
        *(f"preds/{name}.json" for name in names),
        "results.jsonl",
        *(f"vis/{name}.png" for name in names),
    ]
    lines = lines_of(out)
    assert sorted(line["path"] for line in lines) == [f"{name}.png" for name in names]
    for line in lines:
        single = (out / "preds" / line["path"]).with_suffix(".json")
        assert line == json.loads(single.read_text("utf-8"))
        assert [key for key in line if key != "closest"] == [*CONTRACT, *ADDED]
        assert ("closest" in line) == (not line["detections"])
        assert line["image"] == str(pictures / line["path"])
        assert (line["box_format"], line["threshold"]) == ("xyxy", 0)
        assert line["model"] == "photos/default" and line["version"] == fgclip_det.__version__
        assert line["weights_hash"] == cached_detector.weights_hash
        assert line["encoder_hash"] == cached_detector.model.encoder.fingerprint


def test_numbers_are_rounded_and_otherwise_those_of_the_inferencer(
    cached_detector, tmp_path: Path
) -> None:
    for name in ("detect", "demo"):
        options = ["--texts", TEXTS, "--conf-thr", "0", "--out-dir", str(tmp_path / name)]
        options += ["--no-one-name"]
        assert main([name, str(PICTURE), *options]) == 0
        told = json.loads((tmp_path / name / "preds" / f"{PICTURE.stem}.json").read_text())
        (answer,) = cached_detector(PICTURE, TEXTS, conf_thr=0)
        assert len(told["detections"]) == len(answer) > 0
        columns = answer.boxes.tolist(), answer.scores.tolist(), answer.confidences.tolist()
        for found, box, score, confidence in zip(told["detections"], *columns, strict=True):
            assert found["box"] == [round(value, 2) for value in box]
            assert found["score"] == round(score, 4)
            assert found["confidence"] == round(confidence, 4)


def test_the_hash_of_the_weights_is_made_once(
    cached_detector, tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    made = results.about_run
    monkeypatch.setattr(command, "about_run", lambda *a: asked.append(a) or made(*a))
    assert detect(pictures, "--no-save-vis", "--out-dir", tmp_path / "out") == 0
    assert len(asked) == 1 and len(lines_of(tmp_path / "out")) == 3
    (tmp_path / "bad.png").write_bytes(b"")
    assert detect(tmp_path / "bad.png", "--out-dir", tmp_path / "none") == 2
    assert len(asked) == 1 and not (tmp_path / "none").exists()


def test_json_lines_go_to_stdout_and_nothing_else(
    cached_detector, pictures: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = pictures / "\x1b[31m\x7f\u202e\u00e9.png"
    shutil.copy(PICTURE, odd)
    before = sorted(tmp_path.rglob("*"))
    assert detect(pictures, "--json") == 0
    printed = capsys.readouterr().out
    assert printed.isascii() and "\x1b" not in printed and "\x7f" not in printed
    found = [json.loads(line) for line in printed.splitlines()]
    assert len(found) == 4 and str(odd) in [one["image"] for one in found]
    told = [[key for key in one if key != "closest"] for one in found]
    assert all(keys == [*CONTRACT, *ADDED] for keys in told)
    # No place was named: no file is written.
    assert sorted(tmp_path.rglob("*")) == before
    assert detect(pictures / "a.png", "--json", "--no-save-vis", "--out-dir", "out") == 0
    assert [json.loads(capsys.readouterr().out)] == lines_of(tmp_path / "out")


def test_quiet_says_what_went_wrong_alone(
    cached_detector, pictures: Path, tmp_path: Path, capsys
) -> None:
    assert detect(pictures, "--quiet", "--out-dir", tmp_path / "out") == 0
    assert capsys.readouterr() == ("", "")
    (pictures / "b" / "c.png").write_bytes(b"")
    assert detect(pictures, "--quiet", "--out-dir", tmp_path / "out") == 3
    printed, said = capsys.readouterr()
    assert printed == "" and said.startswith("error: ") and "c.png" in said
    # Of the latest run alone.
    assert [line["path"] for line in lines_of(tmp_path / "out")] == ["a.png", "d.png"]


def test_a_run_that_ends_early_leaves_the_lines_of_the_one_before(
    cached_detector, pictures: Path, tmp_path: Path, fill_disk, monkeypatch
) -> None:
    out = tmp_path / "out"
    assert detect(pictures / "a.png", "--no-save-vis", "--out-dir", out) == 0
    before = (out / "results.jsonl").read_bytes()
    fill_disk(2)
    assert detect(pictures, "--no-save-vis", "--out-dir", out) == 1
    assert (out / "results.jsonl").read_bytes() == before
    assert not list(out.rglob("*.partial"))


@pytest.mark.parametrize("with_drawings", [False, True])
def test_a_disk_that_is_slow_for_a_while_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_drawings: bool
) -> None:
    looked, seen, is_free = 0, [], threading.Event()

    def answers():
        nonlocal looked
        none = torch.zeros(0)
        for number in range(6):
            looked += 1
            # Pictures that are drawn do not wait: they are large.
            if looked == (2 if with_drawings else 5):
                is_free.set()
            found = Detections([], none.reshape(0, 4), none, none.long(), ["x"], 8, 6, f"{number}")
            yield found, np.zeros((6, 8, 3), np.uint8)

    def write(name: str, answer: Detections, pixels: np.ndarray | None) -> None:
        assert is_free.wait(300) and (pixels is not None) == with_drawings
        seen.append((name, looked))

    made = results.Results(tmp_path, with_drawings)
    monkeypatch.setattr(made, "write", write)
    detector = SimpleNamespace(stream=lambda *_, **__: Stream(answers(), []))
    told = command.Report(is_quiet=True)
    settings = SimpleNamespace(score_thr=0, conf_thr=None, one_name=False, batch_size=1)
    command.look_into(detector, {f"{n}": f"{n}" for n in range(6)}, settings, made, told)
    assert [name for name, _ in seen] == list("012345") and told.done == 6 and not told.failures
    if with_drawings:
        assert all(before <= int(name) + 3 for name, before in seen)


def test_folders_below_can_be_left_out(
    cached_detector, pictures: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "out"
    assert detect(pictures, "--no-recursive", "--no-save-vis", "--out-dir", out) == 0
    assert written(out / "preds") == ["a.json", "d.json"]
    (tmp_path / "above" / "b").mkdir(parents=True)
    shutil.copy(PICTURE, tmp_path / "above" / "b")
    capsys.readouterr()
    assert detect(tmp_path / "above", "--no-recursive", "--out-dir", out) == 2
    assert "folders below it were not looked into" in capsys.readouterr().err


def test_a_pattern_names_folders_themselves(
    cached_detector, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert detect("i*", "--no-recursive", "--no-save-vis", "--out-dir", "out") == 0
    assert written(tmp_path / "out/preds") == ["in/a.json", "in/d.json"]


def test_videos_are_handed_on_and_pictures_done_beside_them(
    cached_detector, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list = []

    def run_videos(detector: object, videos: dict, arguments: object, report: object) -> None:
        seen.append((detector, videos, arguments.every, arguments.no_track))
        report.failures.append("a video that failed")

    module = SimpleNamespace(run_videos=run_videos)
    monkeypatch.setitem(sys.modules, "fgclip_det.cli.videos", module)
    (pictures / "v.mp4").write_bytes(b"")
    given = (pictures / "v.mp4", pictures / "a.png", "--every", 3, "--no-track")
    assert detect(*given, "--no-save-vis", "--out-dir", tmp_path / "out") == 3
    assert seen == [(cached_detector, {str(pictures / "v.mp4"): "v"}, 3, True)]
    assert written(tmp_path / "out") == ["preds/a.json", "results.jsonl"]
    assert detect(given[0], "--out-dir", tmp_path / "none") == 2
    assert not (tmp_path / "none").exists() and len(seen) == 2


def test_masks_are_made_of_what_is_reported(
    cached_detector, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class MaskPredictor:
        def __init__(self, device: torch.device) -> None:
            assert device == cached_detector.device

        def with_masks(self, found: Detections, picture: np.ndarray) -> Detections:
            masks = torch.zeros(len(found), *picture.shape[:2], dtype=torch.bool)
            masks[:, 3:7, 2:5] = True
            return dataclasses.replace(found, masks=masks)

    module = SimpleNamespace(MaskPredictor=MaskPredictor)
    monkeypatch.setitem(sys.modules, "fgclip_det.apis.masks", module)
    options = ("--masks", "--score-thr", 0, "--no-save-vis", "--out-dir", tmp_path / "out")
    assert detect(pictures / "a.png", *options) == 0
    (line,) = lines_of(tmp_path / "out")
    assert line["detections"]
    for found in line["detections"]:
        assert list(found) == ["name", "score", "confidence", "box", "mask"]
        assert mask_codec.decode(found["mask"])[3:7, 2:5].all()
        assert mask_codec.area(found["mask"]) == 12


def test_an_odd_address_is_answered_under_what_is_shown_of_it(
    cached_detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    pixels = np.zeros((40, 50, 3), np.uint8)
    monkeypatch.setattr(picture_lists, "read_address", lambda url: pixels)
    address = "https://me:secret@127.0.0.1/a\x1b.png"
    assert detect(address, "--no-save-vis", "--out-dir", tmp_path) == 0
    (line,) = lines_of(tmp_path)
    assert line["image"] == "https://127.0.0.1/a%1B.png" and "secret" not in str(line)
    assert written(tmp_path) == ["preds/a_.json", "results.jsonl"]


def test_a_picture_of_the_standard_input_is_told_as_such(
    cached_detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        stream = io.BytesIO(PICTURE.read_bytes())
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=stream))
        assert detect("-", "--out-dir", tmp_path) == 0
    # Nobody knows whether they are one picture: none takes the place of another.
    names = ["stdin-2", "stdin-3", "stdin"]
    assert written(tmp_path) == [
        *(f"preds/{name}.json" for name in names),
        "results.jsonl",
        *(f"vis/{name}.png" for name in names),
    ]
    (line,) = lines_of(tmp_path)
    assert (line["image"], line["path"]) == ("-", "stdin")


def test_addresses_are_told_as_they_are(tmp_path: Path) -> None:
    address = "https://127.0.0.1/a/x.png?size=1"
    none = torch.zeros(0)
    answer = Detections([], none.reshape(0, 4), none, none.long(), ["x"], 8, 6, address)
    for _ in range(2):
        with results.Results(tmp_path, with_drawings=False, with_lines=True) as made:
            made.write("x", answer, None)
    assert written(tmp_path) == ["preds/x.json", "results.jsonl"]
    assert [(line["image"], line["path"]) for line in lines_of(tmp_path)] == [(address, "x.png")]


def test_demo_names_detect_for_pictures_of_ones_own(
    cached_detector, pictures: Path, tmp_path: Path, capsys
) -> None:
    assert main(["demo", "--out-dir", str(tmp_path / "out")]) == 0
    assert main(["demo", str(PICTURE), "--out-dir", str(tmp_path / "out")]) == 0
    assert "fgclip-det detect" not in capsys.readouterr().err
    assert main(["demo", str(pictures), "--out-dir", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err.count("fgclip-det detect") == 1
    assert not (tmp_path / "out" / "results.jsonl").exists()


def _process(*arguments: object, **options: object) -> subprocess.Popen:
    config = BUNDLED / "config.py"
    code = (
        "import sys\nfrom fgclip_det.apis import inferencer\n"
        "made = inferencer.OpenVocabInferencer\n"
        "inferencer.OpenVocabInferencer = lambda *_: made(device='cpu')\n"
        "from fgclip_det.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "detect", *map(str, arguments)]
    rest = ["--model", str(config), "--texts", TEXTS, "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, *rest], cwd=ROOT, env=environment, **options)


def test_json_that_nobody_reads(pictures: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    running = _process(pictures, "--json", "--quiet", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    with running.stderr as said:
        assert said.read() == b""
    assert running.wait() == 141


@pytest.mark.slow
def test_two_commands_at_once_tear_no_line(tmp_path: Path) -> None:
    running = []
    for folder, count in (("a", 10), ("b", 7)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            shutil.copy(PICTURE, tmp_path / folder / f"{folder}{number}.png")
        options = ("--no-save-vis", "--out-dir", tmp_path / "out", "--quiet")
        running.append(_process(tmp_path / folder, *options))
    assert [one.wait() for one in running] == [0, 0]
    assert len(written(tmp_path / "out" / "preds")) == 17
    told = [line["path"] for line in lines_of(tmp_path / "out")]
    assert told in ([f"a{i}.png" for i in range(10)], [f"b{i}.png" for i in range(7)])


def test_a_camera_is_named_and_a_file_of_that_name_is_a_file(
    cached_detector, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list = []

    def run_videos(detector: object, videos: dict, arguments: object, report: object) -> None:
        seen.append(videos)
        report.add_video("seen", 3)

    module = SimpleNamespace(run_videos=run_videos)
    monkeypatch.setitem(sys.modules, "fgclip_det.cli.videos", module)
    monkeypatch.chdir(tmp_path)
    out = ("--no-save-vis", "--out-dir", tmp_path / "out")
    assert detect("webcam", "webcam:1", pictures / "a.png", *out) == 0
    assert seen == [{"webcam": "webcam", "webcam:1": "webcam:1"}]
    shutil.copytree(pictures, tmp_path / "webcam")
    assert detect("webcam", *out) == 0
    assert len(seen) == 1
