"""Kinds of a name speak for it: it is one of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tests.models.competitors_for_tests import (
    BANK,
    HEADS,
    IS_BASE,
    SWAPPED,
    TEXTS,
    competitors,
    pairs,
    regions_of,
    sources,
)

PLAIN = competitors(BANK, SWAPPED, [(0, 2), (0, 4), (2, 5), (3, 1)], [(0, 7), (3, 8)])
KINDS = replace(PLAIN, kinds=pairs((0, 2), (0, 4), (3, 1)))


@pytest.fixture(params=HEADS)
def head(request):
    return HEADS[request.param]()


@torch.no_grad()
def test_evidence_is_of_the_name_and_its_kinds_in_the_mean(head):
    regions = regions_of(20)
    before, after = (head.evidence(regions, TEXTS, IS_BASE, given) for given in (PLAIN, KINDS))
    for name, (embeddings, temperature, _, _) in sources(head, regions).items():
        directions = F.normalize(embeddings.double(), dim=-1) * float(temperature)
        own, bank = (directions @ F.normalize(t.double(), dim=-1).T for t in (TEXTS, BANK))
        gain = torch.zeros_like(own)
        # The mean of their odds: having more kinds makes a name no likelier.
        gain[:, 0] = torch.cat([own[:, :1], bank[:, [2, 4]]], dim=1).exp().mean(dim=1).log()
        gain[:, 3] = torch.stack([own[:, 3], bank[:, 1]]).exp().mean(dim=0).log()
        gain[:, [0, 3]] -= own[:, [0, 3]]
        assert (gain[:, [0, 3]] > 0).any() and (gain[:, [0, 3]] < 0).any()
        torch.testing.assert_close(after.features[name], before.features[name] + gain)


@torch.no_grad()
def test_kinds_that_say_the_same_as_the_name_change_nothing(head):
    """Asked once or as three equal texts, it is the same name."""
    regions, texts = regions_of(9), TEXTS[:2]
    same = torch.cat([texts[:1], texts[:1], BANK[3:]])
    alone = competitors(same, SWAPPED[:0], [(0, 0), (0, 1)])
    with_kinds = replace(alone, kinds=pairs((0, 0), (0, 1)))
    one, other = (head.evidence(regions, texts, IS_BASE[:2], own) for own in (alone, with_kinds))
    for name, values in one.features.items():
        torch.testing.assert_close(other.features[name], values, atol=1e-9, rtol=0)


@torch.no_grad()
def test_a_name_is_not_beaten_where_one_of_its_kinds_fits_best(head):
    regions = regions_of(4)
    regions.region_embeddings = regions.detector_embeddings = 2 * BANK[[2, 4, 1, 5]]
    without, found = (head.evidence(regions, TEXTS, IS_BASE, one) for one in (PLAIN, KINDS))
    assert without.beaten[:, 0].all()
    assert found.beaten[:, 0].tolist() == [False, False, True, True]
    assert found.beaten[:, 1:3].equal(without.beaten[:, 1:3])


@torch.no_grad()
def test_shares_are_of_what_was_typed(head):
    regions = regions_of(9)
    before, after = (head.judge(regions, TEXTS, IS_BASE, given) for given in (PLAIN, KINDS))
    assert before.scores.equal(after.scores)


def test_kinds_of_some_names():
    assert KINDS.subset([3, 1]).kinds.tolist() == [[0, 1]]
    assert KINDS.subset([1]).kinds.tolist() == []
    assert PLAIN.subset([0]).kinds is None
    assert KINDS.to("cpu").kinds.equal(KINDS.kinds)
