"""The command that tests a detector, on FG-OVD's subsets."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

from fgclip_det.apis.detector_loading import BUNDLED
from fgclip_det.datasets.shapes.generator import generate
from fgclip_det.encoders import FGCLIP
from fgclip_det.evaluation import evaluate_fg_ovd
from fgclip_det.fg_ovd.predictions import read_predictions
from fgclip_det.models import OpenVocabTwoStageDetector

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = str(BUNDLED / "detector.pth")
ALL = ["{data}/config.py", WEIGHTS, "--subsets", "all"]
Main = Callable[[list[str]], int]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes with a config of it."""
    root = tmp_path_factory.mktemp("data")
    generate(root, {"pretrain_val": 12, "val": 5}, seed=2)
    config = Config.fromfile(ROOT / "configs" / "fg_ovd" / "shapes_tiny_hard.py")
    config.model.backbone.encoder = str(BUNDLED / "encoder")
    config.model.vocabulary = str(BUNDLED / "vocabulary.json")
    config.test_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)
    config.test_dataloader.dataset.update(
        ann_file=str(root / "fg_ovd" / "1_attributes.json"), data_prefix=dict(img=str(root))
    )
    config.dump(root / "config.py")
    return root


def read(folder: Path) -> dict:
    return json.loads((folder / "fg_ovd.json").read_text(encoding="utf-8"))


def test_one_command_from_config_to_tables(
    main: Main,
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    arguments = [str(made / "config.py"), WEIGHTS, "--work-dir", str(out), "--device", "cpu"]
    arguments += ["--subsets", "all"]
    arguments += ["--n-negatives", "4", "--sweep", "--sheets", "2"]
    arguments += ["--predictions", str(tmp_path / "found")]
    arguments += ["--validation", str(made / "fg_ovd" / "validation")]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    values = read(out)
    assert list(values["subsets"]) == ["hard", "medium", "easy", "trivial", "color"]
    assert set(values["left_out"]) == {"material", "pattern", "transparency"}
    assert captured.out.rstrip().endswith(f"{out}: fg_ovd.json, fg_ovd.md, sheets/")
    assert captured.out.partition("\n\nwritten to")[0] in (out / "fg_ovd.md").read_text("utf-8")
    assert "| hard: text only (true boxes) | 4 |" in captured.out
    assert "pattern is left out: no caption has 4 negatives: at most 3." in captured.out
    for name, subset in values["subsets"].items():
        assert list(subset["sweep"]) == ["0", "1", "2", "3", "4"]
        assert subset["sweep"]["4"]["map"] == subset["result"]["map"] > 0.3
        assert subset["images"] == 5 and subset["cut_captions"] == 0 < subset["captions"]
        assert (out / "sheets" / name / "index.html").is_file()
        # What any detector's predictions are scored by gives the same.
        given = read_predictions(tmp_path / "found" / f"{name}_n4.json")
        again = evaluate_fg_ovd(subset["annotations"], given.items, 4)
        assert json.loads(json.dumps(again)) == subset["result"]
    # Everything is there already: no picture is looked at again.
    monkeypatch.setattr(OpenVocabTwoStageDetector, "propose", None)
    assert main(arguments) == 0
    assert capsys.readouterr().out == captured.out
    assert read(out) == values


@pytest.mark.parametrize("kind", ["FG-OVD", "OV-COCO"])
def test_an_exif_entry_changes_nothing(main: Main, made: Path, tmp_path: Path, kind: str) -> None:
    root = shutil.copytree(made, tmp_path / "data")
    config = Config.fromfile(root / "config.py")
    dataset = config.test_dataloader.dataset
    if kind == "FG-OVD":
        path = str(root / "fg_ovd" / "1_attributes.json")
        dataset.update(ann_file=path, data_prefix=dict(img=str(root)))
        config.test_evaluator.ann_file = path
    else:
        plain = Config.fromfile(ROOT / "configs" / "shapes" / "ovdet_tiny.py")
        config.test_dataloader.dataset, config.test_evaluator = (
            plain.test_dataloader.dataset,
            plain.test_evaluator,
        )
        config.test_dataloader.dataset.update(
            data_root=str(root), vocabulary=str(root / "vocabulary.json")
        )
        config.test_evaluator.ann_file = str(root / "annotations" / "val.json")
    config.dump(root / "config.py")
    metrics = []
    for entry in (1, 6):
        for path in (root / "val").glob("*.png"):
            exif = Image.Exif()
            exif[0x0112] = entry
            with Image.open(path) as image:
                image.load()
            image.save(path, exif=exif)
        assert main([str(root / "config.py"), WEIGHTS, "--work-dir", str(tmp_path)]) == 0
        metrics.append(json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8")))
    assert metrics[0] == metrics[1]
    assert metrics[0]["mAP" if kind == "FG-OVD" else "AP50_all"] > 20


def test_captions_are_kept(
    main: Main, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    encode = FGCLIP.encode_text
    monkeypatch.setattr(
        FGCLIP,
        "encode_text",
        lambda self, t, *a, **k: encoded.extend(t) or encode(self, t, *a, **k),
    )
    arguments = [str(made / "config.py"), WEIGHTS, "--work-dir", str(tmp_path / "out")]
    ann_file = f"test_evaluator.ann_file={made / 'fg_ovd' / '1_attributes.json'}"
    arguments += ["--cfg-options", ann_file, f"model.text_cache_dir={tmp_path / 'texts'}"]
    metrics = []
    for _ in range(2):
        encoded.clear()
        assert main(arguments) == 0
        metrics.append((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
        assert len(list((tmp_path / "texts").iterdir())) == 2  # the vocabulary, and all captions
    assert not encoded and metrics[0] == metrics[1]
    # Without the folder nothing is kept.
    assert main(arguments[:-1]) == 0
    assert (tmp_path / "out" / "metrics.json").read_text(encoding="utf-8") == metrics[0]
    assert encoded


def test_what_is_undefined_is_null(
    main: Main, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the precision of a class without ground truth is.
    runner = SimpleNamespace(
        rank=0,
        register_hook=lambda hook: None,
        test=lambda: {"AP": np.float32(0.5), "cup": math.nan},
    )
    monkeypatch.setattr(Runner, "from_cfg", lambda config: runner)
    assert main([str(made / "config.py"), WEIGHTS, "--work-dir", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert written == {"AP": 0.5, "cup": None}


def test_lost_pictures(
    main: Main, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    root = shutil.copytree(made, tmp_path / "data")
    config = Config.fromfile(root / "config.py")
    annotations = str(root / "fg_ovd" / "1_attributes.json")
    config.test_dataloader.dataset.update(ann_file=annotations, data_prefix=dict(img=str(root)))
    # The subsets need neither.
    config.test_evaluator = config.test_cfg = None
    config.dump(root / "config.py")
    arguments = [str(root / "config.py"), WEIGHTS, "--subsets", "hard,trivial"]
    arguments += ["--work-dir", str(tmp_path / "out"), "--device", "cpu", "--sheets", "100"]
    # What was found in a picture before it was lost does not count.
    assert main(arguments) == 0
    assert read(tmp_path / "out")["subsets"]["hard"]["result"]["coverage"]["share"] == 1
    (root / "val" / "000001.png").unlink()
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: 1 of 5 pictures") and "000001.png" in error
    assert main([*arguments, "--skip-missing"]) == 0
    loose = read(tmp_path / "out")["subsets"]["hard"]
    assert loose["missing_images"] == 1 and loose["result"]["coverage"]["share"] < 1
    assert "| hard | 4 | 1 |" in capsys.readouterr().out
    assert main([*arguments, "--skip-missing", "--strict"]) == 0
    strict = read(tmp_path / "out")["subsets"]["hard"]
    assert strict["result"]["map"] < loose["result"]["map"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{data}/none.py", WEIGHTS, "--subsets", "all"], "no config file at"),
        (["{data}/config.py", "{data}/none.pth", "--subsets", "all"], "none.pth' does not exist"),
        (["{data}/config.py", WEIGHTS, "--subsets", "hrad"], "no subset 'hrad': choose all, or of"),
        (["{data}/config.py", WEIGHTS, "--subsets", "hard", "--n-negatives", "11"], "at most 10"),
        ([*ALL, "--n-negatives", "-1"], "n_negatives is -1"),
        ([*ALL, "--sheets", "-1"], "--sheets is -1"),
        ([*ALL, "--device", "tpu"], "device 'tpu' is unknown"),
        ([*ALL, "--predictions", "{data}/config.py"], "is a file: name a"),
        ([*ALL, "--validation", "{data}"], "has no 1_attributes.json"),
        ([*ALL, "--validation", "{data}/fg_ovd"], "--validation is the validation set's"),
        ([*ALL, "--cfg-options", "modle.x=1"], "has no 'modle.x'"),
        ([*ALL, "--show"], "--subsets goes without --show"),
        ([*ALL, "--launcher", "slurm"], "--subsets goes without --launcher"),
        ([*ALL, "--wait-time", "3"], "--subsets goes without --wait-time"),
        (["{data}/config.py", WEIGHTS, "--skip-missing"], "--skip-missing is for FG-OVD's subsets"),
        (["{data}/config.py", WEIGHTS, "--n-negatives", "0"], "give --subsets too"),
        (["configs/shapes/ovdet_tiny.py", WEIGHTS, "--subsets", "all"], "type 'OVCocoDataset'"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    arguments: list[str],
    message: str,
    main: Main,
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    given = [argument.format(data=made) for argument in arguments]
    assert main([*given, "--work-dir", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1].startswith("error: ") and message in captured.err
    assert not (tmp_path / "out").exists()
