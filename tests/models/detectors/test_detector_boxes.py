"""Boxes of a detector that gives what it is told: merged, clipped, none, and very many."""

from __future__ import annotations

import math

import pytest
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmengine.structures import InstanceData

from fgclip_det.models import OpenVocabWrapper
from fgclip_det.models.detectors.detector_boxes import merge_classes
from fgclip_det.vocabulary import TextEmbeddings
from tests.messages import says
from tests.models.detectors_for_tests import BASE, NOVEL

SIZE = (64, 96)


class ToldDetector(BaseDetector):
    """Finds the same boxes in each picture."""

    bbox_head = object()

    def __init__(self, boxes=(), scores=(), labels=()):
        super().__init__(data_preprocessor=MODELS.build(dict(type="DetDataPreprocessor")))
        self.boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        self.scores = torch.as_tensor(scores, dtype=torch.float32)
        self.labels = torch.as_tensor(labels, dtype=torch.int64)

    def predict(self, batch_inputs, batch_data_samples, rescale=True):
        assert not rescale
        for sample in batch_data_samples:
            values = dict(bboxes=self.boxes, scores=self.scores, labels=self.labels)
            sample.pred_instances = InstanceData(**values)
        return batch_data_samples

    def loss(self, batch_inputs, batch_data_samples): ...

    def extract_feat(self, batch_inputs):
        return (batch_inputs,)

    def _forward(self, batch_inputs, batch_data_samples=None): ...


def told(boxes, scores, labels):
    detector = ToldDetector(boxes, scores, labels)
    return InstanceData(bboxes=detector.boxes, scores=detector.scores, labels=detector.labels)


TWICE = ([[10, 10, 30, 30], [5, 5, 9, 9], [10, 10, 30, 30]], [0.5, 0.4, 0.3], [2, 0, 1])


def test_a_box_of_several_classes_is_one_box():
    boxes, scores, by_class = merge_classes(told(*TWICE), SIZE, "max", num_classes=3)
    assert boxes.tolist() == [[10, 10, 30, 30], [5, 5, 9, 9]]
    torch.testing.assert_close(scores, torch.tensor([0.5, 0.4]))
    torch.testing.assert_close(by_class, torch.tensor([[0, 0.3, 0.5], [0.4, 0, 0]]))
    assert merge_classes(told(*TWICE), SIZE, "max")[2] is None


def test_the_sum_of_its_classes():
    _, scores, _ = merge_classes(told(*TWICE), SIZE, "sum")
    torch.testing.assert_close(scores, torch.tensor([0.8, 0.4]))
    many = told([[0, 0, 9, 9]] * 3, [0.6, 0.5, 0.4], [0, 1, 2])
    assert merge_classes(many, SIZE, "sum")[1].tolist() == [1.0]


def test_boxes_are_clipped_and_those_without_a_pixel_left_out():
    nan = math.nan
    boxes = [[-5, -5, 200, 30], [96, 0, 120, 9], [9, 9, 9, 30], [30, 9, 20, 19], [nan, 0, 9, 9]]
    found = merge_classes(told(boxes, [0.5] * 5, [0] * 5), SIZE, "max", num_classes=1)
    assert found[0].tolist() == [[0, 0, 96, 30]]
    assert [len(values) for values in found] == [1, 1, 1]


def test_classes_without_a_name_are_named():
    with pytest.raises(ValueError, match=says("class 2", "class_names")):
        merge_classes(told(*TWICE), SIZE, "max", num_classes=2)


@pytest.fixture
def wrap(encoder_dir):
    def wrap(*found, **settings):
        settings = {"vocabulary": BASE + NOVEL, **settings}
        return OpenVocabWrapper(ToldDetector(*found), encoder_dir, **settings).eval()

    return wrap


def images(count=2):
    return torch.randint(0, 256, (count, 3, *SIZE)).float()


def test_no_box_gives_no_detection(wrap, make_batch):
    for settings in ({}, dict(region_head=dict(fusion="ensemble"), class_names=BASE)):
        wrapper = wrap(**settings)
        regions = wrapper.propose(images())
        assert [len(image) for image in regions] == [0, 0]
        assert regions[0].region_embeddings.shape == (0, wrapper.encoder.projection_dim)
        data = wrapper.data_preprocessor(make_batch(), False)
        for sample in wrapper.predict(data["inputs"], data["data_samples"]):
            assert sample.pred_instances.bboxes.shape == (0, 4)


def test_ten_thousand_boxes(wrap):
    corners = torch.rand(10_000, 2) * torch.tensor([80.0, 50.0])
    boxes = torch.cat([corners, corners + 1 + 30 * torch.rand(10_000, 2)], dim=1)
    wrapper = wrap(boxes, torch.rand(10_000), torch.zeros(10_000))
    regions = wrapper.propose(images(1))
    assert len(regions[0]) == 10_000
    (found,) = wrapper.classify(regions, wrapper.text_embeddings)
    assert 0 < len(found) <= 300 and found.scores.isfinite().all()


def test_a_detector_that_predicts_no_boxes_is_named(wrap):
    wrapper = wrap()
    wrapper.detector.predict = lambda inputs, samples, rescale: samples
    with pytest.raises(ValueError, match="ToldDetector predicts no boxes"):
        wrapper.propose(images())


def test_boxes_of_nan_are_said(wrap):
    nan = math.nan
    fine = [10.0, 10, 30, 30]
    for boxes, scores, count in (
        ([fine, [nan, 0, 9, 9]], [0.5, 0.5], 1),
        ([fine, fine], [nan, math.inf], 2),
    ):
        with pytest.raises(ValueError, match=says(f"{count} of 2", "ToldDetector", "NaN")):
            wrap(boxes, scores, [0, 0]).propose(images())
    # Where a box ends does not matter once it is out of the picture.
    wrapper = wrap([[10, 10, math.inf, 30]], [0.5], [0])
    assert wrapper.propose(images(1))[0].boxes.tolist() == [[10, 10, 96, 30]]


def test_nothing_found_with_weights_of_nan_is_said(wrap):
    wrapper = wrap()
    wrapper.detector.register_buffer("weight", torch.ones(3))
    wrapper.detector.weight[1] = math.nan
    with pytest.raises(ValueError, match=says("ToldDetector found nothing", "'weight'", "NaN")):
        wrapper.propose(images(1))
    # Infinities may be a mask's. Of whole weights too, where numbers overflow.
    wrapper.detector.weight[1] = -math.inf
    assert len(wrap().propose(images(1))[0]) == 0
    wrapper.detector.extract_feat = lambda pixels: (pixels, pixels / 0)
    with pytest.raises(ValueError, match=says("ToldDetector found nothing", "features", "NaN")):
        wrapper.propose(images(1))


def test_texts_without_a_direction_are_refused(wrap):
    wrapper = wrap([[10, 10, 30, 30]], [0.5], [0])
    regions = wrapper.propose(images(1))
    texts = wrapper.encode_vocabulary(BASE)
    for value in (0.0, math.nan, math.inf):
        rows = texts.embeddings.clone()
        rows[1] = value
        broken = TextEmbeddings(texts.vocabulary, rows, texts.encoder_fingerprint)
        with pytest.raises(ValueError, match=says("1 of 4", BASE[1], "encode")):
            wrapper.classify(regions, broken)


def test_regions_of_nan_are_said(wrap):
    wrapper = wrap([[10, 10, 30, 30]], [0.5], [0])
    regions = wrapper.propose(images(1))
    regions[0].region_embeddings[0, 0] = math.nan
    for agnostic in (False, True):
        wrapper.region_head.test_cfg["nms"]["class_agnostic"] = agnostic
        with pytest.raises(ValueError, match=says("1 of 1 boxes", "NaN", "weights")):
            wrapper.classify(regions, wrapper.text_embeddings)


def test_class_scores_count_for_names_that_it_knows(wrap):
    boxes = [[10, 10, 30, 30], [10, 10, 30, 30]]
    names = ["background thing", BASE[2], BASE[0]]
    wrapper = wrap(
        boxes,
        [0.6, 0.2],
        [1, 2],
        class_names=names,
        region_head=dict(fusion="ensemble", alpha=0.0, beta=0.0, one_label=False),
    )
    regions = wrapper.propose(images(1))
    texts = wrapper.encode_vocabulary([BASE[0], "a " + BASE[2], NOVEL[0]])
    ready = wrapper._ready(texts)
    assert ready["classes"].tolist() == [2, 1, -1]
    assert ready["is_base"].tolist() == [True, True, False]
    # Its own scores alone: 0.2 and 0.6 for its classes, and for another name the larger one.
    scores = wrapper.region_classifier.score(regions[0], **ready)
    torch.testing.assert_close(scores, torch.tensor([[0.2, 0.6, 0.6]]))
    grouped = {"names": NOVEL, "groups": {"base": NOVEL[:1], "novel": NOVEL[1:]}}
    # What a vocabulary calls base is not what this detector was trained on.
    assert not wrapper._ready(wrapper.encode_vocabulary(grouped))["is_base"].any()


def test_proposals_are_kept_where_asked_for(wrap, make_batch):
    wrapper = wrap([[10, 10, 30, 30]], [0.5], [0], test_cfg=dict(keep_proposals=True))
    data = wrapper.data_preprocessor(make_batch(1), False)
    (sample,) = wrapper.predict(data["inputs"], data["data_samples"])
    # make_batch halves its pictures.
    assert sample.proposals.bboxes.tolist() == [[20, 20, 60, 60]]
    assert sample.proposals.scores.tolist() == [0.5]
