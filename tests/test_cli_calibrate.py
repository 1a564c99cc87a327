"""``fgclip-det calibrate`` as a user types it, with the bundled model."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fgclip_det.calibration import Calibration
from fgclip_det.cli import main
from fgclip_det.datasets.shapes.generator import generate
from fgclip_det.io import write_json
from fgclip_det.vocabulary import Vocabulary

NUMBER = 70
# As the annotation file calls them.
TEXTS = "a red striped star. a blue plain ring"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with their boxes."""
    root = tmp_path_factory.mktemp("shapes")
    generate(root, {"val": NUMBER}, seed=7)
    return root


def calibrate(*arguments: object) -> int:
    return main(["calibrate", *map(str, arguments), "--model", "bundled", "--device", "cpu"])


def with_truth(shapes: Path, out: Path, *arguments: object) -> int:
    truth = shapes / "annotations" / "val.json"
    return calibrate(shapes / "val", "--truth", truth, "--out", out, "--quiet", *arguments)


def all_names(shapes: Path) -> str:
    told = json.loads((shapes / "annotations" / "val.json").read_text())
    return ". ".join(one["name"] for one in told["categories"])


@pytest.mark.slow
def test_a_curve_of_truth_then_thresholds_of_absent_things(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, more = tmp_path / "deep" / "first.json", tmp_path / "more.json"
    names = f"{all_names(shapes)}. a ring"
    assert with_truth(shapes, first, "--texts", names, "--features", "detector") == 0
    assert capsys.readouterr() == ("", "")
    curve = Calibration.load(first)
    assert curve.is_fitted and curve.features == ("detector",) and not curve.thresholds
    assert curve.weights[0] > 0 and curve.about["curve"]["pictures"] == NUMBER
    assert curve.about["curve"]["names"] == 193
    told = ["--absent", "--texts", "a cat. a dog", "--risk", 0.1, "--calibration", first]
    assert calibrate(shapes / "val", *told, "--out", more) == 0
    said = capsys.readouterr().out
    assert re.search(r"^  0\.5000  a cat  \(false alarms in [0-2] of 70 pictures\)$", said, re.M)
    assert "at most 0.1 for each name, with probability 0.95 each" in said
    assert "the figures are confidence" in said and "curve:" not in said
    found = Calibration.load(more)
    assert [*found.thresholds] == ["a cat", "a dog"]
    assert (found.weights, found.bias) == (curve.weights, curve.bias)


@pytest.mark.slow
def test_a_curve_of_one_half_and_thresholds_of_the_other(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = shapes / "annotations" / "val.json"
    told = ["--truth", truth, "--texts", all_names(shapes), "--delta", 0.9999]
    goal = ["--risk", 0.25, "--kind", "alarms", "--clip", 1, "--conf-thr", 0.25]
    out = tmp_path / "c.json"
    assert calibrate(shapes / "val", *told, *goal, "--out", out) == 0
    said = capsys.readouterr().out
    assert "right and" in said and "in 35 pictures" in said
    assert "... and 172 more names" in said
    assert "mean in a picture at most 0.25" in said
    assert re.search(r"\(\d+ false alarms in 35 pictures\)", said)
    found = Calibration.load(out)
    assert found.conf_thr == 0.25 and len(found.thresholds) == 192
    assert min(one.value for one in found.thresholds.values()) == 0.25
    assert found.features == ("detector", "encoder", "objectness")


def test_absent_things_alone_bound_evidence(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c.json"
    told = ["--absent", "--texts", "a cat", "--risk", 0.1, "--out", out, "--quiet"]
    names = tmp_path / "names.json"
    assert calibrate(shapes / "val", *told, "--save-vocabulary", names) == 0
    found = Calibration.load(out)
    assert not found.is_fitted
    assert found.thresholds["a cat"].on == "evidence"
    saved = Vocabulary.parse(str(names)).thresholds
    assert saved["names"] == {"a cat": found.thresholds["a cat"].to_dict()}
    # Of another calibration, here the bundled one, they are refused.
    asked = ["demo", str(shapes / "val" / "000000.png"), "--vocabulary", str(names)]
    assert main([*asked, "--out-dir", str(tmp_path / "other")]) == 2
    assert "save the vocabulary again" in capsys.readouterr().err
    assert not [*tmp_path.glob("other/*/*")]
    asked += ["--calibration", str(out)]
    assert main([*asked, "--out-dir", str(tmp_path / "own")]) == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--risk", 0.1, "--absent"], "70 pictures cannot bound a risk of 0.01"),
        (["--absent"], "--risk 0.1"),
        (["--risk", 0], "risk is 0"),
        (["--risk", 1], "between 0 and 1"),
        (["--risk", "nan"], "risk is nan"),
        (["--risk", 0.1, "--delta", 1], "delta is 1"),
        (["--risk", 0.1, "--clip", 5], "clip is 5 for pictures"),
        (["--risk", 0.1, "--kind", "alarms", "--clip", 0], "clip is 0 for alarms"),
        (["--conf-thr", 2], "--conf-thr is 2"),
        (["--features", "detector,"], "distinct names"),
        (["--features", "colour"], "no feature 'colour': it has detector"),
        (["--batch-size", 0], "batch_size is 0"),
        (["--texts", "a cat"], "no category"),
        (["--calibration", "OTHER"], "--risk 0.1"),
        (["--calibration", "OTHER", "--risk", 0.3], "calibration is of detector other"),
        (["--calibration", "MISSING", "--risk", 0.3], "cannot be read"),
        (["--out", "FOLDER"], "is a folder"),
        (["--out", ""], "no path"),
        (["--out", "PICTURE"], "is no .json file"),
        (["--out", "TRUTH"], "written over --truth"),
        (["--save-vocabulary", "PICTURE"], "is no .json or .safetensors file"),
        (["--save-vocabulary", "TRUTH", "--risk", 0.3], "written over --truth"),
        (["--save-vocabulary", "MISSING"], "say what they are to keep"),
        (["--results", "MISSING"], "give --truth, which lists their pictures, and --encoder"),
        (["--results", "MISSING", "--encoder", "FOLDER"], "leave --model out"),
        (["--seed", -1], "--seed is -1"),
        (["--prior", 0], "--prior is 0"),
        (["--prior", 0.1, "--risk", 0.1, "--absent"], "--prior is of a curve"),
        (["--kind", "alarms"], "--kind and --clip are of a bound"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    shapes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[object],
    told: str,
) -> None:
    other = tmp_path / "other.json"
    Calibration("other", "e", {}, ("detector",), (1.0,)).save(other)
    places = {"OTHER": other, "MISSING": tmp_path / "no.json", "FOLDER": tmp_path}
    places |= {"PICTURE": shapes / "val" / "000000.png"}
    places |= {"TRUTH": shapes / "val" / ".." / "annotations" / "val.json"}
    before = [places[key].read_bytes() for key in ("PICTURE", "TRUTH")]
    given = [places.get(one, one) for one in arguments]
    if "--absent" in given:
        given = [0.01 if one == 0.1 else one for one in given]
        given += ["--texts", "a cat", "--out", tmp_path / "c.json"]
        code = calibrate(shapes / "val", *given)
    else:
        defaults = [] if "--texts" in given else ["--texts", TEXTS.replace("a ", "")]
        code = with_truth(shapes, tmp_path / "c.json", *defaults, *given)
    said = capsys.readouterr()
    assert code == 2 and told in said.err
    assert "Traceback" not in said.err and len(said.err.strip().splitlines()) == 1
    assert not (tmp_path / "c.json").exists()
    assert [places[key].read_bytes() for key in ("PICTURE", "TRUTH")] == before


def test_a_picture_that_is_given_twice_counts_once(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c.json"
    told = ["--absent", "--texts", "a cat", "--risk", 0.02, "--out", out, "--quiet"]
    # 140 would be enough.
    assert calibrate(shapes / "val", shapes / "val", *told) == 2
    said = capsys.readouterr().err
    assert "note: 70 of 140 pictures" in said and "error: 70 pictures cannot bound" in said
    assert not out.exists()


def test_truth_is_of_one_folder(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = shapes / "val" / "000000.png"
    for given in ([shapes / "val", shapes], [picture]):
        told = ["--truth", tmp_path / "t.json", "--texts", "a cat", "--out", tmp_path / "c.json"]
        assert calibrate(*given, *told) == 2
        assert "is not one folder" in capsys.readouterr().err


def test_truth_that_is_no_annotation_file(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "truth.json"
    write_json(broken, {"images": []})
    told = ["--truth", broken, "--texts", "a cat", "--out", tmp_path / "c.json"]
    assert calibrate(shapes / "val", *told) == 2
    assert "no COCO detection file" in capsys.readouterr().err


@pytest.mark.slow
def test_the_same_command_gives_the_same_calibration(shapes: Path, tmp_path: Path) -> None:
    for name in ("one.json", "two.json"):
        told = [
            "--texts",
            all_names(shapes)[:400].rpartition(". ")[0],
            "--risk",
            0.3,
            "--delta",
            0.9999,
            "--seed",
            4,
        ]
        assert with_truth(shapes, tmp_path / name, *told) == 0
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
