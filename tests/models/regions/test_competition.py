"""Names against what nobody asked for: both heads against loops, and what must change nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from fgclip_det.models import OpenVocabRoIHead
from fgclip_det.models.regions.region_classification import Rules
from fgclip_det.models.regions.rivals import Rivals
from fgclip_det.models.regions.streams import Source, StreamMaker
from tests.messages import says
from tests.models.competitors_for_tests import (
    BANK,
    CASES,
    HEADS,
    IS_BASE,
    SWAPPED,
    TEXTS,
    by_loops,
    competitors,
    directions,
    regions_of,
    roi_head,
    text_head,
)


@pytest.fixture(params=HEADS)
def head(request):
    return HEADS[request.param]()


def fused(head, regions, shares, is_base):
    """Shares by stream -> scores."""
    if "detector" in shares:
        weight = torch.where(is_base, head.test_cfg.alpha, head.test_cfg.beta).double()
        return ((1 - weight) * shares["detector"] + weight * shares["encoder"]).exp()
    weight = torch.where(is_base, head.alpha, head.beta).double()
    det = regions.objectness.double()[:, None]
    return det ** (1 - weight) * shares["encoder"].exp() ** weight


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("count", [0, 1, 6])
@torch.no_grad()
def test_equals_loops(head, case, count):
    regions, given = regions_of(count), CASES[case]
    odds, shares, beaten = by_loops(head, regions, TEXTS, IS_BASE, given)
    judged = head.judge(regions, TEXTS, IS_BASE, given)
    for name, expected in odds.items():
        got = judged.evidence.features[name]
        torch.testing.assert_close(got, expected, atol=1e-9, rtol=0)
    assert judged.evidence.beaten.equal(beaten)
    expected = fused(head, regions, shares, IS_BASE)
    torch.testing.assert_close(judged.scores.double(), expected, atol=1e-6, rtol=1e-6)
    assert judged.scores.dtype == torch.float32
    assert head.score(regions, TEXTS, IS_BASE, competitors=given).equal(judged.scores)


def test_the_cases_have_what_they_are_for(head):
    regions = regions_of(30)
    for case in ("bank", "exclusions", "exchanges", "both"):
        beaten = head.judge(regions, TEXTS, IS_BASE, CASES[case]).evidence.beaten
        assert beaten.any() and not beaten.all(), case


@torch.no_grad()
def test_one_name_alone(head):
    regions, given = regions_of(6), competitors(BANK, SWAPPED, [(0, 1)], [(0, 7), (0, 9)])
    one, base = TEXTS[1:2], torch.tensor([False])
    odds, shares, beaten = by_loops(head, regions, one, base, given)
    judged = head.judge(regions, one, base, given)
    for name, expected in odds.items():
        torch.testing.assert_close(judged.evidence.features[name], expected, atol=1e-9, rtol=0)
    expected = fused(head, regions, shares, base)
    torch.testing.assert_close(judged.scores.double(), expected, atol=1e-6, rtol=1e-6)
    assert judged.evidence.beaten.equal(beaten)


@torch.no_grad()
def test_what_is_asked_too_has_one_share_and_all_its_evidence(head):
    # The third of the bank and the first exchanged phrase are asked for beside the others.
    texts = torch.cat([TEXTS, 3 * BANK[2:3], SWAPPED[:1]])
    is_base = torch.cat([IS_BASE, torch.tensor([False, True])])
    given = competitors(BANK, SWAPPED, [(4, 2), (0, 1)], [(0, 7), (0, 8), (1, 7)])
    regions = regions_of(6)
    odds, shares, beaten = by_loops(head, regions, texts, is_base, given, asked={2, 7})
    judged = head.judge(regions, texts, is_base, given)
    for name, expected in odds.items():
        torch.testing.assert_close(judged.evidence.features[name], expected, atol=1e-9, rtol=0)
    assert judged.evidence.beaten.equal(beaten)
    expected = fused(head, regions, shares, is_base)
    torch.testing.assert_close(judged.scores.double(), expected, atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_names_asked_beside_and_their_order_change_no_evidence(head):
    regions, given = regions_of(50), CASES["both"]
    expected = head.judge(regions, TEXTS, IS_BASE, given).evidence
    # Names nearby and far, and so many that a matrix product is cut elsewhere.
    beside = torch.cat([directions(300, seed=5), TEXTS + 0.01 * directions(4, seed=6)])
    order = torch.randperm(len(beside) + 4, generator=torch.Generator().manual_seed(0))
    place = order.argsort()
    texts, is_base = torch.cat([TEXTS, beside])[order], torch.arange(len(order)) % 3 == 0
    is_base[place[:4]] = IS_BASE
    moved = []
    for of in (given.excluded, given.exchanges):
        moved.append([(int(place[name]), int(row)) for name, row in of])
    other = competitors(BANK, SWAPPED, *moved)
    got = head.judge(regions, texts, is_base, other).evidence
    for name, values in expected.features.items():
        torch.testing.assert_close(got.features[name][:, place[:4]], values, atol=1e-9, rtol=0)
    assert got.beaten[:, place[:4]].equal(expected.beaten)


@torch.no_grad()
def test_regions_are_judged_each_by_itself(head):
    regions, given = regions_of(23), CASES["both"]
    whole = head.judge(regions, TEXTS, IS_BASE, given)
    for rows in (slice(0, 1), slice(3, 20), torch.tensor([22, 5, 5])):
        some = head.judge(regions[rows], TEXTS, IS_BASE, given)
        torch.testing.assert_close(some.scores, whole.scores[rows], atol=1e-6, rtol=0)
        for name, values in whole.evidence.features.items():
            got = some.evidence.features[name]
            torch.testing.assert_close(got, values[rows], atol=1e-9, rtol=0)


@torch.no_grad()
def test_what_fits_best_and_does_not_compete_leaves_no_rounding():
    # The excluded row is the region itself; the rest is e^-200 of the sum.
    head = text_head(temperature=100.0)
    region = regions_of(1)
    region.region_embeddings = torch.eye(6)[:1]
    bank = torch.stack([torch.eye(6)[0], -torch.eye(6)[0], -torch.eye(6)[0]])
    given = competitors(bank, bank[:0], [(0, 0)])
    found = head.judge(region, torch.eye(6)[:2], torch.zeros(2).bool(), given).evidence
    expected = torch.tensor([[200 - math.log(2), -100.0]], dtype=torch.float64)
    torch.testing.assert_close(found.features["encoder"], expected, atol=1e-9, rtol=0)
    assert found.beaten.tolist() == [[False, True]]


@torch.no_grad()
def test_odds_beyond_any_number_stay_finite():
    head = text_head(temperature=1e6)
    region = regions_of(1)
    region.region_embeddings = torch.eye(6)[:1]
    far, near = -torch.eye(6)[:1], torch.eye(6)[:1]
    texts, base = torch.eye(6)[:2], torch.zeros(2).bool()
    for given in (
        competitors(torch.cat([far, near]), far[:0], [(0, 1)]),
        competitors(far[:0], torch.cat([far, near]), (), [(0, 0), (1, 1)]),
    ):
        judged = head.judge(region, texts, base, given)
        odds = judged.evidence.features["encoder"]
        assert odds.isfinite().all() and odds[0, 0] > 700 and odds[0, 1] < -700
        assert judged.scores.isfinite().all()


@torch.no_grad()
def test_ties_beat_nobody(head):
    regions = regions_of(40)
    # The same texts as what is asked for, encoded in another batch.
    again = TEXTS * (1 + 1e-6) + 1e-8
    bank = competitors(again[:1], again[:0])
    assert not head.judge(regions, TEXTS[:1], IS_BASE[:1], bank).evidence.beaten.any()
    swapped = competitors(again[:0], again, (), [(name, name) for name in range(4)])
    assert not head.judge(regions, TEXTS, IS_BASE, swapped).evidence.beaten.any()


@torch.no_grad()
@pytest.mark.parametrize(("lead", "said", "shown"), [(-1.0, 0, 0), (1.0, 1, 0), (2.0, 1, 1)])
def test_an_exemplar_beats_by_a_clear_lead_alone(lead, said, shown):
    head = text_head()
    texts = torch.eye(6)[:1]
    region = regions_of(1)
    # Logits are `temperature` times cosines: the competitor's is `lead` above the name's.
    cosine = 0.5 + lead / head.temperature
    region.region_embeddings = torch.tensor([[0.5, cosine, 0, 0, 0, (0.75 - cosine**2) ** 0.5]])
    own = competitors(texts[:0], torch.eye(6)[1:2], (), [(0, 0)])
    for is_shown, expected in ((None, said), (False, said), (True, shown)):
        marks = None if is_shown is None else torch.tensor([is_shown])
        evidence = head.judge(region, texts, IS_BASE[:1], replace(own, shown=marks)).evidence
        assert evidence.beaten.tolist() == [[bool(expected)]]


@torch.no_grad()
def test_a_name_of_no_weight_is_beaten_by_none():
    head = text_head(beta=0.0)
    given = competitors(regions_of(3).region_embeddings, BANK[:0])
    evidence = head.judge(regions_of(3), -TEXTS[:1], torch.zeros(1).bool(), given).evidence
    assert not evidence.beaten.any()


@torch.no_grad()
def test_without_competitors_nothing_has_changed():
    regions = regions_of(9)
    head = roi_head()
    logits = []
    for classifier, embeddings in (
        (head.bbox_head.classifier, regions.detector_embeddings),
        (head.vlm_classifier, regions.region_embeddings),
    ):
        texts = torch.cat([TEXTS, classifier.background_embedding[None]])
        unit = F.normalize(embeddings, dim=-1) * classifier.temperature
        logits.append((unit @ F.normalize(texts, dim=-1).T).log_softmax(dim=-1)[:, :-1])
    weight = torch.where(IS_BASE, 0.1, 0.8)
    expected = torch.lerp(*logits, weight).exp()
    assert head.score(regions, TEXTS, IS_BASE).equal(expected)
    assert head.classify(regions, TEXTS, IS_BASE).scores.equal(
        head.classify(regions, TEXTS, IS_BASE, rules=Rules()).scores
    )

    head = text_head()
    unit = F.normalize(regions.region_embeddings, dim=-1) * 12.0
    shares = (unit @ F.normalize(TEXTS, dim=-1).T).softmax(dim=-1)
    weight = torch.where(IS_BASE, 0.3, 0.6)
    expected = regions.objectness[:, None] ** (1 - weight) * shares**weight
    assert head.score(regions, TEXTS, IS_BASE).equal(expected)
    found = head.classify(regions, TEXTS, IS_BASE)
    best = expected.max(dim=1)
    assert found.scores.equal(best.values[found.regions])
    assert found.labels.equal(best.indices[found.regions])
    assert set(found.keys()) == {"bboxes", "scores", "labels", "regions"}


@torch.no_grad()
def test_objectness_is_evidence_and_may_be_certain():
    regions = regions_of(3)
    regions.objectness = torch.tensor([0.0, 0.5, 1.0])
    for head in (roi_head(), text_head()):
        found = head.evidence(regions, TEXTS, IS_BASE, CASES["both"]).features["objectness"]
        assert found.shape == (3, 4) and found.isfinite().all()
        sure = math.log((1 - 1e-6) / 1e-6)
        expected = torch.tensor([-sure, 0, sure], dtype=torch.float64)
        torch.testing.assert_close(found[:, 2], expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_class_scores_are_evidence_where_classes_are_known():
    generator = torch.Generator().manual_seed(3)
    regions = regions_of(5, class_scores=torch.rand(5, 2, generator=generator))
    head, classes = text_head(fusion="ensemble"), torch.tensor([1, -1, -1, 0])
    judged = head.judge(regions, TEXTS, classes >= 0, CASES["both"], classes)
    det = torch.stack([regions.class_scores[:, 1], regions.objectness], dim=1)
    got = judged.evidence.features["detector"][:, :2]
    torch.testing.assert_close(got, det.double().logit())
    assert "detector" not in head.evidence(regions, TEXTS, IS_BASE, CASES["both"]).features
    alike = text_head().judge(regions, TEXTS, classes >= 0, CASES["both"], classes)
    assert not alike.scores.equal(judged.scores) and "detector" not in alike.evidence.features


@pytest.mark.parametrize("change", ["regions", "bank", "temperature"])
@torch.no_grad()
def test_what_is_kept_of_the_bank_is_of_the_same_regions_bank_and_temperature(change):
    make = StreamMaker()
    given = dict(embeddings=directions(5), temperature=7.0, bank=BANK.clone())

    def stream(maker):
        rivals = Rivals.of(competitors(given["bank"], SWAPPED), TEXTS)
        source = Source(given["embeddings"], given["temperature"], torch.ones(4))
        return maker({"encoder": source}, rivals)["encoder"]

    first = stream(make)
    assert stream(make).bank is first.bank
    if change == "temperature":
        given["temperature"] = 8.0
    else:
        # In place: neither identity nor address tells.
        given["embeddings" if change == "regions" else "bank"][0] = torch.eye(6)[1]
    again = stream(make)
    assert again.bank is not first.bank
    assert again.bank.logits.equal(stream(StreamMaker()).bank.logits)
    assert not again.bank.logits.equal(first.bank.logits)


@torch.no_grad()
def test_large_banks_are_not_kept(monkeypatch):
    monkeypatch.setattr("fgclip_det.models.regions.streams._MOST_KEPT", 34)
    make, rivals = StreamMaker(), Rivals.of(competitors(BANK, SWAPPED), TEXTS)
    source = Source(directions(5), 1.0, torch.ones(4))
    first, again = (make({"encoder": source}, rivals)["encoder"] for _ in range(2))
    assert first.bank is not again.bank and first.bank.logits.equal(again.bank.logits)


@torch.no_grad()
def test_another_question_about_the_same_regions(head):
    """What is kept of one question is not what another one excludes, weighs or exchanges."""
    regions = regions_of(30)
    for case in (*CASES, *CASES):
        for is_base in (IS_BASE, ~IS_BASE):
            got = head.judge(regions, TEXTS, is_base, CASES[case])
            fresh = roi_head() if isinstance(head, OpenVocabRoIHead) else text_head()
            expected = fresh.judge(regions, TEXTS, is_base, CASES[case])
            assert got.scores.equal(expected.scores)
            assert got.evidence.beaten.equal(expected.evidence.beaten)


@torch.no_grad()
def test_half_precision_regions(head):
    regions, given = regions_of(8), CASES["both"]
    halves = regions._map(lambda tensor: tensor.bfloat16())
    floats = halves._map(lambda tensor: tensor.float())
    one, other = (head.judge(some, TEXTS, IS_BASE, given) for some in (halves, floats))
    for name, values in one.evidence.features.items():
        assert values.equal(other.evidence.features[name])
    with torch.autocast("cpu", torch.bfloat16):
        under = head.judge(floats, TEXTS, IS_BASE, given)
    assert under.scores.equal(other.scores)


def test_competitors_of_more_names_or_another_encoder_are_refused(head):
    with pytest.raises(ValueError, match=says("name 2", "2 names")):
        head.judge(regions_of(2), TEXTS[:2], IS_BASE[:2], CASES["both"])
    other = competitors(directions(3, dim=5), directions(1, dim=5))
    with pytest.raises(ValueError, match=says("5 values", "6")):
        head.judge(regions_of(2), TEXTS, IS_BASE, other)


def test_names_with_the_same_exclusions_share_a_set():
    rivals = Rivals.of(CASES["exclusions"], TEXTS)
    assert rivals.kept.shape == (3, 7) and rivals.kept[0].all()
    assert rivals.kept_of[0] == rivals.kept_of[3] and rivals.kept_of[1] == 0
    assert rivals.most_excluded == 2
    assert Rivals.of(rivals, TEXTS) is rivals and rivals.unasked is rivals


@torch.no_grad()
def test_a_name_may_exclude_more_than_the_question_before(head):
    bank, regions = directions(30, seed=30), regions_of(12)
    for count in (1, 12, 25):
        given = competitors(bank, SWAPPED[:0], [(0, row) for row in range(count)])
        *_, beaten = by_loops(head, regions, TEXTS, IS_BASE, given)
        assert head.judge(regions, TEXTS, IS_BASE, given).evidence.beaten.equal(beaten)


def test_one_text_is_one_in_all_of_its_values():
    texts = directions(3, dim=40)
    # The last differs where the first look does not reach.
    other = texts[2].clone()
    other[-1] *= -1
    given = torch.stack([-texts[0], texts[1], other])
    assert texts[2, -1].abs() > 0.01
    rivals = Rivals.of(competitors(given, given[:0]), 2 * texts)
    assert rivals.asked.tolist() == [False, True, False]
