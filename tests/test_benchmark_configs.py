"""Configs of OV-COCO, OV-LVIS and one's own data: every number of the recipe, and whole runs.

The runs go from generated files in the layout of COCO and LVIS through the tools that prepare them,
the configs' own pipelines, training and evaluation; only the encoder and the sizes are tiny.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

# First, since mmdet needs mmcv's ops.
import fgclip_det.compat  # noqa: F401

# isort: split
import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.datasets.shapes.generator import generate
from fgclip_det.vocabulary import Vocabulary

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
OV_COCO = CONFIGS / "ov_coco"
OV_LVIS = CONFIGS / "ov_lvis"
CUSTOM = CONFIGS / "custom" / "ovdet_fgclip_b_640_custom.py"
ASSETS = ROOT / "fgclip_det" / "assets" / "shapes"

# Side, alpha, beta, temperature of the encoder's scores, weight of the background, epochs, steps,
# least score, overlap, detections.
COCO = (0.1, 0.8, 75.0, 0.6, 3, [], 0.01, 0.4, 100)
LVIS = (50.0, 0.9, 48, [32, 44], 1e-4, 0.5, 300)
RECIPES = {
    OV_COCO / "ovdet_fgclip_b_640_3e_ov_coco.py": (640, *COCO),
    OV_COCO / "ovdet_fgclip_b_640_3e_ov_coco_80way.py": (640, *COCO),
    OV_COCO / "ovdet_fgclip_l_896_3e_ov_coco.py": (896, *COCO),
    OV_COCO / "ovdet_clip_b_640_3e_ov_coco.py": (640, *COCO),
    OV_COCO / "ovdet_clip_l_896_3e_ov_coco.py": (896, *COCO),
    OV_COCO / "ovdet_fgclip2_b_640_3e_ov_coco.py": (640, *COCO),
    OV_COCO / "ovdet_siglip2_b_640_3e_ov_coco.py": (640, *COCO),
    OV_LVIS / "ovdet_fgclip_b_1024_48e_ov_lvis.py": (1024, 0.1, 0.6, *LVIS),
    OV_LVIS / "ovdet_fgclip2_b_1024_48e_ov_lvis.py": (1024, 0.1, 0.6, *LVIS),
    OV_LVIS / "ovdet_fgclip_l_896_48e_ov_lvis.py": (896, 0.1, 0.4, *LVIS),
}
# Pixels of the small runs' pictures.
SIDE = 128
TAPS = {"base": (3, 5, 7, 11), "large": (6, 10, 14, 23)}


def test_every_config_is_in_the_table() -> None:
    assert set(RECIPES) == {*OV_COCO.glob("*.py"), *OV_LVIS.glob("*.py")}


def _owner(name: str) -> str:
    return {"clip": "openai", "siglip2": "google"}.get(name.split("_")[1], "qihoo360")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_numbers_of_the_recipe(path: Path) -> None:
    side, alpha, beta, temperature, background, epochs, steps, *limits = RECIPES[path]
    config = Config.fromfile(path)
    model, rcnn = config.model, config.model.test_cfg.rcnn
    assert (rcnn.alpha, rcnn.beta, rcnn.vlm_temperature) == (alpha, beta, temperature)
    assert [rcnn.score_thr, rcnn.nms.iou_threshold, rcnn.max_per_img] == limits
    assert model.roi_head.bbox_head.background_weight == background
    assert model.roi_head.bbox_head.temperature == 50.0
    assert config.train_cfg.max_epochs == epochs
    assert config.param_scheduler[0].start_factor == 0.001 and config.param_scheduler[0].end == 250
    assert [m for s in config.param_scheduler[1:] for m in s.milestones] == steps
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("AdamW", 1e-4, 0.1)
    assert config.optim_wrapper.clip_grad.max_norm == 1.0
    assert config.auto_scale_lr.enable and config.auto_scale_lr.base_batch_size == 64
    assert model.neck.norm_cfg.type == model.roi_head.bbox_head.norm_cfg.type == "SyncBN"
    size = "large" if "_l_" in path.name else "base"
    assert size in model.backbone.encoder and model.backbone.out_indices == TAPS[size]
    assert model.backbone.encoder.partition("/")[0] == _owner(path.name)
    second = "_fgclip2_" in path.name or "_siglip2_" in path.name
    assert model.backbone.type == ("FGCLIP2ViT" if second else "FGCLIPViT")

    train = config.train_dataloader.dataset
    jitter, crop = train.pipeline[2:4]
    assert (jitter.type, jitter.ratio_range, jitter.keep_ratio) == (
        "RandomResize",
        (0.1, 2.0),
        True,
    )
    assert (crop.type, crop.crop_type, crop.allow_negative_crop) == ("RandomCrop", "absolute", True)
    assert next(t.prob for t in train.pipeline if t.type == "RandomFlip") == 0.5
    resize = config.test_dataloader.dataset.pipeline[1]
    assert jitter.scale == crop.crop_size == resize.scale == (side, side)
    assert config.val_dataloader.dataset.pipeline == config.test_dataloader.dataset.pipeline
    assert model.data_preprocessor.pad_size_divisor == side
    assert train.classes == "base"
    # A missing picture stops a run before it begins.
    assert all(config[f"{split}_dataloader"].dataset.check_images for split in ("train", "val"))


@pytest.mark.slow
def test_one_step_at_full_size_fits_a_laptop() -> None:
    config = OV_COCO / "ovdet_fgclip_b_640_3e_ov_coco.py"
    script = ROOT / "benchmarks" / "full_size_step.py"
    command = [sys.executable, str(script), str(config), "--threads", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "FG-CLIP base, 640 x 640" in done.stdout
    values = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    # A GiB of weights, as much of gradients and moments, and the maps.
    assert float(values["peak memory"].removesuffix(" GiB")) < 6
    assert 0 < float(values["loss"]) < 20


def _tool(name: str, *arguments: object) -> None:
    command = [sys.executable, ROOT / "tools" / name, *arguments]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def _shrink(config: Config, encoder: str, folder: Path) -> Config:
    """Tiny sizes of the model, and `_small_runs`."""
    norm_cfg = dict(type="BN")
    config.merge_from_dict(
        {
            "model.backbone": dict(encoder=encoder, out_indices=(1, 2)),
            "model.neck": dict(out_channels=8, scales=(2, 1), num_outs=3, norm_cfg=norm_cfg),
            "model.roi_head.bbox_head": dict(
                num_shared_convs=1, conv_out_channels=8, fc_out_channels=16, norm_cfg=norm_cfg
            ),
            "model.train_cfg.rpn_proposal.max_per_img": 20,
            "model.test_cfg.rpn.max_per_img": 20,
            "model.test_cfg.rcnn.score_thr": 0.0,
        }
    )
    if "mask_head" in config.model.roi_head:
        config.model.roi_head.mask_head.update(num_convs=1, conv_out_channels=4)
    return _small_runs(config, folder)


def _small_runs(config: Config, folder: Path) -> Config:
    """One epoch of pictures of SIDE, no worker processes, and nothing outside `folder`."""
    config.merge_from_dict(
        {
            "model.data_preprocessor.pad_size_divisor": SIDE,
            "model.text_cache_dir": str(folder / "texts"),
            "train_dataloader.batch_size": 2,
            "train_cfg": dict(max_epochs=1, val_interval=1),
            "work_dir": str(folder / "work_dir"),
        }
    )
    for key in ("train_dataloader", "val_dataloader", "test_dataloader"):
        config[key].update(num_workers=0, persistent_workers=False)
        for transform in config[key].dataset.pipeline:
            for name in {"scale", "crop_size"} & set(transform):
                transform[name] = (SIDE, SIDE)
    return config


def _move_data(config: Config, old: str, new: str) -> Config:
    """Paths below `old` become paths below `new`."""

    def moved(value):
        if isinstance(value, dict):
            return {key: moved(part) for key, part in value.items()}
        if isinstance(value, list):
            return [moved(part) for part in value]
        return value.replace(old, new, 1) if str(value).startswith(old) else value

    return Config(moved(config.to_dict()))


@pytest.fixture(scope="module")
def data(generated_coco: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``coco/`` and ``lvis/`` as their downloads lie, then prepared by the documented commands."""
    folder = tmp_path_factory.mktemp("data")
    shutil.copytree(generated_coco, folder / "coco")
    (folder / "lvis" / "annotations").mkdir(parents=True)
    for path in (folder / "coco" / "annotations").glob("lvis_v1_*.json"):
        path.rename(folder / "lvis" / "annotations" / path.name)
    _tool("prepare_ov_coco.py", "--coco", folder / "coco", "--images", folder / "coco")
    _tool("prepare_ov_lvis.py", "--lvis", folder / "lvis", "--images", folder / "coco")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["65", "80"])
def test_ov_coco_from_download_to_table(
    data: Path, encoder_dir: str, tmp_path: Path, protocol: str
) -> None:
    suffix = "_80way" if protocol == "80" else ""
    config = Config.fromfile(OV_COCO / f"ovdet_fgclip_b_640_3e_ov_coco{suffix}.py")
    config = _shrink(_move_data(config, "data/coco/", f"{data}/coco/"), encoder_dir, tmp_path)
    runner = Runner.from_cfg(config)
    runner.train()
    # The rate is that of a batch of 64, scaled to a batch of 2.
    assert runner.optim_wrapper.param_groups[0]["initial_lr"] == pytest.approx(1e-4 * 2 / 64)
    train, test = runner.train_dataloader.dataset, runner.val_dataloader.dataset
    assert len(train.metainfo["classes"]) == 48
    assert len(test.metainfo["classes"]) == int(protocol)
    base, novel = test.metainfo["base_classes"], test.metainfo["novel_classes"]
    assert (len(base), len(novel)) == (48, 17)
    vocabulary = runner.model.training_vocabulary
    # Training labels index the detector's base names, test labels all its names.
    assert vocabulary.base_classes == train.metainfo["classes"]
    assert vocabulary.names == test.metainfo["classes"]
    metrics = runner.val_evaluator.metrics[0]
    assert metrics.protocol == protocol
    results = runner.test()
    assert {"AP50_base", "AP50_novel", "AP50_all"} <= set(results)
    # All 30 images, or those with a base box alone.
    assert (len(train) == 30) == (protocol == "80")
    assert len(list((tmp_path / "texts").glob("*.safetensors"))) == 2  # names, background


@pytest.mark.slow
def test_ov_lvis_from_download_to_table(data: Path, encoder_dir: str, tmp_path: Path) -> None:
    config = Config.fromfile(OV_LVIS / "ovdet_fgclip_b_1024_48e_ov_lvis.py")
    config = _shrink(_move_data(config, "data/", f"{data}/"), encoder_dir, tmp_path)
    runner = Runner.from_cfg(config)
    runner.train()
    train, test = runner.train_dataloader.dataset, runner.val_dataloader.dataset
    assert len(train.metainfo["classes"]) == 866
    assert len(test.metainfo["novel_classes"]) == 337
    batch = runner.model.data_preprocessor(next(iter(runner.train_dataloader)), True)
    assert runner.model.train()(**batch, mode="loss")["loss_mask"].isfinite()
    result = runner.model.eval().test_step(next(iter(runner.val_dataloader)))[0]
    found = result.pred_instances
    assert len(found) and found.masks.shape == (len(found), *result.ori_shape)
    assert {"bbox_AP", "bbox_APr", "segm_AP", "segm_APr"} <= set(runner.test())


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes, which has the layout of the custom config: boxes of base classes to train on."""
    folder = tmp_path_factory.mktemp("shapes")
    generate(folder, {"train": 24, "val": 12})
    return folder


def _custom(folder: Path, shapes: Path, groups: bool) -> Config:
    """The custom config on Shapes, from the bundled detector on, at its sizes."""
    config = _move_data(Config.fromfile(CUSTOM), "data/custom/", f"{shapes}/")
    tiny = Config.fromfile(CONFIGS / "shapes" / "ovdet_tiny.py").model
    config.merge_from_dict(
        {
            "model.backbone": dict(encoder=str(ASSETS / "encoder"), out_indices=(-3, -2, -1)),
            "model.neck": tiny.neck,
            "model.rpn_head.num_convs": tiny.rpn_head.num_convs,
            "model.roi_head": tiny.roi_head,
            "model.train_cfg": tiny.train_cfg,
            "model.test_cfg.rpn": tiny.test_cfg.rpn,
            "model.vocabulary.templates": "article",
            "optim_wrapper.optimizer.lr": 1e-3,
            "load_from": str(ASSETS / "detector.pth"),
        }
    )
    config.param_scheduler = []
    if groups:
        vocabulary = str(shapes / "vocabulary.json")
        config.model.vocabulary = vocabulary
        config.train_dataloader.dataset.update(vocabulary=vocabulary, classes="base")
        config.val_dataloader.dataset.vocabulary = vocabulary
        config.test_dataloader.dataset.vocabulary = vocabulary
    return _small_runs(config, folder)


@pytest.mark.slow
@pytest.mark.parametrize("groups", [True, False])
def test_own_data_and_then_other_words(shapes: Path, tmp_path: Path, groups: bool) -> None:
    config = _custom(tmp_path, shapes, groups)
    runner = Runner.from_cfg(config)
    start = {key: value.clone() for key, value in runner.model.state_dict().items()}
    runner.train()
    assert runner.iter == 24 // config.train_dataloader.batch_size
    assert len(runner.train_dataloader.dataset.metainfo["classes"]) == (144 if groups else 192)
    scores = runner.test()
    # The bundled detector that training starts from has 94; a closed vocabulary would have none.
    assert scores["AP50_all"] > 60
    assert ("AP50_novel" in scores) == groups
    assert not groups or scores["AP50_novel"] > 60

    config.dump(tmp_path / "config.py")
    detector = OpenVocabInferencer(tmp_path / "config.py", tmp_path / "work_dir" / "epoch_1.pth")
    state = detector.model.state_dict()
    moved = [key for key, value in state.items() if not value.equal(start[key].to(value.device))]
    assert "roi_head.bbox_head.fc_embed.weight" in moved
    truth = json.loads((shapes / "annotations" / "val.json").read_text())
    names = {category["id"]: category["name"] for category in truth["categories"]}
    novel = set(Vocabulary.parse(str(shapes / "vocabulary.json")).novel_classes)
    asked = [f"a {names[a['category_id']]}" for a in truth["annotations"]]
    asked = sorted({text for text in asked if text.removeprefix("a ") in novel})
    results = detector(shapes / "val", texts=asked, score_thr=0.0)
    found = {name for result in results for name in result.names}
    assert asked and len(found & set(asked)) > len(asked) / 2
    # This encoder knows nothing of what competes by default, the names of COCO and LVIS.
    detector.set_negatives(None)
    # A word that no vocabulary ever held is answered too.
    assert {n for r in detector(shapes / "val", texts=["a ring"], score_thr=0.0) for n in r.names}
    first, names_of_first = truth["images"][0], set()
    for annotation in truth["annotations"]:
        if annotation["image_id"] == first["id"]:
            names_of_first.add(f"a {names[annotation['category_id']]}")
    best = detector(shapes / "val" / first["file_name"], texts=sorted(names_of_first))[0]
    assert set(best.names) <= names_of_first and len(best.names)
