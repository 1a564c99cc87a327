"""Every config loads, builds at tiny size, dumps, reloads, and runs `loss` and `predict`.

Encoders that a config names are replaced by tiny random ones of the depth that its taps need and of
their patches, data by two random pictures, and fewer boxes are looked at. All else is the config's
own: heads, assigners, pipelines, optimizer, hooks.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

# First, since mmdet's masks need mmcv's ops.
import fgclip_det.compat  # noqa: F401

# isort: split
import pytest
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import DATASETS, HOOKS, METRICS, MODELS, VISUALIZERS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import PolygonMasks
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from fgclip_det.models import OpenVocabWrapper
from tests.tiny_encoders import tiny_fgclip, tiny_fgclip2

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(
    path
    for path in (ROOT / "configs").rglob("*.py")
    # These have detectors of the hub: see test_photos_configs.py and test_d3_configs.py.
    if not {"_base_", "d3", "photos"} & {*path.relative_to(ROOT).parts}
)
# Pixels per patch of the encoders that configs name; 16 for others.
PATCHES = {"qihoo360/fg-clip-large": 14, "openai/clip-vit-large-patch14-336": 14}
NAMES = ["red plain circle", "blue striped square", "green dotted star"]
SIDE = 64


@pytest.fixture(params=CONFIGS, ids=lambda path: path.relative_to(ROOT / "configs").as_posix())
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    """A config at tiny size."""
    cfg = Config.fromfile(request.param)
    init_default_scope(cfg.get("default_scope", "mmdet"))
    if cfg.model.type == "OpenVocabWrapper":
        _shrink_wrapper(cfg.model, tmp_path)
    elif cfg.model.type == "OpenVocabTwoStageDetector":
        _shrink_detector(cfg.model, tmp_path)
    elif cfg.model.type in ("FGCLIPPretrainer", "FGCLIP2Pretrainer"):
        _shrink_pretrainer(cfg.model, tmp_path)
    elif cfg.model.type == "RTMDet":
        cfg.model.bbox_head.num_classes = len(NAMES)
    return cfg


def _shrink_wrapper(model: ConfigDict, folder: Path) -> None:
    second = "clip2" in model.encoder
    model.encoder = _write_encoder(folder, second)
    model.vocabulary = _write_vocabulary(folder)
    model.text_cache_dir = str(folder / "text_embeddings")
    if "num_queries" in model.detector:
        # No more than a small picture has cells.
        model.detector.num_queries = 20
    _replace_sync_bn(model)


def _write_vocabulary(folder: Path) -> str:
    vocabulary = {"names": NAMES, "groups": {"base": NAMES[:2], "novel": NAMES[2:]}}
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    return str(folder / "vocabulary.json")


def _shrink_detector(model: ConfigDict, folder: Path) -> None:
    # Negative taps count from the last block.
    depth = max(tap + 1 if tap >= 0 else -tap for tap in model.backbone.out_indices)
    patch = PATCHES.get(model.backbone.encoder, 16)
    second = model.backbone.type == "FGCLIP2ViT"
    vocabulary = _write_vocabulary(folder)
    model.backbone.encoder = _write_encoder(folder, second, depth, patch)
    if isinstance(model.vocabulary, dict):
        model.vocabulary.names = vocabulary
    else:
        model.vocabulary = vocabulary
    if "text_cache_dir" in model:
        model.text_cache_dir = str(folder / "text_embeddings")
    if "pad_size_divisor" in model.data_preprocessor:
        model.data_preprocessor.pad_size_divisor = 8 * patch
    model.train_cfg.rpn_proposal.max_per_img = model.test_cfg.rpn.max_per_img = 30
    model.train_cfg.rcnn.sampler.num = 20
    _replace_sync_bn(model)


def _write_encoder(folder: Path, second: bool, depth: int = 1, patch_size: int = 16) -> str:
    make = tiny_fgclip2 if second else tiny_fgclip
    make(speaks=True, depth=depth, patch_size=patch_size).save_pretrained(folder / "encoder")
    return str(folder / "encoder")


def _replace_sync_bn(node: object) -> None:
    """SyncBN trains on GPUs only; BN is the same layer in one process."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if isinstance(node, dict) and node.get("type") == "SyncBN":
        node["type"] = "BN"
    for child in children:
        _replace_sync_bn(child)


def _shrink_pretrainer(model: ConfigDict, folder: Path) -> None:
    if isinstance(model.encoder, str):
        model.encoder = _write_encoder(folder, model.type == "FGCLIP2Pretrainer")
        return
    region = {"bbox": [4, 4, 40, 40], "caption": NAMES[0], "negatives": NAMES[1:]}
    line = {"short_caption": NAMES[0], "long_caption": NAMES[1], "regions": [region]}
    (folder / "captions.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    model.tokenizer_captions = str(folder / "captions.jsonl")
    small = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    model.encoder.vision.update(small, image_size=SIDE)
    model.encoder.text.update(small)


def _detection_batch(model: torch.nn.Module, training: bool) -> dict:
    samples = []
    for index in range(2):
        sample = DetDataSample(
            metainfo=dict(
                img_id=index,
                img_shape=(SIDE, SIDE),
                ori_shape=(SIDE, SIDE),
                scale_factor=(1.0, 1.0),
            )
        )
        # Labels index the base classes of the vocabulary above; the second picture is empty.
        boxes = torch.tensor([[4.0, 4.0, 40.0, 44.0], [20.0, 10.0, 60.0, 50.0]])[: 2 - 2 * index]
        # A detector that comes without words knows one class.
        labels = torch.tensor([0, int(hasattr(model, "propose"))])[: len(boxes)]
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        if type(model).__name__ != "RTMDet":  # whose assigner takes no polygons
            sample.gt_instances.masks = _masks(boxes)
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=labels[:0])
        samples.append(sample)
    images = [torch.randint(0, 256, (3, SIDE, SIDE), dtype=torch.uint8) for _ in samples]
    return model.data_preprocessor(dict(inputs=images, data_samples=samples), training)


def _masks(boxes: torch.Tensor) -> PolygonMasks:
    """Rectangles."""
    corners = [[0, 1, 2, 1, 2, 3, 0, 3]] * len(boxes)
    polygons = [[box[index].numpy()] for box, index in zip(boxes, corners, strict=True)]
    return PolygonMasks(polygons, SIDE, SIDE)


def _pretraining_batch() -> dict:
    return dict(
        image=[torch.randint(0, 256, (3, SIDE, SIDE), dtype=torch.uint8) for _ in range(2)],
        short_caption=NAMES[:2],
        long_caption=NAMES[:2],
        boxes=[torch.tensor([[4.0, 4.0, 40.0, 44.0]])] * 2,
        region_captions=[[NAMES[0]], [NAMES[1]]],
        hard_captions=[[NAMES], [NAMES[::-1]]],
    )


def _batch(model: torch.nn.Module, training: bool) -> dict:
    is_detector = isinstance(model, BaseDetector)
    return _detection_batch(model, training) if is_detector else _pretraining_batch()


def test_there_are_configs() -> None:
    assert CONFIGS


def test_dumped_config_reloads_and_builds(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "dumped.py"
    config.dump(path)
    reloaded = Config.fromfile(path)
    assert reloaded.to_dict() == config.to_dict()
    first = MODELS.build(copy.deepcopy(config.model))
    second = MODELS.build(reloaded.model)
    assert list(first.state_dict()) == list(second.state_dict())


def test_loss_reaches_the_trained_parameters(config: Config) -> None:
    model = MODELS.build(config.model).train()
    if isinstance(model, OpenVocabWrapper):
        with pytest.raises(ValueError, match="OpenVocabWrapper trains nothing"):
            model(**_batch(model, training=True), mode="loss")
        return
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    losses = model(**_batch(model, training=True), mode="loss")
    total, values = model.parse_losses(losses)
    assert all(value.isfinite() for value in values.values())
    trained = [p for p in model.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in trained]
    optimizer.update_params(total)
    assert any(not torch.equal(old, new) for old, new in zip(before, trained, strict=True))
    assert all(p.isfinite().all() for p in model.parameters())


def test_predict_gives_boxes_inside_the_picture(config: Config) -> None:
    model = MODELS.build(config.model).eval()
    if not isinstance(model, BaseDetector):
        pytest.skip("trains an encoder, predicts no boxes")
    if isinstance(model, OpenVocabWrapper) and hasattr(model.detector, "level_embed"):
        # Memory that nobody wrote until then, now and then NaN.
        torch.nn.init.normal_(model.detector.level_embed)
    with torch.no_grad():
        results = model(**_batch(model, training=False), mode="predict")
    assert len(results) == 2
    for result in results:
        found = result.pred_instances
        assert found.bboxes.shape == (len(found.labels), 4)
        assert found.scores.shape == found.labels.shape
        assert len(found.labels) == 0 or found.labels.max() < len(NAMES)
        assert (found.bboxes >= 0).all()
        assert (found.bboxes <= SIDE).all()
        assert "masks" not in found or found.masks.shape == (len(found.labels), SIDE, SIDE)


def test_pipelines_hooks_and_metrics_build(config: Config, tmp_path: Path) -> None:
    if "visualizer" in config:
        VISUALIZERS.build({**config.visualizer, "save_dir": str(tmp_path)})
    for hook in [*config.get("default_hooks", {}).values(), *config.get("custom_hooks", [])]:
        HOOKS.build(hook)
    for key in ("train_dataloader", "val_dataloader", "test_dataloader"):
        dataset = (config.get(key) or {}).get("dataset")
        while dataset and "dataset" in dataset:
            dataset = dataset["dataset"]
        if dataset:
            assert DATASETS.get(dataset["type"]) is not None, dataset["type"]
            Compose(dataset.get("pipeline", []))
    for key in ("val_evaluator", "test_evaluator"):
        evaluator = config.get(key) or []
        for metric in evaluator if isinstance(evaluator, list) else [evaluator]:
            assert METRICS.get(metric["type"]) is not None, metric["type"]
