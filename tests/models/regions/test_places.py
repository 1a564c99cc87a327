"""A region bank that comes with competitors is evidence of its own, in both second stages."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fgclip_det.apis.detector_loading import BUNDLED
from fgclip_det.calibration import Calibration
from fgclip_det.models import RegionTextHead
from fgclip_det.vocabulary import Competition, RegionBank
from tests.messages import says
from tests.models.competitors_for_tests import competitors, directions, regions_of, roi_head

BANK = RegionBank(directions(50, seed=7), "")
HEADS = {"trained": roi_head, "untrained": RegionTextHead}


def judged(head, texts, bank=BANK, count=4, fingerprint=""):
    rivals = competitors(directions(5, seed=5), directions(2, seed=6), exchanges=[(0, 5), (0, 6)])
    is_base = torch.arange(len(texts)) % 2 == 0
    regions = regions_of(count, encoder_fingerprint=fingerprint)
    return head.judge(regions, texts, is_base, replace(rivals, region_bank=bank)), regions


@pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)
def test_places_stand_beside_other_evidence(make) -> None:
    head, texts = make(), directions(3, seed=8)
    with_bank, regions = judged(head, texts)
    without, _ = judged(head, texts, bank=None)
    features = with_bank.evidence.features
    assert features.keys() - without.evidence.features.keys() == {"place"}
    expected = BANK.place(regions.region_embeddings, texts).double()
    torch.testing.assert_close(features["place"], expected, atol=0, rtol=0)
    assert torch.equal(with_bank.scores, without.scores)
    assert torch.equal(with_bank.evidence.beaten, without.evidence.beaten)
    for name, values in without.evidence.features.items():
        assert torch.equal(features[name], values)


@pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)
def test_other_names_and_regions_change_nothing(make) -> None:
    head, texts = make(), directions(3, seed=8)
    together = judged(head, texts)[0].evidence.features["place"]
    alone = judged(head, texts[:1])[0].evidence.features["place"]
    torch.testing.assert_close(alone, together[:, :1], atol=1e-7, rtol=0)
    assert judged(head, texts, count=0)[0].evidence.features["place"].shape == (0, 3)


def test_regions_of_another_encoder_are_refused() -> None:
    bank = RegionBank(BANK.embeddings, "a" * 16)
    with pytest.raises(ValueError, match=says("a" * 16, "b" * 16)):
        judged(roi_head(), directions(1), bank, fingerprint="b" * 16)


def test_a_calibration_knows_its_bank(bundled_detector, monkeypatch) -> None:
    model = bundled_detector.model
    monkeypatch.setattr(model, "_calibration", None)
    monkeypatch.setattr(model, "_competition", None)
    lists = BUNDLED / "attributes.json"
    with_bank, without = (
        Competition(model.encoder, ["a cat. a dog"], attributes=lists, region_bank=bank)
        for bank in (BUNDLED / "region_bank.safetensors", None)
    )
    calibration = Calibration(
        model.evidence_hash,
        model.encoder.fingerprint,
        with_bank.settings,
        ("detector", "place"),
        (0.25, 2.0),
        bias=-0.5,
    )
    with pytest.raises(ValueError, match="region_bank"):
        model.set_calibration(calibration, without)
    model.set_calibration(calibration, with_bank)
    image = bundled_detector.propose(BUNDLED / "images", progress=False)[0]
    texts = bundled_detector.encode("a ring. a red striped star")
    rivals = with_bank.against(texts)
    (found,) = model.classify([image.regions], texts, competitors=rivals)
    (evidence,) = model.evidence([image.regions], texts, rivals)
    features = [evidence.features[name] for name in ("detector", "place")]
    table = torch.sigmoid(0.25 * features[0] + 2.0 * features[1] - 0.5)
    expected = table[found.regions, found.labels].float()
    torch.testing.assert_close(found.confidences, expected, atol=1e-6, rtol=0)
    assert len(found.labels)
