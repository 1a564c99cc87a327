"""Reference rows that give FG-OVD's numbers their meaning: oracle, random, text only.

* oracle: the ground-truth boxes with the right captions. Not 1, since boxes of one caption overlap
  and suppress each other.
* random caption: the ground-truth boxes with captions drawn at random, about 1 / (N + 1).
* text only: the ground-truth boxes with the caption that a bag of words prefers.
* N = 0: the detector's own boxes, asked for the right caption alone: how well it localises with
  nothing to be confused with. Close to a ceiling, but none: other captions also suppress boxes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fgclip_det.fg_ovd.evaluate import evaluate_checked
from fgclip_det.fg_ovd.files import FGOVDFile, FGOVDVocabulary
from fgclip_det.fg_ovd.predictions import FGOVDPrediction
from fgclip_det.fg_ovd.text_prior import CaptionScorer
from fgclip_det.fg_ovd.vocabulary_boxes import true_boxes

ORACLE, RANDOM = "oracle (true boxes and captions)", "random caption (true boxes)"
TEXT_ONLY, ALONE = "text only (true boxes)", "N = 0, the right caption alone"


def oracle_predictions(file: FGOVDFile, n_negatives: int) -> list[FGOVDPrediction]:
    """The ground truth as predictions: the right caption scores 1, the others 0."""
    scores = np.zeros(1 + n_negatives, np.float32)
    scores[0] = 1
    return _on_true_boxes(file, n_negatives, lambda _, number: np.tile(scores, (number, 1)))


def random_predictions(file: FGOVDFile, n_negatives: int, seed: int = 0) -> list[FGOVDPrediction]:
    """The true boxes, each caption of each box with a score drawn evenly from 0 to 1."""
    random = np.random.default_rng(seed)
    return _on_true_boxes(
        file,
        n_negatives,
        lambda _, number: random.random((number, 1 + n_negatives), np.float32),
    )


def text_only_predictions(
    file: FGOVDFile, n_negatives: int, scorer: CaptionScorer
) -> list[FGOVDPrediction]:
    """The true boxes, with the scorer's score of each caption, whatever is in the box."""
    return _on_true_boxes(
        file,
        n_negatives,
        lambda vocabulary, number: np.tile(scorer.score(file.captions_of(vocabulary)), (number, 1)),
    )


def reference_rows(
    file: FGOVDFile, n_negatives: int, scorer: CaptionScorer | None = None, *, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """The rows that stand beside a detector's and need no detector.

    Args:
        file: Ground truth.
        n_negatives: N.
        scorer: Fitted on the matching validation file; None leaves the text-only row out.
        seed: Of the random captions.

    Returns:
        `evaluate_fg_ovd`'s answer by name of the row.

    Raises:
        ValueError: See `evaluate_fg_ovd`.
    """
    rows = {
        ORACLE: oracle_predictions(file, n_negatives),
        RANDOM: random_predictions(file, n_negatives, seed),
    }
    if scorer is not None:
        rows[TEXT_ONLY] = text_only_predictions(file, n_negatives, scorer)
    return {
        name: evaluate_checked(file, {one.annotation_id: one for one in given}, n_negatives)
        for name, given in rows.items()
    }


def _on_true_boxes(
    file: FGOVDFile,
    n_negatives: int,
    scores_of: Callable[[FGOVDVocabulary, int], np.ndarray],
) -> list[FGOVDPrediction]:
    """Predictions whose scores (B, 1 + N) come from `scores_of(vocabulary, B)`."""
    vocabularies = file.vocabularies(n_negatives)
    truth = true_boxes(file, vocabularies)
    order = np.argsort(truth.vocabulary, kind="stable")
    starts = np.searchsorted(truth.vocabulary[order], np.arange(1, len(vocabularies)))
    answers = []
    for vocabulary, boxes in zip(vocabularies, np.split(truth.boxes[order], starts), strict=True):
        scores = scores_of(vocabulary, len(boxes)).astype(np.float32)
        answers.append(FGOVDPrediction(vocabulary.annotation_id, boxes, scores))
    return answers
