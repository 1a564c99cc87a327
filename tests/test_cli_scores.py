"""Confidences, thresholds and negatives at the command line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.calibration import Threshold
from fgclip_det.cli import main
from tests.messages import says

SHOWN = "a blue dotted star. a green checkered star. a cyan striped ring"
PICTURES = sorted((BUNDLED / "images").glob("*.png"))


def run(name: str, *arguments: object) -> int:
    return main([name, *map(str, arguments)])


def told(out: Path) -> list[dict]:
    return [json.loads(path.read_text("utf-8")) for path in sorted((out / "preds").glob("*.json"))]


def test_the_demo_shows_confidences(cached_detector, tmp_path: Path, capsys) -> None:
    assert run("demo", "--out-dir", tmp_path) == 0
    captured = capsys.readouterr()
    assert "note:" not in captured.err
    lines = captured.out.splitlines()
    answers = told(tmp_path)
    assert lines[3].startswith("3 detections in 3 picture(s)")
    for line, answer in zip(lines, answers, strict=False):
        (found,) = answer["detections"]
        assert found["confidence"] > 0.9 and answer["conf_thr"] == 0.5
        assert f" {found['confidence']:.2f}  {found['name']}  " in line


def test_nothing_found_and_what_came_closest(cached_detector, tmp_path: Path, capsys) -> None:
    assert run("demo", "--texts", "a cat", "--out-dir", tmp_path) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and last.startswith("0 detections in 3 picture(s)")
    assert all("nothing found; closest: 'a cat' 0.0" in line for line in lines)
    assert any("(more like '" in line for line in lines)
    assert all(one["closest"][0]["name"] == "a cat" for one in told(tmp_path))


def test_no_line_for_what_is_found_and_none_where_it_is_to_be_quiet(
    cached_detector, tmp_path: Path, capsys
) -> None:
    options = ("--texts", "a blue dotted star", "--out-dir", tmp_path)
    assert run("detect", BUNDLED / "images", *options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.count("nothing found") for line in lines] == [0, 1, 1, 0]
    assert run("detect", BUNDLED / "images", *options, "--quiet") == 0
    assert capsys.readouterr().out == ""


def test_a_least_score_beside_confidences_is_told(cached_detector, tmp_path: Path, capsys) -> None:
    options = ("--texts", "a blue dotted star", "--out-dir", tmp_path, "--score-thr", "0.3")
    assert run("demo", *options) == 0
    captured = capsys.readouterr()
    assert "0 detections" in captured.out
    assert says("note", "--score-thr", "--conf-thr").search(captured.err)
    assert run("demo", *options, "--calibration", "none") == 0
    assert "note" not in capsys.readouterr().err
    assert run("demo", *options[:-2], "--score-thr", "0") == 0
    assert "note" not in capsys.readouterr().err


def test_the_bundled_model_has_a_name(tmp_path: Path, capsys) -> None:
    options = ("--model", "bundled", "--texts", "a blue dotted star", "--out-dir", tmp_path)
    assert run("detect", BUNDLED / "images", *options) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 detections in 3 picture(s)")
    assert {one["model"] for one in told(tmp_path)} == {"bundled"}


def test_what_is_wrong_with_negatives_is_said_of_them(tmp_path: Path, capsys) -> None:
    options = ("--negatives", " . ", "--out-dir", tmp_path / "new")
    assert run("demo", *options) == 2 and not (tmp_path / "new").exists()
    assert says("--negatives", "names nothing").search(capsys.readouterr().err)


def test_results_tell_the_threshold(cached_detector, tmp_path: Path) -> None:
    options = ("--texts", SHOWN, "--no-save-vis", "--out-dir", tmp_path)
    assert run("detect", BUNDLED / "images", *options, "--conf-thr", 0.75) == 0
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert all((line["conf_thr"], line["threshold"]) == (0.75, 0) for line in lines)
    assert run("detect", PICTURES[0], *options, "--conf-thr", 1) == 0
    (line,) = (tmp_path / "results.jsonl").read_text().splitlines()
    assert json.loads(line)["detections"] == []


def test_a_calibration_of_ones_own(cached_detector, tmp_path: Path, capsys) -> None:
    limits = {"a blue dotted star": Threshold(1.0, 0.1, 0.1, "pictures", 100, 3)}
    made = dataclasses.replace(cached_detector.calibration, thresholds=limits, conf_thr=0.25)
    made.save(tmp_path / "c.json")
    options = ("--texts", SHOWN, "--calibration", tmp_path / "c.json", "--out-dir", tmp_path / "o")
    assert run("demo", BUNDLED / "images", *options) == 0
    assert [len(one["detections"]) for one in told(tmp_path / "o")] == [0, 1, 1]
    assert all(one["conf_thr"] == 0.25 for one in told(tmp_path / "o"))
    dataclasses.replace(made, detector="0" * 16).save(tmp_path / "c.json")
    assert run("demo", BUNDLED / "images", *options) == 2
    assert "error: the calibration is of detector 0000000000000000" in capsys.readouterr().err


def test_shares_and_a_note_where_nothing_is_calibrated(
    cached_detector, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--texts", SHOWN, "--out-dir", tmp_path)
    # As a detector that has no calibration of its own.
    monkeypatch.setattr(cached_detector, "set_calibration", lambda *_: None)
    cached_detector.model.set_calibration(None)
    for command in ("demo", "detect"):
        assert run(command, BUNDLED / "images", *options) == 0
        captured = capsys.readouterr()
        assert captured.err.count("note: this detector is not calibrated") == 1
        assert "fgclip-det calibrate" in captured.err and "3 detections" in captured.out
        assert all(one["conf_thr"] is None for one in told(tmp_path))
        assert all(one["detections"][0]["confidence"] is None for one in told(tmp_path))
    for quiet in (("--quiet",), ("--calibration", "none")):
        assert run("detect", BUNDLED / "images", *options, *quiet) == 0
        assert "calibrated" not in capsys.readouterr().err
    assert run("detect", BUNDLED / "images", *options, "--conf-thr", 0.5) == 2
    assert "fgclip-det calibrate" in capsys.readouterr().err


def test_negatives_may_be_none(cached_detector, tmp_path: Path) -> None:
    options = ("--calibration", "none", "--texts", "a cat", "--out-dir", tmp_path)
    assert run("demo", BUNDLED / "images", *options, "--negatives", "none") == 0
    assert sum(len(one["detections"]) for one in told(tmp_path)) == 4
    assert cached_detector._competing.competition is None
    assert run("demo", BUNDLED / "images", *options, "--negatives", "a dog, a ring") == 0
    assert sum(len(one["detections"]) for one in told(tmp_path)) == 0
    assert cached_detector.negatives.names == ("a dog", "a ring")
    assert run("demo", BUNDLED / "images", *options) == 0
    assert cached_detector.negatives is None and cached_detector._competing.competition is not None


def test_one_name_for_a_place(cached_detector, tmp_path: Path) -> None:
    options = ("--texts", "blue dotted star. blue star. star", "--out-dir", tmp_path)
    options += ("--calibration", "none", "--negatives", "none", "--score-thr", 0)
    counts = []
    for more in ((), ("--one-name",), ("--no-one-name",)):
        assert run("demo", PICTURES[0], *options, *more) == 0
        counts.append(len(told(tmp_path)[0]["detections"]))
    assert counts[0] == counts[1] < counts[2]
    assert run("detect", PICTURES[0], *options) == 0
    assert len(told(tmp_path)[0]["detections"]) == counts[2]


@pytest.mark.parametrize("command", ["demo", "detect", "label"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--conf-thr", "2"), "--conf-thr is 2.0: it must be between 0 and 1"),
        (("--conf-thr", "nan"), "--conf-thr is nan"),
        (("--score-thr", "-1"), "--score-thr is -1.0"),
        (("--calibration", "none.json"), "'none.json'"),
        (("--calibration", ""), "--calibration is ''"),
        (("--negatives", ""), "name"),
        (("--negatives", "none.txt"), "none.txt"),
    ],
)
def test_options_that_make_no_sense(
    command: str, options: tuple, words: str, cached_detector, tmp_path: Path, capsys
) -> None:
    place = ("--out", tmp_path / "o") if command == "label" else ("--out-dir", tmp_path / "o")
    assert run(command, BUNDLED / "images", "--texts", "a ring", *options, *place) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and words in captured.err
    assert captured.out == ""


def test_labels_have_confidences(cached_detector, tmp_path: Path, capsys) -> None:
    options = ("--texts", SHOWN, "--model", "bundled", "--val-share", 0)
    assert run("label", BUNDLED / "images", *options, "--out", tmp_path / "a") == 0
    found = json.loads((tmp_path / "a/coco/annotations/train.json").read_text())["annotations"]
    assert len(found) == 3 and all(one["score"] > 0.9 for one in found)
    capsys.readouterr()
    for other in (("--conf-thr", 0.9), ("--negatives", "none"), ("--calibration", "none")):
        assert run("label", BUNDLED / "images", *options, *other, "--out", tmp_path / "a") == 2
        assert "was begun with other" in capsys.readouterr().err
    limits = ("--conf-thr", 1, "--thresholds", "a cyan striped ring=0.5")
    assert run("label", BUNDLED / "images", *options, *limits, "--out", tmp_path / "b") == 0
    found = json.loads((tmp_path / "b/coco/annotations/train.json").read_text())["annotations"]
    assert len(found) == 1
    least = json.loads((tmp_path / "b/manifest.json").read_text())["thresholds"]
    assert least == {name: 0.5 if "ring" in name else 1 for name in SHOWN.split(". ")}
