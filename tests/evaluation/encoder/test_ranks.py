"""Ranks in tiles are those of the whole table: of cosines in float64, and of ties by the rule."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from fgclip_det.evaluation.encoder.ranks import NEVER, Ranks, rank_pairs
from fgclip_det.evaluation.encoder.rules import unit


def places_of(table: np.ndarray, is_right: np.ndarray) -> np.ndarray:
    """Place of the best right answer of (Q, A) scores: ties by a stable ascending argsort."""
    order = np.argsort(table, axis=1, kind="stable")[:, ::-1]
    return np.take_along_axis(is_right, order, axis=1).argmax(axis=1)


def is_own(owners: list[int], pictures: int) -> np.ndarray:
    return np.arange(pictures)[:, None] == np.asarray(owners)[None]


def random_pairs(pictures: int, texts: int, width: int) -> tuple[Tensor, Tensor, list[int]]:
    """Unit features of `texts` captions that lean to their pictures, in any order."""
    owners = [*range(pictures), *torch.randint(pictures, (texts - pictures,)).tolist()]
    owners = [owners[place] for place in torch.randperm(texts)]
    images = unit(torch.randn(pictures, width))
    captions = unit(images[owners] + 0.2 * torch.randn(texts, width) * 3)
    return images, captions, owners


@pytest.mark.parametrize("tile", [1, 7, 16, 64, 2048])
def test_ranks_are_those_of_the_whole_table(tile: int) -> None:
    images, captions, owners = random_pairs(33, 90, 64)
    i2t, t2i = rank_pairs(images, captions, owners, tile=tile)
    table = (images.double() @ captions.double().T).numpy()
    right = is_own(owners, 33)
    assert np.array_equal(i2t.places, places_of(table, right))
    assert np.array_equal(t2i.places, places_of(table.T, right.T))
    assert 0 < i2t.recall(1) < 1 and 0 < t2i.recall(1) < 1
    assert i2t.ties == t2i.ties == 0
    assert i2t.expected_recall(5) == i2t.recall(5)


@pytest.mark.parametrize("tile", [3, 64])
def test_ties_are_counted_and_the_later_one_comes_first(tile: int) -> None:
    # Powers of two: products are exact, whatever the shape of a tile.
    images = torch.randint(-1, 2, (23, 8)).float() / 4
    owners = [*range(22), *torch.randint(22, (40,)).tolist(), 22]
    owners = [owners[place] for place in torch.randperm(len(owners))]
    captions = images[owners] + torch.randint(-1, 2, (len(owners), 8)).float() / 4
    i2t, t2i = rank_pairs(images, captions, owners, tile=tile)
    table, right = (images @ captions.T).numpy(), is_own(owners, 23)
    for ranks, scores, own in ((i2t, table, right), (t2i, table.T, right.T)):
        assert np.array_equal(ranks.places, places_of(scores, own))
        best = np.where(own, scores, -np.inf).max(axis=1, keepdims=True)
        assert np.array_equal(ranks.greater, (scores > best).sum(axis=1))
        assert np.array_equal(ranks.equal, (scores == best).sum(axis=1))
        assert np.array_equal(ranks.right, ((scores == best) & own).sum(axis=1))
        assert ranks.ties == (ranks.equal > ranks.right).sum() > 3


def test_expected_recall_is_the_mean_over_all_orders() -> None:
    # Two better; then four that tie, of which one is right, or two are.
    for right in (1, 2):
        ranks = Ranks(*(np.array([value]) for value in (2, 2, 4, right)))
        for k in range(1, 8):
            hits = [
                2 + min(order.index(one) for one in range(right)) < k
                for order in itertools.permutations(range(4))
            ]
            assert ranks.expected_recall(k) == pytest.approx(np.mean(hits), abs=1e-12)


def test_equal_captions_of_two_pictures_tie_wherever_they_stand() -> None:
    images, captions, owners = random_pairs(40, 200, 512)
    twin = owners.index(0), owners.index(39)
    captions[twin[0]] = captions[twin[1]] = unit(images[0] + images[39])
    i2t, _ = rank_pairs(images, captions, owners, tile=16)
    table = images @ captions.T
    assert table[0, twin[0]] == table[0, twin[1]], "the product gives equal texts equal scores"
    assert i2t.equal[0] == 2 and i2t.right[0] == 1
    assert i2t.places[0] == i2t.greater[0] + (twin[1] > twin[0])


def test_scores_are_what_is_ranked_by() -> None:
    images, captions, owners = random_pairs(12, 30, 16)
    flat, _ = rank_pairs(images, captions, owners, scores=torch.ones_like)
    assert (flat.equal == 30).all() and (flat.greater == 0).all()
    assert flat.expected_recall(30) == 1
    last = np.array([max(n for n, owner in enumerate(owners) if owner == p) for p in range(12)])
    assert np.array_equal(flat.places, 29 - last)


def test_a_picture_without_captions_is_never_found() -> None:
    images, captions, _ = random_pairs(3, 3, 8)
    i2t, t2i = rank_pairs(images, captions, [0, 2, 2])
    assert i2t.places[1] == NEVER and i2t.places[0] < 3
    assert i2t.recall(10) == i2t.expected_recall(10) == pytest.approx(2 / 3)
    assert i2t.ties == 0 and (t2i.places < 3).all()


def test_one_picture_with_one_caption() -> None:
    one = unit(torch.randn(1, 4))
    for ranks in rank_pairs(one, one, [0]):
        assert ranks.places.tolist() == [0] and ranks.recall(1) == 1


def test_the_product_is_made_once_but_for_tiles_of_right_answers() -> None:
    images, captions, owners = random_pairs(50, 250, 8)
    made = []

    def scores(cosines: Tensor) -> Tensor:
        made.append(cosines.numel())
        return cosines

    rank_pairs(images, captions, owners, scores, tile=10)
    assert max(made) <= 10 * 10, "never more than a tile"
    # Sorted by owner, captions of 10 pictures lie in about 5 tiles, which neighbours share.
    assert 50 * 250 <= sum(made) <= 50 * 250 * 1.35


def test_many_are_exact() -> None:
    images, captions, owners = random_pairs(2000, 10_000, 512)
    found = rank_pairs(images, captions, owners)
    table = images.double() @ captions.double().T
    own = torch.tensor(owners)
    right = table[own, torch.arange(len(own))]
    best = torch.full((2000,), -2.0, dtype=torch.float64).scatter_reduce(0, own, right, "amax")
    for ranks, scores, known in zip(found, (table, table.T), (best, right), strict=True):
        places = torch.from_numpy(ranks.places)
        # Exact, but for what is nearer to the right answer's cosine than 1e-6.
        assert ((scores > known[:, None] + 1e-6).sum(1) <= places).all()
        assert (places <= (scores > known[:, None] - 1e-6).sum(1) - 1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, t, o: (i[:0], t, o), "0 pictures and 3 texts"),
        (lambda i, t, o: (i, t, [*o[:2]]), "2 owners of 3 texts"),
        (lambda i, t, o: (i, t, [0, 1, 3]), "owners are 0 to 3, but pictures are 0 to 2"),
        (lambda i, t, o: (i, t, [0, -1, 1]), "owners are -1 to 1"),
        (lambda i, t, o: (i, t.clone().index_fill_(0, torch.tensor(1), torch.nan), o), "text 1"),
        (lambda i, t, o: (i * torch.tensor([[1], [1], [torch.inf]]), t, o), "picture 2 is not"),
    ],
)
def test_what_cannot_be_ranked_is_said(change, message: str) -> None:
    images, captions, _ = random_pairs(3, 3, 8)
    with pytest.raises(ValueError, match=message):
        rank_pairs(*change(images, captions, [0, 1, 2]))
