"""Numbers of second stages are numbers in range, wherever they are given."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fgclip_det.models import OpenVocabBBoxHead, RegionTextHead, ZeroShotClassifier
from fgclip_det.models.roi_heads.score_fusion import geometric_score_ensemble
from fgclip_det.models.roi_heads.settings import check_test_cfg
from tests.messages import says

NO_NUMBERS = [math.nan, math.inf, -math.inf, True, "0.5", None]


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0, -1, 1e7, pytest.param(10**400, id="huge")])
def test_temperatures(value):
    for build in (
        lambda: RegionTextHead(temperature=value),
        lambda: ZeroShotClassifier(4, temperature=value),
        lambda: OpenVocabBBoxHead(4, 4, temperature=value),
        lambda: check_test_cfg(dict(vlm_temperature=value)),
    ):
        with pytest.raises(ValueError, match="temperature"):
            build()


@pytest.mark.parametrize("value", [*NO_NUMBERS, -0.01, 1.01])
@pytest.mark.parametrize("name", ["alpha", "beta", "score_thr", "iou_threshold"])
def test_weights_and_thresholds(name, value):
    settings = {
        "score_thr": dict(test_cfg=dict(score_thr=value)),
        "iou_threshold": dict(test_cfg=dict(nms=dict(iou_threshold=value))),
    }.get(name, {name: value})
    with pytest.raises(ValueError, match=says(name, value)):
        RegionTextHead(**settings)
    if name in ("alpha", "beta"):
        weights = {"alpha": 0.5, "beta": 0.5, name: value}
        scores = torch.rand(2, 3)
        with pytest.raises(ValueError, match=says(name, value)):
            geometric_score_ensemble(scores, scores, is_base=torch.ones(3).bool(), **weights)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(test_cfg=dict(max_per_img=0)), "max_per_img is 0"),
        (dict(test_cfg=dict(max_per_img=2.5)), "max_per_img is 2.5"),
        (dict(test_cfg=dict(max_per_img=True)), "max_per_img is True"),
        (dict(test_cfg=dict(nms=None)), "nms is None: it must be a dict of iou_threshold"),
        (dict(test_cfg=dict(nms=0.5)), "nms is 0.5: it must be a dict"),
        (dict(test_cfg=dict(nms=dict(class_agnostic="no"))), "class_agnostic is 'no'"),
        (dict(test_cfg=3), "test_cfg is 3: it must be a dict"),
        (dict(one_label=1), "one_label is 1: it must be True or False"),
    ],
)
def test_other_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        RegionTextHead(**settings)


def test_settings_of_trained_heads():
    for settings in (dict(background_weight=math.nan), dict(loss_weight=-1)):
        with pytest.raises(ValueError, match=next(iter(settings))):
            OpenVocabBBoxHead(4, 4, **settings)
    for embed_dim in (0, 2.0, True):
        with pytest.raises(ValueError, match="embed_dim is"):
            ZeroShotClassifier(embed_dim)
    for test_cfg in (dict(alpha=math.nan), dict(mask_thr_binary=2), dict(nms=dict(type="nms"))):
        with pytest.raises(ValueError, match=next(iter(test_cfg))):
            check_test_cfg(test_cfg)


def test_numbers_of_any_kind_in_range():
    head = RegionTextHead(
        temperature=np.float32(30), alpha=0, beta=1, test_cfg=dict(max_per_img=np.int64(3))
    )
    assert head.temperature == 30 and head.test_cfg["max_per_img"] == 3
    check_test_cfg(dict(nms=dict(type="nms", iou_threshold=1), score_thr=0, alpha=0.1))
    check_test_cfg({})
