"""Configs of FG-OVD: their file and number, and whole runs on generated pictures."""

from __future__ import annotations

import json
from pathlib import Path

# First, since mmdet needs mmcv's ops.
import fgclip_det.compat  # noqa: F401

# isort: split
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from fgclip_det.apis.fg_ovd.command import evaluate_subsets
from fgclip_det.apis.fg_ovd.subsets import SUBSETS
from fgclip_det.compat import load_checkpoint_file
from fgclip_det.datasets.shapes.generator import generate

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs" / "fg_ovd"
BUNDLED = ROOT / "fgclip_det" / "assets" / "shapes"
TESTED = (
    "ovdet_fgclip_b_640_hard",
    "ovdet_fgclip_l_896_hard",
    "shapes_tiny_hard",
    "shapes_tiny_hard_tuned",
)
TRAINED = ("finetune_shapes_tiny", "finetune_shapes_tiny_control")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    generate(root, {"train": 8, "val": 6}, seed=1)
    return root


def moved(value: object, root: Path) -> object:
    """Paths below the folders of the configs become paths below `root`."""
    if isinstance(value, dict):
        return {key: moved(part, root) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(moved(part, root) for part in value)
    for old, new in (("data/shapes/", ""), ("data/fg_ovd/", "fg_ovd/"), ("data/coco/", "")):
        if isinstance(value, str) and value.startswith(old):
            return f"{root}/{new}{value.removeprefix(old)}"
    return value


def small(path: Path, root: Path, folder: Path) -> Config:
    """A config on Shapes, with the detector and the sizes of Shapes."""
    config = Config(moved(Config.fromfile(path).to_dict(), root))
    config.model = {
        **Config.fromfile(CONFIGS.parent / "shapes" / "ovdet_tiny.py").model,
        "test_cfg": config.model.test_cfg,
        "vocabulary": str(BUNDLED / "vocabulary.json"),
    }
    config.model.backbone.encoder = str(BUNDLED / "encoder")
    config.load_from, config.work_dir = str(BUNDLED / "detector.pth"), str(folder / "work")
    for key in ("train_dataloader", "val_dataloader", "test_dataloader"):
        config[key].update(num_workers=0, persistent_workers=False)
        for transform in config[key].dataset.get("pipeline", []):
            if "scale" in transform:
                transform.scale = (128, 128)
    return config


def test_every_config_is_in_the_table() -> None:
    assert {path.stem for path in CONFIGS.glob("*.py")} == {*TESTED, *TRAINED}


@pytest.mark.parametrize("name", TESTED)
def test_file_and_number_are_those_of_the_published_tables(name: str) -> None:
    config = Config.fromfile(CONFIGS / f"{name}.py")
    file, number = SUBSETS["hard"]
    dataset, metric = config.test_dataloader.dataset, config.test_evaluator
    assert (dataset.type, metric.type) == ("FGOVDDataset", "FGOVDMetric")
    assert Path(dataset.ann_file).name == f"{file}.json" and metric.ann_file == dataset.ann_file
    assert dataset.n_negatives == metric.n_negatives == number
    assert "data_root" not in dataset and dataset.data_prefix.img == config.data_root
    assert {"img_path", "vocabularies"} <= set(dataset.pipeline[-1].meta_keys)
    rcnn = config.model.test_cfg.rcnn
    # At least as many boxes as the metric looks at, suppressed as it does.
    assert rcnn.nms == dict(iou_threshold=0.5, class_agnostic=True) and rcnn.max_per_img == 100
    side = dict(b=640, l=896).get(name.split("_")[2], 128)
    assert dataset.pipeline[1].scale == (side, side)
    assert config.model.data_preprocessor.get("pad_size_divisor", 128) == side
    assert config.val_dataloader.dataset.type == "OVCocoDataset"


def test_the_config_s_own_subset_is_evaluated(shapes: Path, tmp_path: Path) -> None:
    path = CONFIGS / "ovdet_fgclip_b_640_hard.py"
    metrics = Runner.from_cfg(small(path, shapes, tmp_path)).test()
    # Size, which hard captions are wrong in too, is nothing that the bundled encoder was taught.
    assert metrics["mAP"] > 25 and metrics["coverage"] == 100 and metrics["missing_images"] == 0


def test_the_command_takes_a_config_to_the_other_subsets(shapes: Path, tmp_path: Path) -> None:
    config = small(CONFIGS / "ovdet_fgclip_b_640_hard.py", shapes, tmp_path)
    page = evaluate_subsets(config, BUNDLED / "detector.pth", "pattern")
    values = json.loads((Path(config.work_dir) / "fg_ovd.json").read_text(encoding="utf-8"))
    result = values["subsets"]["pattern"]["result"]
    assert result["map"] > 0.5 and result["coverage"]["share"] == 1 and result["n_negatives"] == 2
    assert f"| pattern | 2 | {100 * result['map']:.2f} |" in page


def test_tuning_starts_from_the_bundled_detector(shapes: Path, tmp_path: Path) -> None:
    config = small(CONFIGS / "finetune_shapes_tiny.py", shapes, tmp_path)
    data = config.train_dataloader.dataset.datasets
    data[0].vocabulary = config.val_dataloader.dataset.vocabulary = str(BUNDLED / "vocabulary.json")
    config.test_dataloader.dataset.vocabulary = str(BUNDLED / "vocabulary.json")
    config.train_dataloader.batch_size = 4
    config.train_cfg.update(max_epochs=1, val_interval=1)
    runner = Runner.from_cfg(config)
    seen = []
    loss = runner.model.loss

    def watched(inputs, samples):
        losses = loss(inputs, samples)
        seen.append((["vocabularies" in sample for sample in samples], losses))
        return losses

    runner.model.loss = watched
    runner.train()
    assert len(runner.train_dataloader.dataset) == 2 * 8
    assert len(seen) == 4 and {asked for kinds, _ in seen for asked in kinds} == {True, False}
    for _, losses in seen:
        # A trained detector tells captions with one attribute swapped apart from the start.
        assert 0 < float(losses["loss_cls"]) < 1 and 0 < float(losses["loss_bbox"]) < 2
    before = load_checkpoint_file(BUNDLED / "detector.pth")["state_dict"]
    after = runner.model.state_dict()
    key = "roi_head.bbox_head.fc_embed.weight"
    step = (after[key].cpu() - before[key].float()).abs()
    assert 0 < float(step.max()) < 1e-4
    assert torch.equal(after["encoder_fingerprint"].cpu(), before["encoder_fingerprint"])


def test_training_shows_captions_of_ten_negatives(shapes: Path) -> None:
    config = Config(moved(Config.fromfile(CONFIGS / "finetune_shapes_tiny.py").to_dict(), shapes))
    first, second = config.train_dataloader.dataset.datasets
    assert first.classes == "base" and first.type == "OVCocoDataset"
    assert (second.n_negatives, second.test_mode) == (10, False)
    assert Path(second.ann_file).is_file()
    # Not faster than the first training.
    base = Config.fromfile(CONFIGS.parent / "shapes" / "ovdet_tiny.py")
    assert config.optim_wrapper.optimizer.lr < base.optim_wrapper.optimizer.lr
    assert config.train_cfg.max_epochs == config.param_scheduler[-1].end == config.max_epochs


def test_control_trains_as_long_without_captions() -> None:
    tuned, control = (Config.fromfile(CONFIGS / f"{name}.py") for name in TRAINED)
    repeated = control.train_dataloader.dataset
    assert (repeated.type, repeated.times) == ("RepeatDataset", 2)
    assert repeated.dataset == tuned.train_dataloader.dataset.datasets[0]
    for key in ("train_cfg", "optim_wrapper", "param_scheduler", "load_from"):
        assert control[key] == tuned[key]


def test_captions_weigh_as_trained_classes_once_trained_on() -> None:
    plain, tuned = (
        Config.fromfile(CONFIGS / f"{name}.py").model.test_cfg.rcnn
        for name in ("shapes_tiny_hard", "shapes_tiny_hard_tuned")
    )
    assert tuned.beta == tuned.alpha == plain.alpha != plain.beta
