"""FG-CLIP 2 as the encoder of a detector, from a random checkpoint in the published layout."""

from __future__ import annotations

import pytest
import torch

from fgclip_det.encoders import FGCLIP2
from fgclip_det.models import FGCLIP2ViT, FGCLIPViT, build_encoder
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from tests.messages import says
from tests.models.detectors_for_tests import BASE, NOVEL, prepared, total, train_step


@pytest.fixture
def build2(build, encoder2_dir):
    """`build` with a backbone of FG-CLIP 2."""
    return lambda: build(
        **{"backbone.type": "FGCLIP2ViT", "backbone.encoder": encoder2_dir},
    )


def test_maps_and_dense_tokens_are_the_encoders(encoder2_dir):
    backbone = FGCLIP2ViT(encoder2_dir, out_indices=(0, 1, -1))
    images = torch.randn(2, 3, 48, 80)
    features = backbone(images)
    assert features.grid == (3, 5)
    assert [tuple(m.shape) for m in features.maps] == [(2, 32, 3, 5)] * 3
    assert (backbone.out_channels, backbone.stride) == (32, 16)
    vision = backbone.encoder.vision_model
    first = vision.blocks[0](vision.embeddings(images).hidden).unflatten(1, (3, 5))
    torch.testing.assert_close(features.maps[0], first.permute(0, 3, 1, 2))
    expected = backbone.encoder.encode_dense(images, normalize=True)
    torch.testing.assert_close(backbone.dense(features), expected.flatten(1, 2))


def test_it_is_frozen_and_the_same_in_training(encoder2_dir):
    backbone = FGCLIP2ViT(encoder2_dir, out_indices=(0, 1, 2))
    images = torch.randn(1, 3, 48, 80)
    testing = backbone.eval()(images)
    training = backbone.train()(images)
    assert all(a.equal(b) for a, b in zip(training.maps, testing.maps, strict=True))
    assert not any(module.training for module in backbone.encoder.modules())
    assert not any(p.requires_grad for p in backbone.parameters())
    assert backbone.state_dict() == {}


def test_sizes_are_asked_from_the_encoder(build2):
    detector = build2()
    assert isinstance(detector.encoder, FGCLIP2)
    assert detector.neck.strides == (8, 16, 32, 64)
    assert detector.roi_head.bbox_head.fc_embed.out_features == 32
    assert detector.data_preprocessor.mean.flatten().tolist() == [127.5] * 3
    assert detector.data_preprocessor.pad_size_divisor == 32


def test_a_detector_on_it_trains_and_predicts(build2, make_batch):
    detector = build2()
    losses = train_step(detector, make_batch())
    assert set(losses) >= {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss"}
    assert all(torch.isfinite(value) for value in losses.values())
    inputs, samples = prepared(detector, make_batch(), training=True)
    total(detector.loss(inputs, samples)).backward()
    assert detector.neck.resamplers[0][0].weight.grad.abs().max() > 0
    detector.eval()
    inputs, samples = prepared(detector, make_batch())
    predicted = detector.predict(inputs, samples)
    for sample in predicted:
        found = sample.pred_instances
        assert len(found) and int(found.labels.max()) < len(BASE + NOVEL)
        assert torch.isfinite(found.scores).all()


def test_regions_are_those_of_the_encoder(build2, make_batch):
    detector = build2()
    inputs, samples = prepared(detector, make_batch())
    proposals = detector.rpn_head.predict(detector.extract_feat(inputs), samples, rescale=False)
    boxes = [proposal.bboxes.detach() for proposal in proposals]
    expected = detector.encoder.encode_regions(inputs, boxes, normalize=True)
    regions = torch.cat([r.region_embeddings for r in detector.propose(inputs, samples)])
    # The detector normalises each token before it averages, the encoder each average alone.
    cosines = (regions * expected).sum(dim=1)
    assert cosines.min() > 0.9
    dense = detector.encoder.encode_dense(inputs, normalize=True)
    pooled = torch.nn.functional.normalize(detector.encoder.pool_regions(dense, boxes), dim=1)
    torch.testing.assert_close(regions, pooled, atol=1e-5, rtol=0)


def test_text_embeddings_of_the_first_generation_are_refused(build2, encoder_dir):
    made = TextEmbeddings.encode(Vocabulary.parse(BASE), build_encoder(encoder_dir))
    with pytest.raises(ValueError, match=says("encode the vocabulary again")):
        build2().set_vocabulary(made)


def test_each_backbone_refuses_the_other_generation(encoder_dir, encoder2_dir):
    with pytest.raises(ValueError, match=r"set backbone\.type to 'FGCLIP2ViT'"):
        FGCLIPViT(encoder2_dir, (0, 1, 2))
    with pytest.raises(ValueError, match=r"set backbone\.type to 'FGCLIPViT'"):
        FGCLIP2ViT(encoder_dir, (0, 1, 2))
    with pytest.raises(ValueError, match=says("(0, 1)", "2", "backbone.out_indices")):
        FGCLIP2ViT(encoder2_dir, (0, 1))


def test_encoder_from_sizes():
    sizes = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    vision = dict(patch_size=8, num_patches=4, **sizes)
    text = dict(vocab_size=9, projection_size=8, **sizes)
    encoder = dict(type="FGCLIP2", vision=vision, text=text)
    backbone = FGCLIP2ViT(encoder, (1,))
    assert backbone(torch.zeros(1, 3, 16, 24)).grid == (2, 3)
    with pytest.raises(ValueError, match=r"sizes of an FGCLIP2Config: .*image_size"):
        build_encoder({**encoder, "vision": {**vision, "image_size": 16}})
    with pytest.raises(ValueError, match="'FGCLIP3': 'FGCLIP', 'FGCLIP2'"):
        build_encoder({**encoder, "type": "FGCLIP3"})
