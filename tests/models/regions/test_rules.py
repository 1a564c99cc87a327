"""What is reported of what is asked: who competes, by what it is chosen, one name or several."""

from __future__ import annotations

import pytest
import torch

from fgclip_det.models import OpenVocabRoIHead
from fgclip_det.models.regions import region_classification
from fgclip_det.models.regions.region_classification import Figure, Rules
from tests.messages import says
from tests.models.competitors_for_tests import (
    BANK,
    CASES,
    HEADS,
    IS_BASE,
    SWAPPED,
    TEXTS,
    competitors,
    pairs,
    regions_of,
    roi_head,
    text_head,
)


@pytest.fixture(params=HEADS)
def head(request):
    return HEADS[request.param]()


def confident(features):
    return torch.sigmoid(features["encoder"] - 0.3 * features["objectness"]).float()


FIGURE = Figure("confidences", confident)


@torch.no_grad()
def test_classify_reports_what_is_not_beaten_by_falling_confidence(head):
    regions, given = regions_of(40), CASES["both"]
    judged = head.judge(regions, TEXTS, IS_BASE, given)
    expected = confident(judged.evidence.features)
    found = head.classify(regions, TEXTS, IS_BASE, rules=Rules(given, FIGURE))
    places = found.regions, found.labels
    assert len(found) and found.confidences.equal(expected[places])
    assert found.scores.equal(judged.scores[places])
    assert found.confidences.sort(descending=True).values.equal(found.confidences)
    assert not found.scores.sort(descending=True).values.equal(found.scores)
    assert not judged.evidence.beaten[places].any()
    shares = head.classify(regions, TEXTS, IS_BASE, rules=Rules(given))
    assert (
        "confidences" not in shares
        and not judged.evidence.beaten[shares.regions, shares.labels].any()
    )
    assert shares.scores.sort(descending=True).values.equal(shares.scores)


@torch.no_grad()
def test_competitors_that_hide_nothing_make_the_figure_alone(head):
    regions, given = regions_of(40), CASES["both"]
    judged = head.judge(regions, TEXTS, IS_BASE, given)
    assert judged.evidence.beaten.any()
    found = head.classify(regions, TEXTS, IS_BASE, rules=Rules(given, FIGURE, hides=False))
    places = found.regions, found.labels
    assert found.scores.equal(head.score(regions, TEXTS, IS_BASE)[places])
    assert found.confidences.equal(confident(judged.evidence.features)[places])
    assert found.confidences.sort(descending=True).values.equal(found.confidences)
    assert judged.evidence.beaten[places].any()


@torch.no_grad()
def test_what_a_calibration_does_not_count_is_not_made():
    head, regions, given = roi_head(), regions_of(40), CASES["both"]
    weights = {"detector": 0.7, "objectness": 0.2}

    def of_detector(features):
        return torch.sigmoid(features["detector"]).float()

    made = head.judge(regions, TEXTS, IS_BASE, given).evidence.features
    rules = Rules(given, Figure("confidences", of_detector, weights)).ready(TEXTS)
    evidence = head.judge(regions, TEXTS, IS_BASE, rules.competitors).evidence
    assert evidence.features["detector"].equal(made["detector"]) and evidence.beaten.any()
    assert [*evidence.streams._made] == ["detector"]
    some = torch.tensor([7, 3, 30])
    assert evidence.at(some).beaten.equal(evidence.beaten[some])
    found = head.classify(regions, TEXTS, IS_BASE, rules=rules)
    expected = head.judge(regions, TEXTS, IS_BASE, rules.competitors)
    places = found.regions, found.labels
    torch.testing.assert_close(found.scores, expected.scores[places], atol=1e-9, rtol=1e-6)
    assert found.confidences.equal(of_detector(made)[places])


@torch.no_grad()
def test_the_best_name_of_a_box_is_the_best_that_is_not_beaten():
    regions, given = regions_of(60), CASES["both"]
    head = text_head(test_cfg=dict(max_per_img=1000))
    judged = head.judge(regions, TEXTS, IS_BASE, given)

    def odd(features):
        """Surest of what fits worst, so that what is beaten often comes first."""
        return torch.sigmoid(-features["encoder"]).float()

    rank = odd(judged.evidence.features).masked_fill(judged.evidence.beaten, -1)
    found = head.classify(regions, TEXTS, IS_BASE, rules=Rules(given, Figure("confidences", odd)))
    assert len(found) and found.labels.equal(rank.max(dim=1).indices[found.regions])
    best_of_all = odd(judged.evidence.features).max(dim=1).indices
    assert not found.labels.equal(best_of_all[found.regions])


@torch.no_grad()
def test_the_threshold_is_on_the_confidence():
    head, regions, given = roi_head(score_thr=0.6), regions_of(60), CASES["both"]
    found = head.classify(regions, TEXTS, IS_BASE, rules=Rules(given, FIGURE))
    assert len(found) and (found.confidences > 0.6).all() and (found.scores < 0.6).any()


@torch.no_grad()
def test_blocks_of_regions_change_nothing(head, monkeypatch):
    regions, given = regions_of(40), CASES["both"]
    rules = Rules(given, FIGURE)
    whole = head.classify(regions, TEXTS, IS_BASE, rules=rules)
    sizes, judge = [], head.judge
    monkeypatch.setattr(
        head, "judge", lambda some, *rest: sizes.append(len(some)) or judge(some, *rest)
    )
    # Seven of the bank are more than five phrases, four names and three pairs.
    monkeypatch.setattr(region_classification, "_SCORES_AT_ONCE", 2 * 7 * 3)
    found = head.classify(regions, TEXTS, IS_BASE, rules=rules)
    assert sizes == [3] * 13 + [1]
    assert found.labels.equal(whole.labels) and found.regions.equal(whole.regions)
    torch.testing.assert_close(found.confidences, whole.confidences, atol=1e-6, rtol=0)


@torch.no_grad()
def test_one_name_a_place(head):
    regions = regions_of(10)
    regions.boxes[:] = regions.boxes[0]
    rules = Rules(CASES["both"])
    several = roi_head().classify(regions, TEXTS, IS_BASE, rules=rules)
    assert len(several.labels.unique()) > 1
    assert len(head.classify(regions, TEXTS, IS_BASE, rules=Rules(one_name=True))) == 1
    assert (
        len(
            head.classify(regions, TEXTS, IS_BASE, rules=Rules(rules.competitors, None, None, True))
        )
        == 1
    )


@torch.no_grad()
def test_contradictory_names_without_competitors(head):
    regions = regions_of(12)
    regions.boxes[:] = regions.boxes[0]
    before = head.classify(regions, TEXTS, IS_BASE)
    found = head.classify(regions, TEXTS, IS_BASE, rules=Rules(contradictory=pairs((0, 1), (2, 0))))
    assert {0, 1, 2} <= {*before.labels.tolist()}
    # Only the best of 0 and 1, and of 0 and 2.
    best = before.labels[0].item()
    expected = {0: {0, 3}, 1: {1, 2, 3}, 2: {1, 2, 3}, 3: {3}}[best]
    assert {*found.labels.tolist()} <= expected and found.scores[0] == before.scores[0]


@torch.no_grad()
def test_nothing_competes_and_nothing_is_known():
    given = competitors(BANK[:0], SWAPPED, (), [(0, 0)])
    head, regions = text_head(), regions_of(3)
    assert head.judge(regions, TEXTS, IS_BASE, given).evidence.features["encoder"].isinf().any()
    assert head.classify(regions, TEXTS, IS_BASE, rules=Rules(given)).scores.isfinite().all()
    with pytest.raises(ValueError, match=says("nothing competes with 3 of 4 names", "bank")):
        head.classify(regions, TEXTS, IS_BASE, rules=Rules(given, FIGURE))
    # The background competes with all.
    assert len(roi_head().classify(regions, TEXTS, IS_BASE, rules=Rules(given, FIGURE)))


@pytest.mark.parametrize("broken", ["region_embeddings", "objectness"])
def test_nan_is_refused(head, broken):
    regions = regions_of(4)
    getattr(regions, broken)[1] = torch.nan
    for rules in (Rules(CASES["both"]), Rules(CASES["both"], FIGURE)):
        if broken == "objectness" and rules.figure is None and isinstance(head, OpenVocabRoIHead):
            continue  # This head's shares are not made of it.
        with pytest.raises(ValueError, match=says("NaN")):
            head.classify(regions, TEXTS, IS_BASE, rules=rules)
