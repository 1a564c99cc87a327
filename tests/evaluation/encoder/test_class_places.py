"""Prototypes and the first classes, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fgclip_det.evaluation.encoder.class_places import (
    box_probabilities,
    class_prompts,
    classify,
    prototypes,
)


def test_prompts_and_prototypes() -> None:
    prompts = class_prompts(["{a}", "b"], ["a {}.", "the {}"])
    assert prompts == ["a {a}.", "the {a}", "a b.", "the b"]
    features = torch.tensor([[3.0, 0.0], [0.0, 5.0], [0.0, 2.0], [0.0, 1.0]])
    expected = torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, 1.0]])
    torch.testing.assert_close(prototypes(features, 2), expected)


def test_places_without_and_with_ties() -> None:
    classes = torch.eye(7)
    features = torch.tensor(
        [
            [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
            [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
            [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        ]
    )
    places = classify(features, classes, [6, 1, 0, 3])
    assert places.greater.tolist() == [0, 5, 0, 1]
    assert places.equal.tolist() == [1, 1, 2, 6]
    # Sure, never, one of two at the border, four places for six.
    assert places.expected_accuracy(1) == pytest.approx((1 + 0 + 0.5 + 0) / 4)
    assert places.expected_accuracy(5) == pytest.approx((1 + 0 + 1 + 4 / 6) / 4)
    assert (places.ties(1), places.ties(5)) == (1, 1)
    some = places.of([0, 1])
    assert (some.accuracy(1), some.accuracy(5), some.ties(1)) == (0.5, 0.5, 0)
    assert some.best.tolist() == [[6, 5, 4, 3, 2]] * 2


def test_fewer_classes_than_five() -> None:
    places = classify(torch.eye(2), torch.eye(2), [0, 0])
    assert places.best.shape == (2, 2)
    assert (places.accuracy(1), places.accuracy(5), places.expected_accuracy(5)) == (0.5, 1.0, 1.0)


def test_long_features_underflow() -> None:
    places = classify(torch.tensor([[30.0, 1.0, 0.5]]), torch.eye(3), [2], box_probabilities)
    assert (places.greater.tolist(), places.equal.tolist()) == ([1], [2])
    places = classify(torch.tensor([[0.3, 0.1, 0.05]]), torch.eye(3), [2], box_probabilities)
    assert np.array_equal(places.greater, [2]) and places.ties(1) == 0
