"""Classification of pictures and boxes by prototypes of prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fgclip_det.evaluation.encoder.rules import unit

_BEST = 5
_ROWS = 8192


@dataclass(frozen=True)
class ClassPlaces:
    """Of K things to classify.

    Attributes:
        labels: (K,) int64, the right class.
        best: (K, 5) int64, the first five classes (fewer where there are fewer); ties as topk
            leaves them.
        greater: (K,) int64, classes of a higher score than the right one.
        equal: (K,) int64, classes of its score, itself one.
    """

    labels: np.ndarray
    best: np.ndarray
    greater: np.ndarray
    equal: np.ndarray

    def of(self, chosen: Sequence[int]) -> ClassPlaces:
        """The same of some of the things."""
        rows = np.asarray(chosen, dtype=np.int64)
        return ClassPlaces(self.labels[rows], self.best[rows], self.greater[rows], self.equal[rows])

    def ties(self, k: int) -> int:
        """Things whose right class has the score of another at the border of the first k."""
        return int(((self.greater < k) & (self.greater + self.equal > k)).sum())

    def accuracy(self, k: int) -> float:
        """Share of things with the right class among the first k."""
        return float((self.best[:, :k] == self.labels[:, None]).any(axis=1).mean())

    def expected_accuracy(self, k: int) -> float:
        """`accuracy` on average over all orders of tied classes."""
        return float(np.clip((k - self.greater) / self.equal, 0, 1).mean())


def class_prompts(names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Each name in each template, name by name."""
    return [template.replace("{}", name) for name in names for template in templates]


def prototypes(features: Tensor, count: int) -> Tensor:
    """Features (C * templates, D) of `class_prompts` -> (C, D): unit, mean, unit."""
    return unit(unit(features).unflatten(0, (count, -1)).mean(dim=1))


def classify(
    features: Tensor,
    classes: Tensor,
    labels: Sequence[int],
    scores: Callable[[Tensor], Tensor] = lambda products: products,
) -> ClassPlaces:
    """Place of the right class of each feature.

    Args:
        features: (K, D) float32.
        classes: (C, D) float32, prototypes.
        labels: Right class of each feature.
        scores: Made of the products, row by row; what is ranked by.
    """
    right = torch.tensor(labels, dtype=torch.int64)
    parts = []
    # LVIS's 244,707 boxes of 1,203 classes would take gigabytes at once.
    for some, own_labels in zip(features.split(_ROWS), right.split(_ROWS), strict=True):
        table = scores(some @ classes.T)
        own = table.gather(1, own_labels[:, None])
        best = table.topk(min(_BEST, table.shape[1])).indices
        parts.append((best, (table > own).sum(1), (table == own).sum(1)))
    found = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return ClassPlaces(right.numpy(), *found)


def box_probabilities(products: Tensor) -> Tensor:
    """What the authors rank classes of boxes by; of long features most underflow to exactly 0."""
    return (100 * products).softmax(dim=1)
