"""The tool as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.datasets.shapes.generator import generate
from fgclip_det.vocabulary import Vocabulary


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    """Proposals, annotations and the folder of pictures: the objects themselves."""
    generate(tmp_path, {"val": 4}, seed=1)
    annotations = tmp_path / "annotations" / "val.json"
    results = [
        dict(image_id=a["image_id"], category_id=1, bbox=a["bbox"], score=0.5)
        for a in json.loads(annotations.read_text())["annotations"]
    ]
    (tmp_path / "p.json").write_text(json.dumps(results))
    return [str(tmp_path / "p.json"), str(annotations), str(tmp_path / "val")]


def test_writes_results_and_prints_their_worth(
    main, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out.json"
    options = ["--encoder", str(BUNDLED / "encoder"), "--out", str(out), "--device", "cpu"]
    words = ["--vocabulary", str(BUNDLED / "vocabulary.json")]
    assert main([*given, *options, *words]) == 0
    printed = capsys.readouterr().out
    assert "boxes in 4 pictures" in printed and f"written to {out}" in printed
    assert "AP50_base " in printed and "AP50_novel " in printed and "AP50_all " in printed
    first = json.loads(out.read_text())
    assert {len(one) for one in first} == {4}
    fusion = ["--fusion", "geometric_mean", "--alpha", "0", "--beta", "0", "--temperature", "9"]
    more = ["--nms", "1", "--max-per-image", "1", "--resize", "keep_ratio", "--image-size", "192"]
    assert main([*given, *options, *words, *fusion, *more, "--no-metrics"]) == 0
    assert "AP50" not in capsys.readouterr().out
    second = json.loads(out.read_text())
    assert [one["image_id"] for one in second] == [1, 2, 3, 4]
    assert {one["score"] for one in second} == {0.5}


def test_mistakes_are_one_line(
    main, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out.json"
    common = ["--encoder", str(BUNDLED / "encoder"), "--out", str(out)]
    names = Vocabulary.parse(BUNDLED / "vocabulary.json").names
    calibration = str(BUNDLED / "calibration.json")
    (tmp_path / "dump.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    for arguments, message in (
        ([*given, *common, "--texts", "a cat"], "names are not one category of"),
        ([*given, *common, "--texts", names[0], "--max-patches", "9"], "max_patches is for"),
        ([*given, *common, "--texts", names[0], "--temperature", "nan"], "temperature is nan"),
        (
            [*given, *common, "--texts", names[0], "--calibration", calibration],
            "(fgclip-det calibrate --results)",
        ),
        ([*given, *common, "--texts", names[0], "--nms", "inf"], "nms.iou_threshold is inf"),
        ([str(tmp_path / "dump.pkl"), *given[1:], *common, "--texts", "a"], "--trust-pickle"),
        (
            [str(tmp_path / "dump.pkl"), *given[1:], *common, "--texts", "a", "--trust-pickle"],
            "is refused: it would run 'os.system'",
        ),
        ([given[0], given[0], given[2], *common, "--texts", "a"], "is no COCO detection file"),
    ):
        assert main(arguments) == 2
        said = capsys.readouterr()
        assert said.out == "" and message in said.err
        assert said.err.startswith("error: ") and said.err.count("\n") == 1
    assert not list(tmp_path.glob("out*"))
    for arguments in ([*given, *common], given, [*given, *common, "--texts", "a", "--nms", "x"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
