"""The command that checks data, and the same check before a training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config

from fgclip_det.apis.detector_loading import BUNDLED
from fgclip_det.datasets.check import DataSource, sources_of
from fgclip_det.datasets.shapes.generator import generate
from tests.tools.conftest import TOOLS, load_tool

CONFIGS = TOOLS.parent / "configs"
Main = Callable[[list[str]], int]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes, with a config that trains on them for one step."""
    root = tmp_path_factory.mktemp("data")
    generate(root, {"train": 8, "val": 4}, seed=3)
    config = Config.fromfile(CONFIGS / "shapes" / "ovdet_tiny.py")
    config.model.backbone.encoder = str(BUNDLED / "encoder")
    config.model.vocabulary = str(BUNDLED / "vocabulary.json")
    config.train_cfg = dict(type="IterBasedTrainLoop", max_iters=1, val_interval=5)
    config.param_scheduler = []
    for name in ("train_dataloader", "val_dataloader"):
        config[name].update(num_workers=0, persistent_workers=False, batch_size=2)
    config.dump(root / "config.py")
    return root


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    """A copy to spoil, whose config names it."""
    root = shutil.copytree(made, tmp_path / "data")
    config = Config.fromfile(root / "config.py")
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        config[name].dataset.data_root = str(root)
        config[name].dataset.vocabulary = str(root / "vocabulary.json")
    for name in ("val_evaluator", "test_evaluator"):
        config[name].ann_file = str(root / "annotations" / "val.json")
    config.dump(root / "config.py")
    return root


def to_corners(path: Path) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    for one in values["annotations"]:
        x, y, w, h = one["bbox"]
        one["bbox"] = [x, y, x + w, y + h]
    path.write_text(json.dumps(values), encoding="utf-8")


def test_a_config_or_a_file(main: Main, data: Path, capsys: pytest.CaptureFixture) -> None:
    annotations = data / "annotations" / "train.json"
    assert main([str(data / "config.py")]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2] for line in told] == ["nothing odd"] * 2
    assert main([str(annotations), str(data / "train")]) == 0
    to_corners(annotations)
    (data / "val" / "000001.png").write_bytes(b"")
    assert main([str(data / "config.py")]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert "train.json': " in error and "fit as corners" in error
    assert "val.json': 1 of 4 pictures" in error and "000001.png' is empty" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.json"], "name the folder of its pictures"),
        (["config.py", "images"], "leave out 'images'"),
        (["none.py"], "no config file"),
        (["none.json", "images"], "none.json"),
    ],
)
def test_mistakes_are_one_line(
    main: Main, data: Path, capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    assert main([str(data / arguments[0]), *arguments[1:]]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert message in error


def test_a_training_checks_its_data(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    train = load_tool("train").main
    arguments = [str(data / "config.py"), "--work-dir", str(tmp_path / "out")]
    to_corners(data / "annotations" / "train.json")
    assert train(arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert (
        error.startswith("error: ")
        and "take x1, y1 off x2, y2 (tools/train.py --no-data-check" in error
    )
    assert not list((tmp_path / "out").rglob("*.pth"))
    assert train([*arguments, "--no-data-check"]) == 0
    assert list((tmp_path / "out").rglob("*.pth"))


def test_the_sources_of_a_config() -> None:
    config = Config.fromfile(CONFIGS / "fg_ovd" / "finetune_shapes_tiny.py")
    assert sources_of(config) == [
        DataSource("data/shapes/annotations/train.json", "data/shapes/train/", False),
        DataSource("data/shapes/fg_ovd/train_1_attributes.json", "data/shapes/"),
        DataSource("data/shapes/annotations/val.json", "data/shapes/val/"),
    ]
    config = Config.fromfile(CONFIGS / "shapes" / "pretrain_fgclip_tiny.py")
    (source,) = sources_of(config)
    assert source.ann_file.endswith(".jsonl")
    unknown = dict(type="VOCDataset", ann_file="a.txt")
    remote = dict(type="CocoDataset", ann_file="s3://a.json")
    assert sources_of(dict(train_dataloader=dict(dataset=unknown))) == []
    assert sources_of(dict(train_dataloader=dict(dataset=[remote]), val_dataloader=None)) == []
