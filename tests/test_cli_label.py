"""``fgclip-det label`` as a user types it, with the bundled model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.cli import main
from fgclip_det.datasets.shapes.generator import generate
from fgclip_det.vocabulary import Vocabulary

ROOT = Path(__file__).resolve().parents[1]
VOCABULARY = BUNDLED / "vocabulary.json"
NAMES = list(Vocabulary.parse(VOCABULARY).names)
NUMBER = 20


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures with their boxes."""
    root = tmp_path_factory.mktemp("shapes")
    generate(root, {"train": NUMBER}, seed=5)
    return root


def label(folder: Path, out: Path, *arguments: object) -> int:
    told = ["label", folder, "--vocabulary", VOCABULARY, "--out", out, "--model", "bundled"]
    return main([str(one) for one in (*told, *arguments)])


def test_all_formats_tell_the_same(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = ("coco", "yolo", "labelstudio", "cvat")
    formats = [word for kind in kinds for word in ("--format", kind)]
    assert label(shapes / "train", tmp_path, *formats, "--val-share", 0.3) == 0
    said = capsys.readouterr().out
    manifest = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    total = sum(one["labels"] for one in manifest["pictures"])
    assert f"{total} labels in {NUMBER} picture(s)" in said and total > NUMBER
    assert "review/index.html" in said and (tmp_path / "review/index.html").is_file()
    splits = Counter(one["split"] for one in manifest["pictures"])
    assert splits["train"] and splits["val"] and splits.total() == NUMBER
    tasks = json.loads((tmp_path / "labelstudio/tasks.json").read_text(encoding="utf-8"))
    assert sum(len(one["predictions"][0]["result"]) for one in tasks) == total
    counts = Counter()
    for split in ("train", "val"):
        coco = COCO(str(tmp_path / f"coco/annotations/{split}.json"))
        assert len(coco.imgs) == splits[split]
        counts["coco"] += len(coco.anns)
        root = ElementTree.parse(tmp_path / f"cvat/{split}.xml").getroot()
        counts["cvat"] += len(list(root.iter("box")))
        files = sorted((tmp_path / "yolo/labels" / split).glob("*.txt"))
        assert len(files) == splits[split]
        counts["yolo"] += sum(len(path.read_text().splitlines()) for path in files)
    assert counts == {"coco": total, "cvat": total, "yolo": total}
    names = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text(encoding="utf-8"))["names"]
    assert list(names.values()) == NAMES


def test_labels_are_right(shapes: Path, tmp_path: Path) -> None:
    assert label(shapes / "train", tmp_path, "--val-share", 0, "--quiet") == 0
    truth = COCO(str(shapes / "annotations/train.json"))
    made = COCO(str(tmp_path / "coco/annotations/train.json"))
    ids = {one["file_name"]: one["id"] for one in truth.dataset["images"]}
    found = [
        {**one, "image_id": ids[made.imgs[one["image_id"]]["file_name"]]}
        for one in made.dataset["annotations"]
    ]
    evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[1] > 0.8


def test_thresholds_of_names(shapes: Path, tmp_path: Path) -> None:
    file = tmp_path / "thresholds.json"
    file.write_text(json.dumps({name: 1.0 for name in NAMES}), encoding="utf-8")
    truth = json.loads((shapes / "annotations/train.json").read_text(encoding="utf-8"))
    number = truth["annotations"][0]["category_id"]
    kept, other = NAMES[number - 1], NAMES[number % len(NAMES)]
    out = tmp_path / "out"
    assert label(shapes / "train", out, "--thresholds", file, "--thresholds", f"{kept}=0") == 0
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["thresholds"][kept] == 0 and manifest["thresholds"][other] == 1
    annotations = COCO(str(out / "coco/annotations/train.json")).dataset["annotations"]
    assert annotations and {one["category_id"] for one in annotations} == {number}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--thresholds", "a unicorn=0.3"], "not asked for"),
        (["--thresholds", "red plain circle=much"], "is no number"),
        (["--thresholds", "red plain circle=2"], "from 0 to 1"),
        (["--thresholds", "nowhere.json"], "nowhere.json"),
        (["--val-share", "1"], "share of val is 1.0"),
        (["--iou", "0"], "IoU of one object is 0.0"),
        (["--review", "-1"], "--review is -1"),
        (["--batch-size", "0"], "batch_size"),
        (["--weights", "a.pth"], "belong to a model"),
    ],
)
def test_bad_arguments_are_one_line(
    shapes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    told: str,
) -> None:
    assert label(shapes / "train", tmp_path / "out", *arguments) == 2
    said = capsys.readouterr().err.strip()
    assert told in said and said.startswith("error: ") and "\n" not in said


def test_nothing_is_begun_where_there_are_no_confidences(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--calibration", "none", "--conf-thr", "0.3")
    assert label(shapes / "train", tmp_path / "out", *options) == 2
    assert "not calibrated" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["file", "below a file", "link that goes round", "long"])
def test_places_that_cannot_be_written_are_refused(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "round").symlink_to("round")
    places = {"file": "file", "below a file": "file/out", "link that goes round": "round"}
    assert label(shapes / "train", tmp_path / places.get(kind, "x" * 300)) == 2
    said = capsys.readouterr().err.strip()
    assert "cannot be written to" in said and "name another" in said and "\n" not in said


def test_names_that_a_format_cannot_hold(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tmp_path / "words.json"
    words.write_text(json.dumps({"red \u202emug": ["a red mug"]}), encoding="utf-8")
    out = tmp_path / "out"
    told = ["label", str(shapes / "train"), "--vocabulary", str(words), "--out", str(out)]
    assert main([*told, "--model", "bundled", "--format", "cvat"]) == 2
    assert r"cvat cannot hold the name 'red \u202emug'" in capsys.readouterr().err
    assert not out.exists()


def test_pictures_that_a_format_cannot_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out"
    folder.mkdir()
    Image.new("RGB", (64, 64)).save(folder / "a\x01b.png")
    assert label(folder, out, "--format", "cvat", "--format", "coco") == 2
    said = capsys.readouterr().err.strip()
    assert "cvat cannot hold the picture 'a\\x01b.png'" in said and "\n" not in said
    assert not out.exists()
    assert label(folder, out, "--format", "coco") == 0


def test_other_words_are_refused(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["label", str(shapes / "train"), "--out", str(tmp_path), "--model", "bundled"]
    assert main([*told, "--texts", "a red plain circle"]) == 0
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*.json*")}
    capsys.readouterr()
    assert main([*told, "--texts", "a blue plain circle"]) == 2
    said = capsys.readouterr().err
    assert "begun with other names" in said and "a blue plain circle" in said
    assert "--out" in said
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json*")} == kept


def test_some_pictures_fail_and_all_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "bad.png").write_bytes(b"none")
    assert label(folder, tmp_path / "one") == 2
    Image.new("RGB", (64, 64)).save(folder / "good.png")
    assert label(folder, tmp_path / "two") == 3
    assert "1 of 2 pictures were done" in capsys.readouterr().err
    manifest = json.loads((tmp_path / "two/manifest.json").read_text(encoding="utf-8"))
    assert len(manifest["failures"]) == 1 and len(manifest["pictures"]) == 1


# The command, which kills itself once its lines are three.
KILLED = """
import os, signal, sys
from fgclip_det.apis.labelling import run
from fgclip_det.cli import main

class Lines(run.ResumableLines):
    def append(self, content):
        super().append(content)
        if sum(1 for _ in self.path.open("rb")) >= 3:
            os.kill(os.getpid(), signal.SIGKILL)

run.ResumableLines = Lines
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on(shapes: Path, tmp_path: Path) -> None:
    folder, lines = shapes / "train", tmp_path / "killed/labels.jsonl"
    command = [sys.executable, "-c", KILLED, "label", folder, "--vocabulary", VOCABULARY]
    command += ["--model", "bundled", "--out", tmp_path / "killed"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    before = lines.read_bytes()
    assert before.count(b"\n") >= 3
    assert label(folder, tmp_path / "killed") == 0
    assert lines.read_bytes().startswith(before[: before.rindex(b"\n") + 1])
    assert label(folder, tmp_path / "whole") == 0
    one, two = (tmp_path / name / "coco/annotations/train.json" for name in ("killed", "whole"))
    assert one.read_bytes() == two.read_bytes()
