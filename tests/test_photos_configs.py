"""The configs of configs/photos, with a stand-in for their detector and a tiny encoder."""

from __future__ import annotations

from pathlib import Path

# First, since mmdet needs mmcv's ops.
import fgclip_det.compat  # noqa: F401

# isort: split
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import Tensor, nn

from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.apis.presets import PRESETS, config_path
from fgclip_det.models.detectors.picture_detector import PictureDetector
from tests.tiny_encoders import tiny_fgclip2

ROOT = Path(__file__).resolve().parents[1]
BOXES = [[3.0, 5.0, 30.0, 40.0], [20.0, 10.0, 80.0, 47.0]]


class KnownBoxes(PictureDetector):
    """Gives the same boxes for any picture."""

    def __init__(self, data_preprocessor: dict | None = None) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self.scores = nn.Parameter(torch.tensor([0.1, 0.9]), requires_grad=False)
        self.seen: list[tuple[int, ...]] = []

    def find_boxes(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append(tuple(picture.shape))
        return torch.tensor(BOXES), self.scores


@pytest.fixture
def stand_in() -> str:
    """Its name in the registry."""
    MODELS.register_module(module=KnownBoxes, force=True)
    yield "KnownBoxes"
    MODELS.module_dict.pop("KnownBoxes")


def asked(preset: str, folder: Path, stand_in: str, **changes) -> OpenVocabInferencer:
    """An inferencer of a preset, at tiny size."""
    tiny_fgclip2(speaks=True).save_pretrained(folder / "encoder")
    torch.save({"state_dict": {"scores": torch.tensor([0.1, 0.9])}}, folder / "boxes.pth")
    cfg = Config.fromfile(config_path(preset))
    cfg.model.detector = dict(type=stand_in)
    cfg.model.encoder = str(folder / "encoder")
    cfg.model.text_cache_dir = str(folder / "texts")
    cfg.model.test_cfg.negatives.vocabularies = [["blue square", "green star", "red circles"]]
    cfg.merge_from_dict(changes)
    return OpenVocabInferencer(cfg, folder / "boxes.pth", device="cpu")


@pytest.mark.parametrize("preset", PRESETS)
def test_names_boxes_of_the_original_pixels(preset: str, tmp_path: Path, stand_in: str) -> None:
    detector = asked(preset, tmp_path, stand_in)
    picture = np.random.default_rng(0).integers(0, 256, (48, 90, 3), dtype=np.uint8)
    detector.set_negatives(None)
    (answer,) = detector([picture], texts="red circle", score_thr=0)
    assert detector.model.detector.seen == [(3, 48, 90)]
    assert np.abs(np.asarray(answer.boxes) - BOXES[::-1]).max() < 1e-4
    assert np.allclose(answer.scores, np.sqrt([0.9, 0.1]), atol=1e-4)


def test_one_name_competes(tmp_path: Path, stand_in: str) -> None:
    detector = asked("default", tmp_path, stand_in, **{"model.test_cfg.negatives.max_cosine": 1.0})
    texts = detector.encode("red circle")
    competing = detector._competing.beside(texts).competitors
    # "red circles" says the same.
    assert competing.texts[:3] == ("blue square", "green star", "red circles")
    assert "blue circle" in competing.texts[3:]
    assert competing.excluded.tolist() == [[0, 2]]
    detector.set_negatives(None)
    assert detector._competing.beside(texts).competitors is None
    detector.set_negatives("green star. a dog")
    competing = detector._competing.beside(texts)
    assert competing.texts.names == ("red circle", "green star", "a dog") and competing.count == 1


def test_twins_and_sizes_are_overrides(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        f"_base_ = {str(config_path('balanced'))!r}\n"
        "model = dict(encoder='qihoo360/fg-clip2-large',"
        " detector=dict(name='ustc-community/dfine-large-coco'))\n"
    )
    model = Config.fromfile(path).model
    assert model.detector.name == "ustc-community/dfine-large-coco"
    assert model.detector.type == "HubDetector" and model.detector.revision is None
    assert model.encoder == "qihoo360/fg-clip2-large"


def test_no_config_holds_a_commit() -> None:
    for preset in PRESETS:
        assert Config.fromfile(config_path(preset)).model.detector.revision is None


def test_the_page_names_what_the_configs_name() -> None:
    page = (ROOT / "configs" / "photos" / "README.md").read_text("utf-8")
    for preset in PRESETS:
        model = Config.fromfile(config_path(preset)).model
        assert f"| `{preset}.py` | `{model.detector.name}`" in page
        assert model.encoder in page
