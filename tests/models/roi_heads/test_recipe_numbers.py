"""The recipe's formulas on numbers worked out by hand, through the parts that a detector uses."""

import copy
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict

from fgclip_det.models import OpenVocabRoIHead, Regions

CONFIGS = Path(__file__).parents[3] / "configs"
# What the texts mean: axis 0 a base class, axis 1 a novel one, axis 2 the background.
BASE, NOVEL, BACKGROUND = torch.eye(3)
# Temperatures by which cosines of 1 weigh twice and four times as much as cosines of 0.
TWICE, FOUR_TIMES = math.log(2), math.log(4)


def roi_head(det_temperature=TWICE, vlm_temperature=FOUR_TIMES, background_weight=0.6):
    """A head without hidden layers whose texts have three values."""
    bbox_head = dict(type="OpenVocabBBoxHead", in_channels=1, embed_dim=3, roi_feat_size=1)
    bbox_head.update(num_shared_convs=0, num_shared_fcs=0, num_cls_fcs=0, num_reg_fcs=0)
    extractor = dict(type="RoIAlignExtractor", out_channels=1, featmap_strides=[4], output_size=1)
    bbox_head.update(temperature=det_temperature, background_weight=background_weight)
    test_cfg = dict(alpha=0.1, beta=0.8, vlm_temperature=vlm_temperature)
    test_cfg.update(score_thr=0.0, nms=dict(iou_threshold=0.5), max_per_img=10)
    head = OpenVocabRoIHead(extractor, bbox_head, test_cfg=ConfigDict(test_cfg))
    head.set_background(BACKGROUND)
    return head


@pytest.fixture
def regions():
    """One box: the detector sees the base class in it, the encoder the novel one."""
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    meta = dict(img_shape=(20, 20), ori_shape=(20, 20))
    return Regions(
        boxes=box,
        objectness=torch.ones(1),
        region_embeddings=NOVEL[None],
        detector_embeddings=BASE[None],
        image_meta=meta,
    )


@torch.no_grad()
def test_scores_by_hand(regions):
    texts, is_base = torch.stack([BASE, NOVEL]), torch.tensor([True, False])
    # With temperature ln 2, cosines of 1 and 0 weigh 2 and 1: p_det = 2/4, 1/4 (and 1/4 for the
    # background). With ln 4 they weigh 4 and 1: p_vlm = 1/6, 4/6 (and 1/6).
    # Base: (1/2)^0.9 (1/6)^0.1 = 0.535887 * 0.835959; novel: (1/4)^0.2 (2/3)^0.8 = 0.757858 *
    # 0.722981. They sum to 0.9959: not renormalised.
    expected = torch.tensor([[0.4479792, 0.5479173]])
    torch.testing.assert_close(roi_head().score(regions, texts, is_base), expected)


@torch.no_grad()
def test_objectness_is_not_used(regions):
    texts, is_base = torch.stack([BASE, NOVEL]), torch.tensor([True, False])
    unsure = copy.copy(regions)
    unsure.objectness = torch.zeros(1)
    head = roi_head()
    first, second = (head.classify(r, texts, is_base) for r in (regions, unsure))
    torch.testing.assert_close(first.scores, second.scores)
    torch.testing.assert_close(first.scores, torch.tensor([0.5479173, 0.4479792]))
    assert first.labels.tolist() == [1, 0]


@torch.no_grad()
def test_temperatures_sharpen_their_own_side_only(regions):
    texts, is_base = torch.stack([BASE, NOVEL]), torch.tensor([True, False])
    # Four times the cosine: the detector's weights are 16 and 1, p_det = 16/18, 1/18.
    head = roi_head(det_temperature=4 * math.log(2))
    expected = [(16 / 18) ** 0.9 * (1 / 6) ** 0.1, (1 / 18) ** 0.2 * (4 / 6) ** 0.8]
    torch.testing.assert_close(head.score(regions, texts, is_base), torch.tensor([expected]))
    # Likewise the encoder's, 16 and 1: p_vlm = 1/18, 16/18.
    head = roi_head(vlm_temperature=4 * math.log(2))
    expected = [0.5**0.9 * (1 / 18) ** 0.1, 0.25**0.2 * (16 / 18) ** 0.8]
    torch.testing.assert_close(head.score(regions, texts, is_base), torch.tensor([expected]))


def losses(head, labels):
    """Of boxes that all look like the base class, against the base class alone."""
    count = len(labels)
    zeros = torch.zeros(count, 4)
    embeddings = BASE.repeat(count, 1)
    return head.bbox_head.loss(embeddings, zeros, BASE[None], torch.tensor(labels), zeros)


def test_background_weighs_less_in_the_loss():
    # Weights 2 and 1: an object costs ln(3/2), a box without one ln 3 of which 0.6 count; both are
    # divided by the number of boxes.
    loss = float(losses(roi_head(), [0, 1, 1, 1])["loss_cls"].detach())
    assert loss == pytest.approx((math.log(1.5) + 3 * 0.6 * math.log(3)) / 4, rel=1e-6)


def test_temperature_and_background_are_learned_by_their_gradients():
    head = roi_head()
    losses(head, [0])["loss_cls"].backward()
    classifier = head.bbox_head.classifier
    # d loss / d ln T = sum (p - y) T cos = (2/3 - 1) ln 2.
    gradient = float(classifier.log_temperature_gain.grad)
    assert gradient == pytest.approx(-math.log(2) / 3, rel=1e-6)
    # d loss / d background = p_background T times the part of the box across it: 1/3 ln 2 along
    # the base class.
    expected = math.log(2) / 3 * BASE
    torch.testing.assert_close(classifier.background_embedding.grad, expected)
    assert not head.vlm_classifier.background_embedding.requires_grad


def test_classes_outside_base_have_no_part_in_the_loss(build, make_batch, monkeypatch):
    """The loss is that of all classes with the logits of those outside base at minus infinity."""
    detector = build().train()
    batch = detector.data_preprocessor(copy.deepcopy(make_batch()), True)
    bbox_head, called = detector.roi_head.bbox_head, {}
    own_loss = bbox_head.loss

    def loss(*arguments):
        called["arguments"] = arguments
        return own_loss(*arguments)

    monkeypatch.setattr(bbox_head, "loss", loss)
    got = detector.loss(batch["inputs"], batch["data_samples"])["loss_cls"]
    embeddings, _, _, labels, *_ = called["arguments"]

    texts = detector.text_embeddings
    is_base = texts.is_base()
    assert is_base.sum() == 4 and (~is_base).sum() == 2
    classifier = bbox_head.classifier
    classes = torch.cat([texts.embeddings, classifier.background_embedding[None]])
    logits = F.normalize(embeddings, dim=1) @ F.normalize(classes, dim=1).T * 50.0
    logits[:, :-1][:, ~is_base] = -math.inf
    # From a position among the base classes to one among all; the background comes last in both.
    columns = torch.cat([is_base.nonzero().squeeze(1), torch.tensor([len(texts)])])
    weights = torch.ones(len(texts) + 1)
    weights[-1] = 0.6
    summed = F.cross_entropy(logits, columns[labels], weights, reduction="sum")
    torch.testing.assert_close(got, summed / len(labels))


def test_boxes_for_the_loss(build, make_batch, monkeypatch):
    """At most a quarter of the sampled boxes are positive: the others train the background."""
    detector = build(**{"train_cfg.rcnn.sampler.num": 16}).train()
    batch = detector.data_preprocessor(copy.deepcopy(make_batch(objects=6)), True)
    pooled = []
    own_pool = detector.roi_head._pool
    monkeypatch.setattr(
        detector.roi_head, "_pool", lambda x, rois: pooled.append(rois) or own_pool(x, rois)
    )
    targets = []
    own_targets = detector.roi_head.bbox_head.get_targets
    monkeypatch.setattr(
        detector.roi_head.bbox_head,
        "get_targets",
        lambda *args: targets.append(own_targets(*args)) or targets[-1],
    )
    detector.loss(batch["inputs"], batch["data_samples"])
    labels = targets[0][0].split([int((pooled[0][:, 0] == i).sum()) for i in range(2)])
    for of_image in labels:
        # Six objects are among the proposals themselves, so a quarter can be filled: 4 of 16.
        assert int((of_image < 4).sum()) == 4
        assert len(of_image) <= 16


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("ov_coco/ovdet_fgclip_b_640_3e_ov_coco.py", 0.6),
        ("ov_lvis/ovdet_fgclip_b_1024_48e_ov_lvis.py", 0.9),
    ],
)
def test_background_weights_of_the_configs_reach_the_loss(name, weight):
    settings = Config.fromfile(CONFIGS / name).model.roi_head.bbox_head
    assert settings.background_weight == weight
    head = roi_head(background_weight=settings.background_weight)
    loss = float(losses(head, [1])["loss_cls"].detach())
    assert loss == pytest.approx(weight * math.log(3), rel=1e-6)


def test_regions_are_pooled_over_unit_tokens_and_made_unit():
    """RoIAlign 1x1 over two columns of unit tokens at a right angle: their middle, made unit."""
    head = roi_head().eval()
    tokens = torch.stack([BASE, NOVEL]).repeat(2, 1)[None]
    proposals = torch.tensor([[0.0, 0.0, 32.0, 32.0], [0.0, 0.0, 16.0, 32.0]])
    meta = dict(img_shape=(32, 32), ori_shape=(32, 32))
    results = type("Result", (), dict(bboxes=proposals, scores=torch.ones(2)))
    with torch.no_grad():
        found = head.propose([torch.zeros(1, 1, 8, 8)], tokens, (2, 2), 16, [results], [meta])[0]
    expected = torch.stack([(BASE + NOVEL) / math.sqrt(2), BASE])
    torch.testing.assert_close(found.region_embeddings, expected)
