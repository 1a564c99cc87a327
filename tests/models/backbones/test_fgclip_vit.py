import pickle

import pytest
import torch
from mmengine.runner.checkpoint import get_state_dict
from mmengine.runner.checkpoint import load_state_dict as mmengine_load_state_dict

from fgclip_det.encoders import FGCLIP
from fgclip_det.models import FGCLIPViT, build_encoder


@pytest.fixture
def backbone(encoder_dir):
    return FGCLIPViT(encoder_dir, out_indices=(0, 1, 2))


def test_maps_and_dense_tokens_are_the_encoders(backbone):
    images = torch.randn(2, 3, 48, 80)
    features = backbone(images)
    assert features.grid == (3, 5)
    assert [tuple(m.shape) for m in features.maps] == [(2, 32, 3, 5)] * 3
    assert (backbone.out_channels, backbone.stride) == (32, 16)
    tokens = backbone.dense(features)
    expected = backbone.encoder.encode_dense(images, normalize=True)
    torch.testing.assert_close(tokens, expected.flatten(1, 2))


def test_same_features_in_training(backbone):
    images = torch.randn(1, 3, 48, 80)
    testing = backbone.eval()(images)
    training = backbone.train()(images)
    assert type(training) is type(testing)
    assert all(a.equal(b) for a, b in zip(training.maps, testing.maps, strict=True))
    assert backbone.training and not any(m.training for m in backbone.encoder.modules())
    assert not any(m.requires_grad for m in training.maps)
    assert not any(p.requires_grad for p in backbone.parameters())


@pytest.mark.parametrize("save", [torch.nn.Module.state_dict, get_state_dict])
def test_encoder_stays_out_of_checkpoints(backbone, save):
    parent = torch.nn.ModuleDict({"backbone": backbone, "head": torch.nn.Linear(2, 2)})
    before = backbone.encoder.visual_projection.weight.clone()
    weights = save(parent)
    assert sorted(weights) == ["head.bias", "head.weight"]
    parent.load_state_dict(weights, strict=True)
    mmengine_load_state_dict(parent, weights, strict=True)
    stray = {**weights, "backbone.encoder.visual_projection.weight": torch.zeros_like(before)}
    parent.load_state_dict(stray, strict=True)
    assert backbone.encoder.visual_projection.weight.equal(before)


def test_pickles_and_moves_with_the_detector(backbone):
    backbone.double()
    assert backbone.encoder.visual_projection.weight.dtype == torch.float64
    assert not pickle.loads(pickle.dumps(backbone)).encoder.training


def test_encoder_from_sizes_and_from_itself():
    sizes = dict(
        vision=dict(
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=16,
            patch_size=8,
        ),
        text=dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2),
        projection_dim=6,
    )
    encoder = build_encoder(sizes)
    assert isinstance(encoder, FGCLIP) and not encoder.training
    assert build_encoder(encoder) is encoder
    assert FGCLIPViT(sizes, (1,))(torch.zeros(1, 3, 16, 24)).grid == (2, 3)


@pytest.mark.parametrize(
    ("out_indices", "message"),
    [
        ((0, 1), "must end with the last block of the encoder, 2"),
        ((1, 0, 2), "must rise"),
        ((), "must rise"),
        ((-1, 2), "must rise"),
        ((-4, 2), "must rise"),
    ],
)
def test_wrong_taps_are_named(encoder_dir, out_indices, message):
    with pytest.raises(ValueError, match=message):
        FGCLIPViT(encoder_dir, out_indices)


def test_taps_counted_from_the_end(encoder_dir):
    assert FGCLIPViT(encoder_dir, (-3, -1)).out_indices == (0, 2)


def test_wrong_encoders_are_named():
    with pytest.raises(ValueError, match="visoin"):
        build_encoder({"visoin": {}})
    with pytest.raises(ValueError, match="encoder is None"):
        build_encoder(None)
