"""A few pictures of Shapes as FG-OVD, and the bundled detector on them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config

from fgclip_det.apis.detector_loading import BUNDLED, OpenVocabDetector, load_detector
from fgclip_det.datasets.shapes.generator import generate

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "fg_ovd"


@pytest.fixture(scope="session")
def fg_ovd_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes; tests share it: copy what you change."""
    root = tmp_path_factory.mktemp("fg_ovd")
    generate(root, {"pretrain_val": 12, "val": 8}, seed=2)
    return root


@pytest.fixture
def fg_ovd_config(fg_ovd_data: Path) -> Callable[..., Config]:
    """Makes the config of Shapes' hard subset, with the bundled encoder, of a folder."""

    def make(root: Path = fg_ovd_data, **options: object) -> Config:
        config = Config.fromfile(CONFIGS / "shapes_tiny_hard.py")
        annotations = str(root / "fg_ovd" / "1_attributes.json")
        config.merge_from_dict(
            {
                "model.backbone.encoder": str(BUNDLED / "encoder"),
                "model.vocabulary": str(BUNDLED / "vocabulary.json"),
                "test_dataloader": dict(batch_size=3, num_workers=0, persistent_workers=False),
                "test_dataloader.dataset.ann_file": annotations,
                "test_dataloader.dataset.data_prefix.img": str(root),
                "test_evaluator.ann_file": annotations,
                **options,
            }
        )
        return config

    return make


@pytest.fixture(scope="session")
def _loaded_detector() -> OpenVocabDetector:
    config = Config.fromfile(CONFIGS / "shapes_tiny_hard.py")
    config.model.vocabulary = str(BUNDLED / "vocabulary.json")
    config.model.backbone.encoder = str(BUNDLED / "encoder")
    return load_detector(config, BUNDLED / "detector.pth")[0].eval()


@pytest.fixture
def fg_ovd_detector(_loaded_detector: OpenVocabDetector) -> OpenVocabDetector:
    """The bundled detector with the settings of that config, of the test alone."""
    return copy.deepcopy(_loaded_detector)
