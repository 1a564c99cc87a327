from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.apis.detector_loading import BUNDLED
from fgclip_det.apis.image_regions import ImageRegions
from fgclip_det.apis.presence.values import Values
from fgclip_det.calibration import Calibration
from fgclip_det.datasets.presence_queries import read_queries
from fgclip_det.vocabulary import Vocabulary
from fgclip_det.vocabulary.competition import Competition

TEXTS = ["a red plain circle", "a blue striped ring", "a cyan plain star", "a white dotted cross"]


@pytest.fixture(scope="module")
def image(bundled: OpenVocabInferencer, queries) -> ImageRegions:
    return bundled.propose([queries["test"][1] / "000000.png"], progress=False)[0]


@pytest.fixture(scope="module")
def competition(bundled) -> Competition:
    """The world of the bundled model."""
    names = Vocabulary.parse(BUNDLED / "vocabulary.json")
    attributes = BUNDLED / "attributes.json"
    return Competition(bundled.model.encoder, [names], 1.0, attributes)


@pytest.fixture
def calibrated(bundled, competition) -> Iterator[SimpleNamespace]:
    """The bundled detector, with a calibration while a test runs."""
    calibration = Calibration(
        bundled.model.evidence_hash,
        bundled.model.encoder.fingerprint,
        competition.settings,
        ("detector", "objectness"),
        (1.3, 0.5),
        -1.4,
    )
    bundled.model.set_calibration(calibration, competition)
    yield SimpleNamespace(model=bundled.model, competition=competition)
    bundled.model.set_calibration(None)


def plain(bundled) -> SimpleNamespace:
    """The bundled detector without anything that competes."""
    return SimpleNamespace(model=bundled.model)


def best_of_the_door(model, image, text, competition=None) -> dict[str, float]:
    """What the detector reports of one name: its best figures, 0 where it is nothing."""
    texts = model.encode_vocabulary([text])
    rivals = None if competition is None else competition.against(texts)
    (found,) = model.classify([image.regions], texts, competitors=rivals)
    figures = [key for key in ("scores", "confidences") if key in found]
    return {key: float(found[key].max()) if len(found[key]) else 0.0 for key in figures}


def test_scores_are_those_of_the_door(bundled, image):
    values = Values(plain(bundled), TEXTS)
    assert values.kind == "score" and values.is_share
    found = values(image.regions, TEXTS)
    assert found.shape == (len(image), 4) and found.dtype == torch.float32
    for text, column in zip(TEXTS, found.T, strict=True):
        best = float(column.max())
        door = best_of_the_door(bundled.model, image, text)["scores"]
        assert door == pytest.approx(best if best > 0.01 else 0, abs=1e-6)


@pytest.mark.parametrize("kind", ["share", "confidence"])
def test_with_competitors_too(calibrated, image, queries, kind):
    texts = [query.text for query in read_queries(*queries["test"])[0].queries]
    values = Values(calibrated, texts, kind)
    found = values(image.regions, texts).amax(dim=0).tolist()
    assert values.is_share and max(found) > 0.3 and min(found) < 0.01
    for text, best in zip(texts, found, strict=True):
        door = best_of_the_door(calibrated.model, image, text, calibrated.competition)
        # The door for shares has confidences beside, by which it chooses.
        if kind == "confidence":
            assert door["confidences"] == pytest.approx(best if best > 0.01 else 0, abs=1e-6)
        elif door["scores"] > 0.01:
            assert best >= door["scores"] - 1e-6


def test_evidence_is_the_mean_of_the_streams(bundled, competition, image):
    values = Values(plain(bundled), TEXTS, competition=competition)
    assert values.kind == "evidence" and not values.is_share
    texts = bundled.model.encode_vocabulary(TEXTS[:1])
    (own,) = bundled.model.evidence([image.regions], texts, competition.against(texts))
    mean = (own.features["detector"] + own.features["encoder"]) / 2
    assert torch.allclose(values(image.regions, TEXTS)[:, :1], mean.float(), atol=1e-5)


@pytest.mark.parametrize("kind", ["score", "share", "evidence", "confidence"])
def test_what_else_is_asked_changes_nothing(calibrated, image, kind):
    values = Values(calibrated, TEXTS, kind)
    together = values(image.regions, TEXTS)
    for text, column in zip(TEXTS, together.T, strict=True):
        assert torch.allclose(values(image.regions, [text])[:, 0], column, atol=1e-6)
    others = values(image.regions, [TEXTS[place] for place in (3, 1, 2, 1)])
    assert torch.allclose(others, together[:, [3, 1, 2, 1]], atol=1e-6)
    assert values(image.regions, []).shape == (len(image), 0)
    assert values(image.regions[:0], TEXTS).shape == (0, 4)


def test_a_calibration_that_is_not_fitted_gives_no_confidence(calibrated):
    made = replace(calibrated.model.calibration, is_fitted=False)
    calibrated.model.set_calibration(made, calibrated.competition)
    assert Values(calibrated, TEXTS).kind == "evidence"
    with pytest.raises(ValueError, match="no value 'confidence': choose from evidence, share"):
        Values(calibrated, TEXTS, "confidence")


def test_the_first_that_there_is(calibrated, bundled):
    assert Values(calibrated, TEXTS).kind == "confidence"
    bundled.model.set_calibration(None)
    assert Values(calibrated, TEXTS).kind == "evidence"


def test_texts_stay_as_they_are(bundled, image):
    odd = ["  a  red circle ", "a. b", "a,b;"]
    assert Values(plain(bundled), odd)(image.regions, odd).shape == (len(image), 3)


def test_nan_is_said(bundled, image):
    broken = replace(image.regions, region_embeddings=image.regions.region_embeddings * torch.nan)
    with pytest.raises(ValueError, match="values of regions are NaN"):
        Values(plain(bundled), TEXTS)(broken, TEXTS)


@pytest.mark.parametrize("kind", ["confidence", "evidence", "share"])
def test_a_kind_that_is_not_there_is_refused(bundled, kind):
    with pytest.raises(ValueError, match=f"no value '{kind}': choose from score"):
        Values(plain(bundled), TEXTS, kind)
