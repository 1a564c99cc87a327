"""Names for boxes of anywhere: numbers by hand, one label a box, what is refused."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS

from fgclip_det.models import Regions, RegionTextHead
from fgclip_det.models.regions.image_vocabularies import CaptionEmbeddings, classify_vocabularies
from tests.messages import says

META = dict(img_shape=(20, 40), ori_shape=(40, 80), scale_factor=(0.5, 0.5))
TEXTS = torch.eye(3)
# Two boxes apart, and one that covers most of the first.
BOXES = torch.tensor([[0.0, 0, 10, 10], [20, 0, 40, 20], [0, 0, 10, 9]])


def regions_of(embeddings, scores=None, boxes=BOXES, **more):
    count = len(embeddings)
    scores = torch.ones(count) if scores is None else torch.tensor(scores)
    values = dict(boxes=boxes[:count], objectness=scores, image_meta=META)
    return Regions(region_embeddings=F.normalize(embeddings, dim=-1), **values, **more)


def novel(count=3):
    return torch.zeros(count, dtype=torch.bool)


def random_regions(count, dim, classes=0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * torch.tensor([30.0, 10.0])
    sides = 1 + 9 * torch.rand(count, 2, generator=generator)
    return Regions(
        boxes=torch.cat([corners, corners + sides], dim=1),
        objectness=torch.rand(count, generator=generator),
        region_embeddings=F.normalize(torch.randn(count, dim, generator=generator), dim=-1),
        class_scores=torch.rand(count, classes, generator=generator) if classes else None,
        image_meta=META,
    )


def test_geometric_mean_by_hand():
    # With temperature ln 4, cosines of 1, 0 and 0 weigh 4, 1 and 1: p = 4/6, 1/6, 1/6.
    head = RegionTextHead(temperature=math.log(4.0))
    regions = regions_of(torch.tensor([[2.0, 0, 0]]), [0.54])
    scores = head.score(regions, TEXTS, novel())
    expected = [math.sqrt(0.54 * p) for p in (4 / 6, 1 / 6, 1 / 6)]
    torch.testing.assert_close(scores, torch.tensor([expected]))
    found = head.classify(regions, TEXTS, novel())
    assert found.labels.tolist() == [0] and found.regions.tolist() == [0]
    torch.testing.assert_close(found.scores, torch.tensor(expected[:1]))
    # From the network's input to the picture of twice the size.
    assert found.bboxes.tolist() == [[0, 0, 20, 20]]
    assert head.classify(regions, TEXTS, novel(), rescale=False).bboxes.tolist() == [[0, 0, 10, 10]]


def test_ensemble_by_hand():
    head = RegionTextHead("ensemble", math.log(4.0), alpha=0.25, beta=0.5)
    # The detector knows two classes: its first is the third text, its second the first one.
    columns = torch.tensor([1, -1, 0])
    class_scores = torch.tensor([[0.1, 0.6]])
    regions = regions_of(torch.tensor([[1.0, 0, 0]]), [0.7], class_scores=class_scores)
    scores = head.score(regions, TEXTS, columns >= 0, columns)
    p = [4 / 6, 1 / 6, 1 / 6]
    expected = [0.6**0.75 * p[0] ** 0.25, math.sqrt(0.7 * p[1]), 0.1**0.75 * p[2] ** 0.25]
    torch.testing.assert_close(scores, torch.tensor([expected]))
    # Where it knows no name, or not which it is, both ways to fuse are one.
    alike = RegionTextHead("geometric_mean", math.log(4.0), alpha=0.25)
    none = torch.full((3,), -1)
    for known, classes in ((novel(), none), (novel(), None), (columns >= 0, None)):
        both = [one.score(regions, TEXTS, known, classes) for one in (head, alike)]
        torch.testing.assert_close(*both)


def test_weights_of_zero_and_one_pick_one_side():
    regions = random_regions(20, 3)
    probabilities = (100 * regions.region_embeddings @ TEXTS.T).softmax(dim=-1)
    scores = RegionTextHead(alpha=0.0, beta=1.0).score(
        regions, TEXTS, torch.tensor([True, False, True])
    )
    torch.testing.assert_close(scores[:, 1], probabilities[:, 1])
    torch.testing.assert_close(scores[:, [0, 2]], regions.objectness[:, None].expand(20, 2))


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_one_label_for_each_box(class_agnostic):
    # The third box lies on the first, with another label: only class-agnostic NMS drops it.
    embeddings = torch.tensor([[3.0, 2.9, 0], [0, 0, 1], [2.9, 3.0, 0]])
    nms = dict(iou_threshold=0.5, class_agnostic=class_agnostic)
    head = RegionTextHead(temperature=1.0, test_cfg=dict(nms=nms))
    found = head.classify(regions_of(embeddings, [0.9, 0.8, 0.7]), TEXTS, novel())
    expected = {0: 0, 1: 2} if class_agnostic else {0: 0, 1: 2, 2: 1}
    rows, labels = found.regions.tolist(), found.labels.tolist()
    assert dict(zip(rows, labels, strict=True)) == expected
    assert len(found) == len(expected)


def test_several_labels_for_a_box_where_asked_for():
    embeddings = torch.tensor([[3.0, 2.9, 0]])
    head = RegionTextHead(temperature=1.0, one_label=False)
    found = head.classify(regions_of(embeddings, [0.9]), TEXTS, novel())
    assert found.labels.tolist() == [0, 1, 2]
    assert RegionTextHead(temperature=1.0).classify(
        regions_of(embeddings, [0.9]), TEXTS, novel()
    ).labels.tolist() == [0]


def test_a_text_that_is_asked_twice_is_found_once():
    texts = TEXTS[[1, 0, 0]]
    found = RegionTextHead().classify(regions_of(torch.tensor([[1.0, 0, 0]])), texts, novel())
    assert found.labels.tolist() == [1]


@pytest.mark.parametrize("fusion", ["geometric_mean", "ensemble"])
def test_the_order_of_texts_changes_nothing(fusion):
    regions, texts = random_regions(60, 8, classes=5), torch.randn(7, 8)
    classes = torch.tensor([3, -1, 0, -1, -1, 4, -1])
    head = RegionTextHead(fusion, 20.0, alpha=0.2, beta=0.7)
    order = torch.tensor([4, 2, 6, 0, 1, 5, 3])
    found = head.classify(regions, texts, classes >= 0, classes=classes)
    classes = classes[order]
    other = head.classify(regions, texts[order], classes >= 0, classes=classes)
    assert len(found) > 5
    assert order[other.labels].equal(found.labels)
    assert other.regions.equal(found.regions)
    torch.testing.assert_close(other.scores, found.scores)


def test_blocks_change_nothing(monkeypatch):
    regions, texts = random_regions(50, 8), torch.randn(6, 8)
    expected = RegionTextHead().classify(regions, texts, novel(6))
    monkeypatch.setattr("fgclip_det.models.regions.region_classification._SCORES_AT_ONCE", 40)
    found = RegionTextHead().classify(regions, texts, novel(6))
    assert found.regions.equal(expected.regions) and found.labels.equal(expected.labels)
    torch.testing.assert_close(found.scores, expected.scores)


def test_no_region_gives_no_detection():
    for head in (RegionTextHead(), RegionTextHead("ensemble")):
        known = torch.tensor([0, 4, -1, 1])
        regions, texts = random_regions(0, 8, classes=5), torch.randn(4, 8)
        found = head.classify(regions, texts, known >= 0, classes=known)
        assert found.bboxes.shape == (0, 4) and found.scores.shape == found.labels.shape == (0,)


def test_ten_thousand_boxes():
    regions, texts = random_regions(10_000, 16), torch.randn(50, 16)
    found = RegionTextHead(test_cfg=dict(max_per_img=1000)).classify(regions, texts, novel(50))
    assert 0 < len(found) <= 1000
    assert (found.scores.diff() <= 0).all() and found.scores.isfinite().all()
    scores = RegionTextHead().score(regions[found.regions], texts, novel(50))
    best, labels = scores.max(dim=1)
    assert labels.equal(found.labels)
    torch.testing.assert_close(best, found.scores)


class _Encoder:
    """Three captions with embeddings of their own."""

    fingerprint, device, projection_dim = "0" * 16, torch.device("cpu"), 3

    def encode_text(self, texts, text_length="short", normalize=False):
        return TEXTS[[("a", "b", "c").index(text) for text in texts]]


def test_many_vocabularies_of_one_image():
    regions = random_regions(30, 3)
    captions = CaptionEmbeddings(_Encoder())
    asked = [["a", "b"], ["c", "b", "a"]]
    found = list(classify_vocabularies(RegionTextHead(), regions, asked, captions))
    for words, one in zip(asked, found, strict=True):
        texts = captions.rows(words)[0]
        alone = RegionTextHead().classify(regions, texts, novel(len(words)))
        assert one.regions.equal(alone.regions) and one.labels.equal(alone.labels)
        assert one.caption_scores.shape == (len(one), len(words))
        torch.testing.assert_close(one.caption_scores.amax(dim=1), one.scores)


def test_settings():
    head = MODELS.build(dict(type="RegionTextHead", test_cfg=dict(nms=dict(class_agnostic=True))))
    assert head.test_cfg["nms"] == {"iou_threshold": 0.5, "class_agnostic": True}
    assert head.test_cfg["max_per_img"] == 300
    assert not head.state_dict()
    assert RegionTextHead().test_cfg["nms"]["class_agnostic"] is False


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(fusion="mean"), "'mean': choose one of geometric_mean, ensemble"),
        (dict(temperature=0), "temperature must be positive"),
        (dict(alpha=1.5), r"alpha must be in \[0, 1\], got 1.5"),
        (dict(beta=-0.1), r"beta must be in \[0, 1\], got -0.1"),
        (
            dict(test_cfg=dict(score_threshold=0.1)),
            "test_cfg has score_threshold: it takes score_thr",
        ),
        (dict(test_cfg=dict(nms=dict(type="soft_nms"))), r"test_cfg\.nms has type: it takes iou"),
    ],
)
def test_wrong_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        RegionTextHead(**settings)


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=says("3 values", "8")):
        RegionTextHead().classify(random_regions(2, 8), TEXTS, novel())
    known = torch.tensor([0, 1, -1])
    with pytest.raises(ValueError, match=says("class_scores")):
        RegionTextHead("ensemble").classify(random_regions(2, 3), TEXTS, known >= 0, classes=known)
    with pytest.raises(ValueError, match=says("is_base", "int64", "bools")):
        RegionTextHead().classify(random_regions(2, 3), TEXTS, known)
