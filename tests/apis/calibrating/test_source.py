"""What a calibration is made of is what the detector reports with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.apis.calibrating.evidence import best_of_each
from fgclip_det.apis.calibrating.source import DetectorSource
from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.calibration import Calibration

PICTURE = BUNDLED / "images"
# No two of them differ in one attribute alone: they would be one object's.
TEXTS = ["a blue dotted star", "a green checkered circle", "a cyan striped ring", "a cat"]


@pytest.fixture(scope="module")
def detector() -> OpenVocabInferencer:
    """The bundled one without a calibration."""
    return OpenVocabInferencer(device="cpu", calibration=None)


@pytest.fixture
def source(detector: OpenVocabInferencer) -> DetectorSource:
    """Of the bundled detector."""
    return DetectorSource(detector, detector.competition)


def calibration(source: DetectorSource, is_fitted: bool = True) -> Calibration:
    features, weights = ("detector", "objectness"), (0.4, 0.2)
    competition = source.competition
    return Calibration(
        source.detector, source.encoder, competition, features, weights, is_fitted=is_fitted
    )


@pytest.mark.parametrize("is_fitted", [True, False])
def test_it_is_what_the_detector_reports(
    detector: OpenVocabInferencer, source: DetectorSource, is_fitted: bool
) -> None:
    texts, made = detector.encode(TEXTS), calibration(source, is_fitted)
    images = detector.propose(sorted(Path(PICTURE).glob("*.png"))[:3], progress=False)
    found = [source.found(image, texts, made) for image in images]
    assert sum(len(one.labels) for one in found) > 2
    detector.set_calibration(made)
    reported = detector.classify(images, [texts] * 3, conf_thr=0.1)
    for one, answer in zip(found, reported, strict=True):
        kept = one.figures >= np.float32(0.1)
        assert one.labels[kept].tolist() == answer.labels.tolist()
        np.testing.assert_allclose(one.boxes[kept], answer.boxes.numpy(), atol=1e-4)
        if is_fitted:
            np.testing.assert_array_equal(one.figures[kept], answer.confidences.numpy())


def test_the_evidence_gives_the_same_boxes(
    detector: OpenVocabInferencer, source: DetectorSource
) -> None:
    texts, made = detector.encode(TEXTS), calibration(source)
    (image,) = detector.propose(next(Path(PICTURE).glob("*.png")), progress=False)
    detector.set_calibration(made)
    found = source.found(image, texts, made)
    again, features = best_of_each(
        source.evidence(image, texts), made, source.iou_threshold, with_beaten=False
    )
    count = len(found.labels)
    assert again.labels[:count].tolist() == found.labels.tolist()
    np.testing.assert_allclose(again.figures[:count], found.figures, atol=1e-6)
    assert features.shape == (len(again.labels), 2)


def test_names_that_suppress_each_other_are_asked_by_themselves(
    detector: OpenVocabInferencer, source: DetectorSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = detector.encode(["a blue dotted star", "a blue dotted circle", "a cat"])
    made = calibration(source)
    images = detector.propose(sorted(Path(PICTURE).glob("*.png"))[:2], progress=False)
    suppression = detector.model.region_classifier.test_cfg["nms"]
    alone = [source.found(image, texts, made) for image in images]
    monkeypatch.setitem(suppression, "class_agnostic", True)
    agnostic = DetectorSource(detector, detector.competition)
    assert agnostic.by_itself and not source.by_itself
    for image, one in zip(images, alone, strict=True):
        found = agnostic.found(image, texts, made)
        assert found.labels.tolist() == one.labels.tolist()
        np.testing.assert_allclose(found.figures, one.figures, atol=1e-6)
        np.testing.assert_allclose(found.boxes, one.boxes)


def test_something_must_compete(calibrated_detector) -> None:
    with pytest.raises(ValueError, match="nothing competes"):
        DetectorSource(calibrated_detector, None)
