"""What a detector's checkpoint holds, and what it refuses to load."""

import copy
import io

import pytest
import torch
from mmengine.runner.checkpoint import get_state_dict
from mmengine.runner.checkpoint import load_state_dict as mmengine_load_state_dict

from fgclip_det.encoders import FGCLIP
from tests.messages import says
from tests.models.detectors_for_tests import assert_same_detections, prepared, train_step


@pytest.mark.parametrize("save", [torch.nn.Module.state_dict, get_state_dict])
def test_state_dict_round_trip(build, make_batch, save):
    detector = build()
    train_step(detector, make_batch())
    buffer = io.BytesIO()
    torch.save(save(detector), buffer)
    weights = torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    assert not any("encoder." in key for key in weights)
    expected = detector.eval().predict(*prepared(detector, make_batch()))
    for load in (torch.nn.Module.load_state_dict, mmengine_load_state_dict):
        fresh = build()
        load(fresh, weights)
        got = fresh.predict(*prepared(fresh, make_batch()))
        assert_same_detections(got[0].pred_instances, expected[0].pred_instances, atol=0)


@pytest.mark.parametrize("load", [torch.nn.Module.load_state_dict, mmengine_load_state_dict])
def test_weights_that_do_not_fit_are_listed(build, load):
    weights = build().state_dict()
    moved = weights.pop("neck.fpn.lateral_convs.0.conv.weight")
    weights["neck.lateral.weight"] = moved
    weights["rpn_head.rpn_cls.bias"] = torch.zeros(5)
    with pytest.raises(ValueError) as error:
        load(build(), weights)
    for part in (
        "missing neck.fpn.lateral_convs.0.conv.weight",
        "unexpected neck.lateral.weight",
        "size mismatch for rpn_head.rpn_cls.bias",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("odd", [torch.zeros(1, 8, dtype=torch.uint8), torch.zeros(8)])
def test_a_fingerprint_of_another_kind_is_refused(build, odd):
    detector = build()
    weights = {**detector.state_dict(), "encoder_fingerprint": odd}
    with pytest.raises(ValueError, match=says("no fingerprint", "backbone.encoder")):
        detector.load_state_dict(weights)


def test_weights_of_another_encoder_are_refused(build, encoder_dir, tmp_path):
    other = FGCLIP.from_pretrained(encoder_dir)
    with torch.no_grad():
        other.visual_projection.weight[0, 0] += 1
    other.save_pretrained(tmp_path)
    weights = build().state_dict()
    detector = build(**{"backbone.encoder": str(tmp_path)})
    with pytest.raises(ValueError, match=r"trained on the encoder [0-9a-f]{16}.*backbone.encoder"):
        detector.load_state_dict(weights)
    texts = build().text_embeddings
    with pytest.raises(ValueError):
        detector.set_vocabulary(texts)


def test_copies_load_by_themselves(build):
    detector = copy.deepcopy(build())
    detector.load_state_dict(build().state_dict())
    with pytest.raises(ValueError, match="missing"):
        detector.load_state_dict({})
