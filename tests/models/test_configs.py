"""Each detector config: builds at tiny size, dumps and reloads, runs `loss` and `predict`."""

import copy
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from .conftest import CONFIGS, total

DETECTORS = sorted((CONFIGS / "shapes").glob("ovdet_*.py"))


@pytest.fixture(params=DETECTORS, ids=lambda path: path.stem)
def config(request, model_config, encoder_dir):
    config = Config.fromfile(request.param)
    config.model.backbone.encoder = encoder_dir
    config.model.vocabulary = model_config.vocabulary
    return config


def test_builds_dumps_trains_and_predicts(config, make_batch, tmp_path):
    path = tmp_path / "config.py"
    config.dump(path)
    reloaded = Config.fromfile(path)
    assert reloaded.to_dict() == config.to_dict()
    detector = MODELS.build(reloaded.model)
    data = detector.data_preprocessor(make_batch(), True)
    losses = detector.train()(**copy.deepcopy(data), mode="loss")
    assert torch.isfinite(total(losses))
    predicted = detector.eval()(**data, mode="predict")
    assert all("pred_instances" in sample for sample in predicted)


def test_states_differences_only(config):
    lines = Path(config.filename).read_text().splitlines()
    assert any("_base_" in line for line in lines)
    assert len(lines) < 60


def test_the_bundled_detector_is_small(model_config):
    sizes = Config.fromfile(CONFIGS / "shapes" / "pretrain_fgclip_tiny.py").model.encoder
    config = Config.fromfile(CONFIGS / "shapes" / "ovdet_tiny.py")
    config.model.backbone.encoder = sizes.to_dict()
    config.model.vocabulary = model_config.vocabulary
    with pytest.warns(UserWarning, match="holds no tokenizer"):
        detector = MODELS.build(config.model)
    own = sum(p.numel() for p in detector.parameters() if p.requires_grad)
    assert own < 700_000
    stored = sum(value.numel() for value in detector.state_dict().values())
    assert stored < 710_000
