"""Negatives of one's own, and what the streams are worth to a calibration: who is beaten."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from fgclip_det.models.regions import competition
from fgclip_det.models.regions.closest import closest_names
from fgclip_det.models.regions.region_classification import Figure, Rules
from fgclip_det.models.regions.rivals import Rivals
from fgclip_det.vocabulary.competing.competitors import ToldApart
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
    sources,
)

OWN = directions(3, seed=30)
JOINED = torch.cat([TEXTS, OWN])
LACKING = ("nothing", "exchanges", "nothing of the bank left")
JOINED_BASE = torch.cat([IS_BASE, torch.zeros(3, dtype=torch.bool)])


@pytest.fixture(params=HEADS)
def head(request):
    return HEADS[request.param]()


def logits_of(head, regions, texts) -> dict[str, torch.Tensor]:
    return {
        name: F.normalize(embeddings.double(), dim=1)
        @ F.normalize(texts.double(), dim=1).T
        * float(temperature)
        for name, (embeddings, temperature, *_) in sources(head, regions).items()
    }


def weights_of(head, is_base) -> dict[str, torch.Tensor]:
    settings = getattr(head, "test_cfg", None)
    settings = head if "alpha" not in settings else settings
    encoder = torch.where(is_base, settings.alpha, settings.beta).double()
    return {"detector": 1 - encoder, "encoder": encoder}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_negatives_beat_and_are_no_evidence(head, case):
    regions, given = regions_of(12), CASES[case]
    plain = head.judge(regions, TEXTS, IS_BASE, given).evidence
    rivals = Rivals.of(given, JOINED, len(TEXTS))
    found = head.judge(regions, JOINED, JOINED_BASE, rivals).evidence
    for name, values in plain.features.items():
        torch.testing.assert_close(found.features[name][:, :4], values, atol=1e-9, rtol=0)
    beaten, weights = plain.beaten.clone(), weights_of(head, IS_BASE)
    for k in range(len(regions)):
        for c in range(len(TEXTS)):
            sums = sum(
                logits[k] * weights[name][c]
                for name, logits in logits_of(head, regions, JOINED).items()
            )
            beaten[k, c] |= bool(sums[4:].max() > sums[c])
    assert found.beaten[:, :4].equal(beaten) and found.beaten[:, 4:].all()
    assert beaten.sum() > plain.beaten.sum() or case != "nothing"


@torch.no_grad()
def test_negatives_are_not_detected_and_take_no_place(head):
    regions = regions_of(12)
    figure = Figure("confidences", lambda features: features["encoder"].sigmoid().float())
    # Nothing but the bank competes with negatives, and here nothing at all.
    given = competitors(BANK[:0], SWAPPED, (), [(c, c) for c in range(4)])
    for own in (figure, None):
        rules = Rules(competitors=given, figure=own, count=4, one_name=True)
        found = head.classify(regions, JOINED, JOINED_BASE, rules=rules)
        assert (found.labels < 4).all()
        rivals = Rivals.of(given, JOINED, 4)
        beaten = head.judge(regions, JOINED, JOINED_BASE, rivals).evidence.beaten
        assert not beaten[found.regions, found.labels].any()
        assert {*found.regions.tolist()} <= {*(~beaten).any(dim=1).nonzero().flatten().tolist()}


@pytest.mark.parametrize(
    ("fitted", "counted"),
    [
        ({"detector": 1.5, "encoder": 0.5}, (0.75, 0.25)),
        ({"detector": 1.5, "objectness": 9.0}, (1.0, 0.0)),
        ({"detector": -2.0, "encoder": 0.5}, (0.0, 1.0)),
    ],
)
@torch.no_grad()
def test_a_calibration_says_what_streams_are_worth(fitted, counted, monkeypatch):
    monkeypatch.setattr(competition, "_CLEARLY", competition._TIE)
    head, regions, given = roi_head(), regions_of(40), CASES["both"]
    figure = Figure("confidences", lambda features: features["encoder"].sigmoid().float(), fitted)
    rivals = Rules(competitors=given, figure=figure).ready(TEXTS).competitors
    found = head.judge(regions, TEXTS, IS_BASE, rivals)
    plain = head.judge(regions, TEXTS, IS_BASE, given)
    # Shares are those of the fusion still.
    assert found.scores.equal(plain.scores)
    head.test_cfg.alpha = head.test_cfg.beta = counted[1]
    *_, expected = by_loops(head, regions, TEXTS, IS_BASE, given)
    assert found.evidence.beaten.equal(expected) and not expected.equal(plain.evidence.beaten)


@torch.no_grad()
def test_only_a_clear_lead_beats_where_confidences_count():
    """One region at a time, whose only rival leads by what is asked: five times is ln 5."""
    head = roi_head()
    temperature = float(head.bbox_head.classifier.temperature)
    regions = regions_of(1)
    toward = torch.zeros(6)
    toward[0] = 1.0
    regions.detector_embeddings = toward[None]
    # Cosines of 0.5, and more by the lead.
    for lead, is_beaten in ((1.5, False), (1.7, True)):
        cosine = 0.5 + lead / temperature
        rival = torch.tensor([[cosine, (1 - cosine**2) ** 0.5, 0, 0, 0, 0]])
        text = torch.tensor([[0.5, 0, 0.75**0.5, 0, 0, 0]])
        given = competitors(rival, SWAPPED[:0], (), ())
        for weights, expected in (({"detector": 1.0}, is_beaten), (None, True)):
            if weights is None:
                head.test_cfg.alpha = head.test_cfg.beta = 0.0
            rivals = Rivals.of(given, text, weights=weights)
            found = head.judge(regions, text, torch.tensor([True]), rivals).evidence
            assert bool(found.beaten) is expected


def beaten_by_a_lead(lead: float, names: int, weights, told_apart=None) -> list[bool]:
    """Of equal names and a negative that leads by so much, by the detector's stream alone."""
    head = roi_head()
    head.test_cfg.alpha = head.test_cfg.beta = 0.0
    regions = regions_of(1)
    regions.detector_embeddings = torch.eye(6)[:1]
    cosines = torch.full((names + 1,), 0.5)
    cosines[-1] += lead / float(head.bbox_head.classifier.temperature)
    beside = (1 - cosines.square()).sqrt()
    texts = torch.stack([cosines, beside, *torch.zeros(4, names + 1)], dim=1)
    given = competitors(-torch.eye(6)[:1], SWAPPED[:0], (), ())
    rivals = Rivals.of(replace(given, told_apart=told_apart), texts, names, weights)
    is_base = torch.ones(names + 1, dtype=torch.bool)
    (found,) = head.judge(regions, texts, is_base, rivals).evidence.beaten.tolist()
    return found


@pytest.mark.parametrize("weights", [None, {"detector": 1.0}])
@torch.no_grad()
def test_a_negative_beats_by_any_lead_also_where_confidences_count(weights):
    for lead, is_beaten in ((-0.1, False), (0.0, False), (0.1, True)):
        assert beaten_by_a_lead(lead, 1, weights) == [is_beaten, True]


@pytest.mark.parametrize("weights", [None, {"detector": 1.0}])
@torch.no_grad()
def test_a_vague_negative_needs_a_clear_lead_where_confidences_count(weights):
    clearly = math.log(5)
    least = clearly if weights else 0
    # Two names, of which the negative is vague for the first.
    none = torch.zeros(0, 2, dtype=torch.int64)
    known = ToldApart(none, none, torch.tensor([[0, 0]]))
    for lead in (-0.1, 0.1, clearly - 0.01, clearly + 0.01):
        assert beaten_by_a_lead(lead, 2, weights, known) == [lead > least, lead > 0, True]


@pytest.mark.parametrize("fitted", [{}, {"objectness": 1.0}, {"detector": -1.0, "encoder": 0.0}])
@torch.no_grad()
def test_a_calibration_of_no_stream_leaves_them_as_they_are(fitted):
    head, regions, given = roi_head(), regions_of(40), CASES["both"]
    rivals = Rivals.of(given, TEXTS, weights=fitted)
    found = head.judge(regions, TEXTS, IS_BASE, rivals).evidence.beaten
    assert found.equal(head.judge(regions, TEXTS, IS_BASE, given).evidence.beaten)


@pytest.mark.parametrize(
    ("case", "with_figure"),
    # A figure needs competitors of each name.
    [*((case, False) for case in CASES), *((case, True) for case in CASES if case not in LACKING)],
)
@pytest.mark.parametrize("at_once", [None, 40])
@torch.no_grad()
def test_what_comes_closest(head, case, with_figure, at_once, monkeypatch):
    monkeypatch.setattr("fgclip_det.models.regions.region_classification._SCORES_AT_ONCE", 40)
    if at_once is not None:
        monkeypatch.setattr("fgclip_det.models.regions.closest._AT_ONCE", at_once)
    regions, given = regions_of(9), CASES[case]
    figure = Figure("confidences", lambda features: features["objectness"].sigmoid().float())
    rules = Rules(competitors=given, figure=figure if with_figure else None, count=4)
    ready = {"text_embeddings": JOINED, "is_base": JOINED_BASE, "rules": rules.ready(JOINED)}
    best_of_each = head.classify(regions, **ready).metainfo["best"]
    found = closest_names(head, regions, ready, best_of_each, 3)
    judged = head.judge(regions, JOINED, JOINED_BASE, Rivals.of(given, JOINED, 4))
    ranks = judged.scores[:, :4]
    if with_figure:
        ranks = judged.evidence.features["objectness"].sigmoid().float()[:, :4]
    best, places = ranks.max(dim=0)
    assert [one.name for one in found] == best.sort(descending=True, stable=True).indices[
        :3
    ].tolist()
    weights, texts = weights_of(head, IS_BASE), torch.cat([given.embeddings, OWN, TEXTS])
    gone, own = ({*map(tuple, some.tolist())} for some in (given.excluded, given.exchanges))
    for one in found:
        assert one.certainty == pytest.approx(best[one.name].item(), abs=1e-6)
        place = int(places[one.name])
        sums = sum(
            logits[place] * weights[name][one.name]
            for name, logits in logits_of(head, regions, texts).items()
        )
        rows = [row for row in range(given.bank_size) if (one.name, row) not in gone]
        rows += [row for name, row in own if name == one.name]
        rows += range(len(given.texts), len(given.texts) + 3)
        rival = max(rows, key=lambda row: sums[row])
        expected = rival if sums[rival] > sums[len(given.texts) + 3 + one.name] else None
        assert one.rival == expected


def test_nothing_comes_close_where_nothing_is(head):
    rules = Rules(competitors=CASES["both"]).ready(TEXTS)
    assert "best" not in head.classify(regions_of(0), TEXTS, IS_BASE, rules=rules).metainfo
    assert "best" not in head.classify(regions_of(3), TEXTS, IS_BASE).metainfo
