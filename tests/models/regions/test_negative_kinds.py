"""Negatives of one's own with their kinds: "a cross" that is no "purple cross"."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fgclip_det.models.regions.closest import closest_names
from fgclip_det.models.regions.region_classification import Rules
from fgclip_det.models.regions.rivals import Rivals
from fgclip_det.vocabulary.competing.competitors import ToldApart
from tests.models.competitors_for_tests import (
    BANK,
    HEADS,
    IS_BASE,
    SWAPPED,
    TEXTS,
    competitors,
    directions,
    pairs,
    regions_of,
)
from tests.models.regions.test_own_negatives import logits_of, weights_of

OWN = directions(3, seed=31)
NONE = pairs()
JOINED = torch.cat([TEXTS, OWN])
JOINED_BASE = torch.cat([IS_BASE, torch.zeros(3, dtype=torch.bool)])
# Of name 0 rows 2 and 4 are kinds, of name 3 row 1; what speaks for negatives 0 and 1 overlaps.
PLAIN = replace(
    competitors(BANK, SWAPPED, [(0, 2), (0, 4), (2, 5), (3, 1)], [(0, 7), (3, 8)]),
    kinds=pairs((0, 2), (0, 4), (3, 1)),
)


def told(kinds: torch.Tensor, narrower: torch.Tensor = NONE) -> ToldApart:
    return ToldApart(kinds, narrower, NONE)


KNOWN = {
    "a narrower negative": replace(PLAIN, told_apart=told(pairs((0, 2), (1, 3), (1, 5)))),
    "a narrower name": replace(
        PLAIN, told_apart=told(pairs((0, 2), (0, 4), (0, 3), (1, 1)), pairs((0, 0), (3, 1)))
    ),
    "nothing in common": replace(PLAIN, told_apart=told(pairs((2, 0)))),
    "nothing": replace(PLAIN, told_apart=told(NONE)),
    "no kinds of names": replace(
        PLAIN, kinds=None, told_apart=told(pairs((0, 2), (1, 5)), pairs((2, 1)))
    ),
}


@pytest.fixture(params=HEADS)
def head(request):
    return HEADS[request.param]()


def speaking(given, name: int, negative: int) -> tuple[list[int], list[int]]:
    """Rows for a negative, and for a name."""
    kinds = [] if given.kinds is None else given.kinds.tolist()
    own = [row for place, row in kinds if place == name]
    theirs = [row for place, row in given.told_apart.kinds.tolist() if place == negative]
    if [name, negative] in given.told_apart.narrower.tolist():
        left_out = [row for place, row in given.excluded.tolist() if place == name]
        return [row for row in theirs if row not in left_out], own
    return theirs, [row for row in own if row not in theirs]


@pytest.mark.parametrize("case", KNOWN)
@torch.no_grad()
def test_equals_loops(head, case: str) -> None:
    regions, given = regions_of(30), KNOWN[case]
    bare = replace(given, told_apart=None)
    plain = head.judge(regions, TEXTS, IS_BASE, bare).evidence
    rivals = Rivals.of(given, JOINED, len(TEXTS))
    found = head.judge(regions, JOINED, JOINED_BASE, rivals).evidence
    logits = logits_of(head, regions, torch.cat([JOINED, given.embeddings[: given.bank_size]]))
    weights = weights_of(head, IS_BASE)
    expected = plain.beaten.clone()
    for name in range(len(TEXTS)):
        for negative in range(len(OWN)):
            theirs, own = speaking(given, name, negative)
            lead = 0
            for source, values in logits.items():
                columns = [len(TEXTS) + negative, *(len(JOINED) + row for row in theirs)]
                better = values[:, columns].logsumexp(dim=1)
                columns = [name, *(len(JOINED) + row for row in own)]
                lead = lead + weights[source][name] * (better - values[:, columns].logsumexp(dim=1))
            expected[:, name] |= lead > 1e-4
    assert found.beaten[:, : len(TEXTS)].equal(expected) and found.beaten[:, len(TEXTS) :].all()
    assert not expected.equal(plain.beaten)
    # They change no evidence.
    for name, values in plain.features.items():
        torch.testing.assert_close(found.features[name][:, : len(TEXTS)], values)


@torch.no_grad()
def test_what_is_told_of_the_closest_is_what_beats(head) -> None:
    regions, given = regions_of(12), KNOWN["a narrower negative"]
    # Nothing of the bank competes, so that only negatives beat.
    everything = [(name, row) for name in range(4) for row in range(len(BANK))]
    given = replace(given, excluded=pairs(*everything), exchanges=pairs())
    rules = Rules(competitors=given, count=4).ready(JOINED)
    ready = {"text_embeddings": JOINED, "is_base": JOINED_BASE, "rules": rules}
    best = head.classify(regions, **ready).metainfo["best"]
    beaten = head.judge(regions, JOINED, JOINED_BASE, rules.competitors).evidence.beaten
    told = closest_names(head, regions, ready, best, 4)
    assert len(told) == 4
    for one in told:
        is_beaten = bool(beaten[best.regions[one.name], one.name])
        assert (one.rival is not None) is is_beaten
    assert any(one.rival is not None for one in told)


def test_they_go_with_the_names_and_the_device() -> None:
    known = KNOWN["a narrower name"]
    given = replace(known, told_apart=replace(known.told_apart, vague=pairs((3, 2))))
    given = given.to("cpu").subset([3, 0]).told_apart
    assert given.narrower.tolist() == [[0, 1], [1, 0]] and given.vague.tolist() == [[0, 2]]
    assert given.kinds.equal(known.told_apart.kinds)
