"""Another detector's boxes through the inferencer, from a config of ours or of MMDetection's."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from PIL import Image

from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.models import OpenVocabWrapper
from tests.messages import says

SHAPES = Path(__file__).parents[2] / "configs" / "region_text" / "shapes_tiny.py"
PICTURES = sorted((BUNDLED / "images").glob("*.png"))
TEXTS = "a blue dotted star. a green checkered star. a cyan striped ring"


@pytest.fixture
def config() -> Config:
    """The config on Shapes with its paths made absolute; any box of its detector counts."""
    cfg = Config.fromfile(SHAPES)
    cfg.model.encoder = str(BUNDLED / "encoder")
    cfg.model.vocabulary = str(BUNDLED / "vocabulary.json")
    cfg.model.detector.test_cfg.rcnn.score_thr = 0.0
    return cfg


@pytest.fixture
def weights(config: Config, tmp_path: Path) -> Path:
    """A checkpoint of its detector alone, untrained."""
    torch.manual_seed(0)
    init_default_scope("mmdet")
    detector = OpenVocabWrapper(config.model.detector, config.model.encoder).detector
    torch.save({"state_dict": detector.state_dict(), "meta": {}}, tmp_path / "detector.pth")
    return tmp_path / "detector.pth"


def test_config_file_config_and_named_checkpoint_are_one(
    config: Config, weights: Path, tmp_path: Path
) -> None:
    config.dump(tmp_path / "config.py")
    detector = OpenVocabInferencer(tmp_path / "config.py", weights, device="cpu")
    expected = [found.to_dict() for found in detector(PICTURES, TEXTS, score_thr=0.0)]
    assert any(found["detections"] for found in expected)
    names = {one["name"] for found in expected for one in found["detections"]}
    assert names <= set(TEXTS.split(". "))
    given = OpenVocabInferencer(config, weights, device="cpu")
    config.model.detector_checkpoint = str(weights)
    named = OpenVocabInferencer(config, device="cpu")
    for other in (given, named):
        got = other(PICTURES, TEXTS, score_thr=0.0, batch_size=2)
        for found, known in zip(got, expected, strict=True):
            torch.testing.assert_close(
                found.scores, torch.tensor([one["score"] for one in known["detections"]])
            )
            assert found.names == [one["name"] for one in known["detections"]]
    regions = named.propose(PICTURES[:1])[0]
    assert regions.classify(TEXTS, score_thr=0.0).to_dict() == expected[0]


def test_the_numbers_of_a_test_run(config: Config, weights: Path) -> None:
    detector = OpenVocabInferencer(config, weights, device="cpu")
    detector.set_negatives(None)
    steps = [s for s in config.test_dataloader.dataset.pipeline if s.type != "LoadAnnotations"]
    for picture in PICTURES:
        data = Compose(steps)({"img_path": str(picture), "img_id": 0})
        with torch.no_grad():
            (sample,) = detector.model.test_step(pseudo_collate([data]))
        found = detector(picture, score_thr=0.0)[0]
        torch.testing.assert_close(found.scores, sample.pred_instances.scores)
        torch.testing.assert_close(found.boxes, sample.pred_instances.bboxes)
        assert found.labels.equal(sample.pred_instances.labels)


def test_any_config_of_mmdetection(tmp_path: Path) -> None:
    # SyncBN, and a pipeline that pads.
    cfg = get_config("mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py")
    cfg.model = dict(type="OpenVocabWrapper", detector=cfg.model, encoder=str(BUNDLED / "encoder"))
    torch.manual_seed(0)
    init_default_scope("mmdet")
    weights = OpenVocabWrapper(cfg.model.detector, cfg.model.encoder).detector.state_dict()
    for level in range(3):
        weights[f"bbox_head.rtm_reg.{level}.bias"].fill_(4.0)
    torch.save({"state_dict": weights}, tmp_path / "rtmdet_s.pth")
    detector = OpenVocabInferencer(cfg, tmp_path / "rtmdet_s.pth", device="cpu")
    detector.set_negatives(None)
    assert cfg.model.detector.type == "RTMDet"
    found = detector(PICTURES[0], texts=TEXTS, score_thr=0.0)[0]
    assert len(found) > 2
    assert (found.boxes >= 0).all() and (found.boxes <= 128).all()


def test_a_pipeline_that_asks_for_float_pixels(tmp_path: Path) -> None:
    # CenterNet's, which pads on all sides.
    cfg = get_config("mmdet::centernet/centernet_r18_8xb16-crop512-140e_coco.py")
    cfg.model = dict(type="OpenVocabWrapper", detector=cfg.model, encoder=str(BUNDLED / "encoder"))
    cfg.model.vocabulary = TEXTS
    torch.manual_seed(0)
    init_default_scope("mmdet")
    weights = OpenVocabWrapper(cfg.model.detector, cfg.model.encoder).detector.state_dict()
    weights["bbox_head.wh_head.2.bias"].copy_(torch.tensor([10.0, 7.0]))
    torch.save({"state_dict": weights}, tmp_path / "centernet.pth")
    detector = OpenVocabInferencer(cfg, tmp_path / "centernet.pth", device="cpu")
    detector.set_negatives(None)
    steps = [s for s in cfg.test_dataloader.dataset.pipeline if s.type != "LoadAnnotations"]
    for number, size in enumerate([(97, 64), (75, 131), (128, 128)]):
        path = tmp_path / f"{number}.png"
        Image.open(PICTURES[number]).convert("RGB").resize(size).save(path)
        data = pseudo_collate([Compose(steps)({"img_path": str(path), "img_id": 0})])
        with torch.no_grad():
            (sample,) = detector.model.test_step(data)
        found = detector(path, score_thr=0.0)[0]
        assert len(found) > 20
        torch.testing.assert_close(found.scores, sample.pred_instances.scores)
        torch.testing.assert_close(found.boxes, sample.pred_instances.bboxes)


def test_regions_of_another_wrapper_are_refused(
    config: Config, weights: Path, tmp_path: Path
) -> None:
    path = tmp_path / "regions.safetensors"

    def opened(changes: dict | None = None, given: Path = weights) -> OpenVocabInferencer:
        own = copy.deepcopy(config)
        own.merge_from_dict(changes or {})
        return OpenVocabInferencer(own, given, device="cpu")

    detector = opened()
    (regions,) = detector.propose(PICTURES[0])
    regions.save(path)
    # What is decided when regions are asked, and what only training needs, is no part of them.
    for changes in (
        {"model.region_head": dict(temperature=30.0)},
        {"model.vocabulary": "a circle. a star"},
        {"model.detector.roi_head.bbox_head.init_cfg": None},
    ):
        kept = opened(changes).load_regions(path)
        assert kept.regions.boxes.equal(regions.regions.boxes)
    values = torch.load(weights, weights_only=True)
    values["state_dict"]["rpn_head.rpn_cls.bias"] += 1e-3
    torch.save(values, tmp_path / "other.pth")
    names = [f"class {k}" for k in range(config.model.detector.roi_head.bbox_head.num_classes)]
    ensemble = {"model.region_head": dict(fusion="ensemble"), "model.class_names": names}
    others = [
        opened(given=tmp_path / "other.pth"),
        opened({"model.box_score": "rpn"}),
        opened({"model.frame": dict(resize="keep_ratio", size=192)}),
        opened({"model.frame": dict(interpolation="bilinear")}),
        opened({"model.detector.test_cfg.rcnn.score_thr": 0.5}),
        opened({"model.detector.rpn_head.anchor_generator.scales": [4]}),
        opened(ensemble),
        opened({**ensemble, "model.class_names": [f"other {name}" for name in names]}),
    ]
    assert len({other.weights_hash for other in (detector, *others)}) == 1 + len(others)
    for other in others:
        with pytest.raises(ValueError, match=says("regions.safetensors", "propose them again")):
            other.load_regions(path)


def test_regions_are_those_of_another_process(
    config: Config, weights: Path, tmp_path: Path
) -> None:
    detector = OpenVocabInferencer(config, weights, device="cpu")
    config.dump(tmp_path / "config.py")
    program = (
        "import sys; from fgclip_det.apis import OpenVocabInferencer; "
        "print(OpenVocabInferencer(*sys.argv[1:], device='cpu').weights_hash); "
        "print(OpenVocabInferencer(device='cpu').weights_hash)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "config.py"), str(weights)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    hashes = [detector.weights_hash, OpenVocabInferencer(device="cpu").weights_hash]
    assert done.stdout.split() == hashes


def _refusal(*arguments) -> str:
    with pytest.raises(ValueError) as error:
        OpenVocabInferencer(*arguments, device="cpu")
    return str(error.value)


def test_what_does_not_fit_is_refused(config: Config, weights: Path, tmp_path: Path) -> None:
    assert "give weights too" in _refusal(config)
    assert "does not exist" in _refusal(config, tmp_path / "none.pth")
    text = _refusal(config, BUNDLED / "detector.pth")
    assert "does not go with this config" in text and "missing detector." in text
    assert "config.json" in _refusal(config, weights, tmp_path)
    config.model.frame = dict(resize="crop")
    assert "resize is 'crop'" in _refusal(config, weights)
    config.model.frame = dict(side=64)
    assert "cannot be built" in _refusal(config, weights)
    config.model = config.model.detector
    assert "type 'FasterRCNN'" in _refusal(config, weights)
    assert "wrap the detector in an OpenVocabWrapper" in _refusal(config, weights)
