"""The text prior: a bag of words that guesses the right caption without seeing a picture.

FG-OVD draws its negatives evenly from lists of attributes, while right captions follow what is
frequent: there are more white plates than lilac ones. This scorer is as good at that as a few
word pairs can be, so a detector has to be compared with it.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fgclip_det.fg_ovd.files import FGOVDFile, read_fg_ovd

_WORD = re.compile(r"[^\W_]+")
# Of Adam: the usual averages, and a guard against 0 / 0.
_MOMENTUM, _SQUARES, _EPSILON = 0.9, 0.999, 1e-8


class CaptionScorer:
    """Linear scores over the words and word pairs of a caption.

    Fitted so that the softmax over a group favours its first caption. Deterministic: the same
    groups in the same order give the same scores.

    Args:
        groups: Captions, the right one first, as of a validation file. Groups of one tell nothing.
        weight_decay: L2 penalty of a weight, against the mean loss of a group.
        steps: Full passes over all groups.
        learning_rate: Of Adam.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: No group has a negative, or a number makes no sense.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[str]],
        weight_decay: float = 1e-5,
        steps: int = 100,
        learning_rate: float = 0.1,
        progress: bool = False,
    ) -> None:
        groups = [group for group in groups if len(group) > 1]
        if not groups:
            raise ValueError("no caption has a negative: fit on a file with neg_category_ids")
        if weight_decay < 0 or steps < 1 or learning_rate <= 0:
            raise ValueError(
                f"weight_decay {weight_decay}, steps {steps} and learning_rate {learning_rate} "
                "must be at least 0, at least 1, and above 0"
            )
        self._index: dict[str, int] = {}
        rows, features = self._features((text for group in groups for text in group), grow=True)
        if not self._index:
            raise ValueError("no caption has a word: fit on a file with real captions")
        sizes = np.array([len(group) for group in groups])
        starts = np.cumsum(sizes) - sizes
        right = np.zeros(sizes.sum())
        right[starts] = 1
        self._weights = np.zeros(len(self._index))
        mean, square = np.zeros_like(self._weights), np.zeros_like(self._weights)
        shown = tqdm(range(1, steps + 1), desc="text only", disable=None if progress else True)
        for step in shown:
            share = _softmax(self._sum(rows, features, len(right)), starts, sizes)
            error = (share - right) / len(groups)
            gradient = np.bincount(features, weights=error[rows], minlength=len(self._weights))
            gradient += weight_decay * self._weights
            mean += (1 - _MOMENTUM) * (gradient - mean)
            square += (1 - _SQUARES) * (gradient**2 - square)
            scale = np.sqrt(square / (1 - _SQUARES**step)) + _EPSILON
            self._weights -= learning_rate * mean / (1 - _MOMENTUM**step) / scale

    def score(self, captions: Sequence[str]) -> np.ndarray:
        """(B,) float64 scores of B captions; what was never seen adds nothing."""
        rows, features = self._features(captions, grow=False)
        return self._sum(rows, features, len(captions))

    def accuracy(self, groups: Sequence[Sequence[str]]) -> float:
        """Share of groups whose first caption scores highest; a tie of m is 1 / m right.

        Raises:
            ValueError: There is no group.
        """
        if not groups:
            raise ValueError("there is no group of captions to score")
        right = 0.0
        for group in groups:
            scores = self.score(group)
            best = scores >= scores.max() - 1e-12
            right += best[0] / best.sum()
        return float(right / len(groups))

    def _features(self, texts: Iterable[str], grow: bool) -> tuple[np.ndarray, np.ndarray]:
        """Row and feature of each word and word pair; a feature counts once in a text."""
        rows: list[int] = []
        features: list[int] = []
        for row, text in enumerate(texts):
            words = _WORD.findall(text.lower())
            pairs = (f"{one} {two}" for one, two in itertools.pairwise(words))
            for name in dict.fromkeys((*words, *pairs)):
                number = (
                    self._index.setdefault(name, len(self._index))
                    if grow
                    else self._index.get(name)
                )
                if number is not None:
                    rows.append(row)
                    features.append(number)
        return np.array(rows, dtype=np.int64), np.array(features, dtype=np.int64)

    def _sum(self, rows: np.ndarray, features: np.ndarray, number: int) -> np.ndarray:
        return np.bincount(rows, weights=self._weights[features], minlength=number)


def read_scorer(path: str | Path, scored: str | Path, *, progress: bool = False) -> CaptionScorer:
    """Fit a scorer on a validation file.

    Args:
        path: JSON of FG-OVD.
        scored: The annotation file whose captions are to be scored, which must be another one.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: The file cannot be used, or is the one to be scored.
    """
    if os.path.realpath(path) == os.path.realpath(scored):
        raise ValueError(
            f"{str(path)!r} is the file to be scored: --validation is the validation set's"
        )
    return CaptionScorer(caption_groups(read_fg_ovd(path)), progress=progress)


def caption_groups(file: FGOVDFile, n_negatives: int | None = None) -> list[list[str]]:
    """Captions of each vocabulary, the right one first.

    Args:
        file: FG-OVD's benchmark, training or validation file.
        n_negatives: Leave out those with fewer and cut those with more; None takes all as they are.
    """
    if n_negatives is not None:
        return [file.captions_of(one) for one in file.vocabularies(n_negatives)]
    first = {one["category_id"]: one for one in reversed(file.annotations)}
    return [
        [file.captions[number] for number in (category, *first[category]["neg_category_ids"])]
        for category in dict.fromkeys(one["category_id"] for one in file.annotations)
    ]


def _softmax(scores: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Softmax within groups that lie one after another."""
    shifted = np.exp(scores - np.repeat(np.maximum.reduceat(scores, starts), sizes))
    return shifted / np.repeat(np.add.reduceat(shifted, starts), sizes)
