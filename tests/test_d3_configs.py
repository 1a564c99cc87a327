"""The configs of configs/d3, with a stand-in for their detector and a tiny encoder."""

from __future__ import annotations

import json
from pathlib import Path

# First, since mmdet needs mmcv's ops.
import fgclip_det.compat  # noqa: F401

# isort: split
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from torch import Tensor

from fgclip_det.models.detectors.picture_detector import PictureDetector
from tests.tiny_d3 import BOXES, SENTENCES, write_d3
from tests.tiny_encoders import tiny_fgclip2
from tests.tools.conftest import load_tool

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs" / "d3").glob("*.py"))


class TwoBoxes(PictureDetector):
    """Gives the true boxes of any picture."""

    def find_boxes(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        boxes = torch.tensor(BOXES, dtype=torch.float32)
        boxes[:, 2:] += boxes[:, :2]
        return boxes, torch.tensor([0.9, 0.8])


@pytest.fixture
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    """A config at tiny size, of tiny data."""
    MODELS.register_module(module=TwoBoxes, force=True)
    root = f"{write_d3(tmp_path / 'd3')}/"
    tiny_fgclip2(speaks=True).save_pretrained(tmp_path / "encoder")
    made = Config.fromfile(request.param)
    made.model.detector = dict(type="TwoBoxes")
    made.model.encoder = str(tmp_path / "encoder")
    made.model.text_cache_dir = str(tmp_path / "texts")
    made.test_dataloader.dataset.data_root = root
    for metric in made.test_evaluator:
        metric.ann_file = metric.ann_file.replace(made.d3_root, root)
    yield made
    MODELS.module_dict.pop("TwoBoxes")


@pytest.mark.parametrize("config", CONFIGS, indirect=True, ids=lambda path: path.stem)
def test_one_pass_gives_all_three(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config.dump(tmp_path / "config.py")
    assert Config.fromfile(tmp_path / "config.py").to_dict() == config.to_dict()
    work = tmp_path / "work"
    arguments = [str(tmp_path / "config.py"), "--work-dir", str(work)]
    assert load_tool("test").main(arguments) == 0
    found = json.loads((work / "metrics.json").read_text())
    out = capsys.readouterr().out
    assert all(f"{part}/mAP " in out for part in ("full", "pres", "abs"))
    # Both boxes are given for each sentence: the right one is first or second.
    assert all(20 < found[f"{part}/mAP"] <= 100 for part in ("full", "pres", "abs"))
    assert found["full/mAP"] == pytest.approx((found["pres/mAP"] + found["abs/mAP"]) / 2, abs=0.2)


@pytest.mark.parametrize("config", CONFIGS[:1], indirect=True)
def test_pictures_are_asked_their_own_sentences(config: Config) -> None:
    model = MODELS.build(config.model).eval()
    meta = dict(img_shape=(48, 90), ori_shape=(48, 90), scale_factor=(1.0, 1.0))
    texts = [[SENTENCES[1][0], SENTENCES[2][0]], [SENTENCES[5][0]]]
    samples = [DetDataSample(metainfo=dict(img_id=i, text=t, **meta)) for i, t in enumerate(texts)]
    pictures = [torch.randint(0, 256, (3, 48, 90), dtype=torch.uint8) for _ in samples]
    batch = model.data_preprocessor(dict(inputs=pictures, data_samples=samples), False)
    with torch.no_grad():
        first, second = model(**batch, mode="predict")
    assert set(first.pred_instances.labels.tolist()) == {0, 1}
    assert set(second.pred_instances.labels.tolist()) == {0}
    # Alone, a sentence has all of the share.
    assert second.pred_instances.scores.tolist() == pytest.approx([0.9**0.5, 0.8**0.5], abs=1e-4)
    batch["data_samples"][0].set_metainfo(dict(text="red circle"))
    with pytest.raises(ValueError, match="give a list of phrases"):
        model(**batch, mode="predict")
