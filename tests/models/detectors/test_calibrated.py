"""Detectors asked where something competes: what is handed on, what is refused, what stays."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from fgclip_det.calibration import Calibration
from fgclip_det.models import OpenVocabWrapper
from fgclip_det.models.roi_heads.judging_head import JudgingHead
from fgclip_det.vocabulary.competition import Competition, Competitors
from tests.messages import says
from tests.models.competitors_for_tests import directions
from tests.models.detectors_for_tests import NOVEL, prepared
from tests.tiny_encoders import NAMES


class Competing:
    """Stands in for `Competition`: a bank of some names, and two phrases for the first name.

    An encoder of random weights sees no difference between pictures: the bank is spread around what
    is asked for, so that some of it fits better and some worse.
    """

    def __init__(self, detector):
        words = ("thing", "stuff", "big thing", "small thing", "photo", "red stuff", "blue stuff")
        self.settings = {"names": "a few"}
        self.texts = detector.encode_vocabulary(words)
        around = detector.encode_vocabulary(NOVEL).embeddings[1]
        noise = directions(len(words), len(around), seed=4)
        self.embeddings = F.normalize(around + 0.05 * noise, dim=-1)

    def against(self, asked):
        return Competitors(
            self.texts.names,
            self.embeddings,
            5,
            torch.tensor([[0, 1]]),
            torch.tensor([[0, 5], [0, 6]]),
            self.texts.encoder_fingerprint,
        )


def calibrated(model, **changes):
    """A calibration of the detector, and what competes."""
    competition = Competing(model)
    settings = dict(
        detector=model.evidence_hash,
        encoder=model.encoder.fingerprint,
        competition=competition.settings,
        features=("encoder", "objectness"),
        weights=(0.05, 0.1),
    )
    return Calibration(**{**settings, **changes}), competition


def falls(values):
    return values.equal(values.sort(descending=True).values)


def boxes_of_a_grid(picture):
    """Boxes of anywhere, for `OpenVocabWrapper`."""
    del picture
    corners = torch.cartesian_prod(torch.arange(4), torch.arange(3)).float() * 12
    return torch.cat([corners, corners + 20], dim=1), torch.linspace(0.9, 0.1, len(corners))


@pytest.fixture(params=["two stages", "wrapper"])
def detector(request, build, encoder_dir):
    if request.param == "two stages":
        return build(**{"test_cfg.rcnn.max_per_img": 8})
    torch.manual_seed(0)
    return OpenVocabWrapper(boxes_of_a_grid, encoder_dir, vocabulary=NAMES).eval()


@pytest.fixture
def inputs(detector, make_batch):
    return prepared(detector, make_batch())


def test_predict_gives_the_same_and_confidences(detector, inputs):
    detector.set_vocabulary(NAMES)
    before = [one.pred_instances.clone() for one in detector.predict(*inputs)]
    assert len(before[0]) and "confidences" not in before[0]
    assert detector.calibration is None
    calibration, competition = calibrated(detector)
    detector.set_calibration(calibration, competition)
    assert detector.calibration is calibration
    regions = detector.propose(*inputs)
    ready = detector._ready(detector.text_embeddings)
    for got, old, image in zip(detector.predict(*inputs), before, regions, strict=True):
        found = got.pred_instances
        for key in ("bboxes", "scores", "labels", "regions"):
            assert found[key].equal(old[key]), key
        judged = detector.region_classifier.judge(
            image, **ready, competitors=competition.against(detector.text_embeddings)
        )
        expected = calibration.confidence(judged.evidence.features)
        assert expected.min() > 0 and expected.max() < 1 and expected.std() > 0
        torch.testing.assert_close(found.confidences, expected[found.regions, found.labels])
    detector.set_calibration(None)
    assert "confidences" not in detector.predict(*inputs)[0].pred_instances


def test_predict_finds_nothing_and_says_so_as_ever(detector, inputs):
    detector.set_calibration(*calibrated(detector))
    detector.region_classifier.test_cfg["score_thr"] = 1.0
    found = detector.predict(*inputs)[0].pred_instances
    assert len(found) == 0 and found.confidences.shape == (0,)


def test_classify_with_competitors(detector, inputs):
    texts, regions = detector.encode_vocabulary(NOVEL), detector.propose(*inputs)
    calibration, competition = calibrated(detector)
    competitors = competition.against(texts)
    shares = detector.classify(regions, texts, competitors=competitors)
    plain = detector.classify(regions, texts)
    for one, other in zip(shares, plain, strict=True):
        assert len(one) and "confidences" not in one
        assert one.scores.sum() < other.scores.sum()
    detector.set_calibration(calibration, competition)
    for one in detector.classify(regions, texts, competitors=competitors):
        assert len(one) and falls(one.confidences)
    assert "confidences" not in detector.classify(regions, texts)[0]


def test_one_picture_asked_with_two_counts(detector, inputs, monkeypatch):
    """What is ready for all names is not what is ready where some of them are negatives."""
    (image, *_), texts = detector.propose(*inputs), detector.encode_vocabulary(NOVEL)
    counts = []
    monkeypatch.setattr(
        detector.region_classifier,
        "classify",
        lambda image, *, rules, **rest: counts.append(rules.competitors.count),
    )
    competitors = Competing(detector).against(texts)
    detector.classify([image] * 3, texts, competitors=competitors, counts=[None, 1, None])
    assert counts == [len(NOVEL), 1, len(NOVEL)]


def test_evidence_is_what_confidences_are_made_of(detector, inputs):
    texts, regions = detector.encode_vocabulary(NOVEL), detector.propose(*inputs)
    calibration, competition = calibrated(detector)
    detector.set_calibration(calibration, competition)
    competitors = competition.against(texts)
    found = detector.classify(regions, texts, competitors=competitors)
    for one, evidence in zip(found, detector.evidence(regions, texts, competitors), strict=True):
        places = one.regions, one.labels
        assert not evidence.beaten[places].any()
        assert calibration.confidence(evidence.features)[places].equal(one.confidences)
    foreign = replace(regions[0], encoder_fingerprint="ffff")
    with pytest.raises(ValueError, match=says("ffff")):
        detector.evidence([foreign], texts, competitors)


def test_other_names_and_their_order_change_no_confidence(detector, inputs):
    """With what really competes: a bank, synonyms of each name, and exchanged attributes."""
    bank = ["cup", "mug", "box", "dog", "a red mug"]
    competition = Competition(detector.encoder, [bank], attributes="packaged")
    names = ["a red mug", "box", "a striped blue umbrella"]
    beside = ["a blue mug", "cup", "bird", *NAMES, "a red striped umbrella"]
    calibration, _ = calibrated(detector, competition=competition.settings)
    detector.set_calibration(calibration, competition)
    regions = detector.propose(*inputs)

    def found(asked):
        texts = detector.encode_vocabulary(asked)
        competitors = competition.against(texts)
        assert len(competitors.exchanges) and len(competitors.excluded)
        (evidence, _) = detector.evidence(regions, texts, competitors)
        confidences = calibration.confidence(evidence.features)
        rows = [texts.names.index(name) for name in names]
        return confidences[:, rows], evidence.beaten[:, rows]

    alone, beaten = found(names)
    for asked in ([*beside, *names], [*names[::-1], *beside]):
        got, still_beaten = found(asked)
        torch.testing.assert_close(got, alone, atol=1e-6, rtol=0)
        assert still_beaten.equal(beaten)


def test_each_image_has_its_own_competitors_and_pairs(detector, inputs):
    texts, regions = detector.encode_vocabulary(NOVEL), detector.propose(*inputs)
    calibration, competition = calibrated(detector)
    detector.set_calibration(calibration, competition)
    competitors, pairs = competition.against(texts), torch.tensor([[0, 1]])
    own = [{"competitors": competitors}, {"contradictory": pairs}]
    expected = [
        detector.classify([image], texts, **more)[0]
        for image, more in zip(regions, own, strict=True)
    ]
    found = detector.classify(
        regions,
        texts,
        competitors=[competitors, None],
        contradictory=[torch.zeros(0, 2).long(), pairs],
    )
    for got, other in zip(found, expected, strict=True):
        assert got.scores.equal(other.scores) and got.labels.equal(other.labels)
    assert "confidences" in found[0] and "confidences" not in found[1]
    for more in ({"competitors": [competitors]}, {"contradictory": [pairs] * 3}):
        with pytest.raises(ValueError, match=says(len(*more.values()), "2 images")):
            detector.classify(regions, texts, **more)


def test_names_that_no_competitor_was_made_for_compete_with_the_bank(detector, inputs):
    """Own negatives come behind the names that are asked for."""
    regions = detector.propose(*inputs)
    asked, more = detector.encode_vocabulary(NAMES[:2]), detector.encode_vocabulary(NAMES)
    competition = Competing(detector)
    found = detector.classify(regions, more, competitors=competition.against(asked))
    assert len(found[0])


def test_a_calibration_without_a_curve_gives_evidence(detector, inputs):
    texts, regions = detector.encode_vocabulary(NOVEL), detector.propose(*inputs)
    calibration, competition = calibrated(detector, is_fitted=False)
    detector.set_calibration(calibration, competition)
    found = detector.classify(regions, texts, competitors=competition.against(texts))[0]
    assert "confidences" not in found and len(found) and falls(found.evidence)
    assert "evidence" in detector.predict(*inputs)[0].pred_instances


@pytest.mark.parametrize("key", ["detector", "encoder", "competition"])
def test_a_calibration_of_another_is_refused(detector, key):
    other = {"names": "others"} if key == "competition" else "0123456789abcdef"
    calibration, competition = calibrated(detector, **{key: other})
    with pytest.raises(ValueError, match=says(key)):
        detector.set_calibration(calibration, competition)
    assert detector.calibration is None
    with pytest.raises(ValueError, match=says("competition")):
        detector.set_calibration(calibrated(detector)[0])


def test_competitors_of_another_encoder_are_refused(detector, inputs):
    texts = detector.encode_vocabulary(NOVEL)
    competitors = replace(Competing(detector).against(texts), encoder_fingerprint="ffff")
    with pytest.raises(ValueError, match=says("ffff", detector.encoder.fingerprint)):
        detector.classify(detector.propose(*inputs), texts, competitors=competitors)


def test_a_head_that_judges_nothing_cannot_be_calibrated(detector, monkeypatch):
    calibration, competition = calibrated(detector)
    monkeypatch.delattr(JudgingHead, "judge")
    with pytest.raises(ValueError, match=says(type(detector.region_classifier).__name__)):
        detector.set_calibration(calibration, competition)


def test_evidence_of_another_temperature_is_anothers(detector):
    before = detector.evidence_hash
    assert detector.evidence_hash == before
    head = detector.region_classifier
    if hasattr(head, "temperature"):
        head.temperature /= 2
    else:
        head.test_cfg["vlm_temperature"] /= 2
    assert detector.evidence_hash != before
    assert detector.evidence_hash != detector.regions_hash
