"""Weights of NaN are said, and never a picture in which nothing is found."""

from __future__ import annotations

import math

import pytest
import torch

from tests.models.detectors_for_tests import prepared


@pytest.mark.parametrize(
    "part",
    [
        "neck.resamplers.0.0.weight",
        "rpn_head.rpn_cls.bias",
        "rpn_head.rpn_reg.bias",
        "roi_head.bbox_head.fc_reg.bias",
        "roi_head.bbox_head.fc_embed.bias",
        "encoder",
    ],
)
def test_weights_of_nan_are_said(build, make_batch, part):
    detector = build().eval()
    with torch.no_grad():
        broken = detector.encoder.parameters() if part == "encoder" else None
        for value in broken or [detector.get_parameter(part)]:
            value.fill_(math.nan)
    inputs, samples = prepared(detector, make_batch())
    with (
        torch.no_grad(),
        pytest.raises(ValueError, match=r"(?s)(?=.*NaN).*(weights|checkpoint)") as error,
    ):
        detector.predict(inputs, samples)
    assert len(str(error.value).splitlines()) == 1


def test_a_picture_without_proposals_is_one_without(build, make_batch, monkeypatch):
    detector = build().eval()
    inputs, samples = prepared(detector, make_batch())
    whole = detector.rpn_head.predict_by_feat
    monkeypatch.setattr(
        detector.rpn_head,
        "predict_by_feat",
        lambda *given, **more: [found[:0] for found in whole(*given, **more)],
    )
    assert [len(regions) for regions in detector.propose(inputs, samples)] == [0, 0]


def test_empty_pictures_are_looked_at_twice_but_once(build, make_batch, monkeypatch):
    detector = build().eval()
    detector.register_buffer("attention_mask", torch.tensor([0.0, -math.inf]))
    inputs, samples = prepared(detector, make_batch())
    whole, looks = detector.rpn_head.predict_by_feat, []
    monkeypatch.setattr(
        detector.rpn_head,
        "predict_by_feat",
        lambda *given, **more: [found[:0] for found in whole(*given, **more)],
    )
    features = detector.extract_feat
    monkeypatch.setattr(
        detector, "extract_feat", lambda given: looks.append(len(given)) or features(given)
    )
    for _ in range(3):
        assert [len(regions) for regions in detector.propose(inputs, samples)] == [0, 0]
    assert len(looks) == 1
