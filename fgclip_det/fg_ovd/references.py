"""What FG-OVD's numbers are to be compared with: no detector can be read without these rows.

* oracle: the ground-truth boxes with the right captions. Not 1, since boxes of one caption overlap
  and suppress each other.
* random label: the ground-truth boxes with captions drawn at random, about 1 / (N + 1).
* text only: the ground-truth boxes with the caption that a bag of words prefers.
* N = 0: the detector's own boxes, asked for the right caption alone: how well it localises with
  nothing to be confused with. Close to a ceiling, but none: other captions also suppress boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fgclip_det.fg_ovd.evaluate import GroundTruth, evaluate_fg_ovd
from fgclip_det.fg_ovd.files import FGOVDFile, FGOVDVocabulary, read_fg_ovd
from fgclip_det.fg_ovd.predictions import FGOVDPrediction
from fgclip_det.fg_ovd.text_prior import CaptionScorer

ORACLE, RANDOM = "oracle (true boxes and captions)", "random caption (true boxes)"
TEXT_ONLY, ALONE = "text only (true boxes)", "N = 0, the right caption alone"


def oracle_predictions(ground_truth: GroundTruth, n_negatives: int) -> list[FGOVDPrediction]:
    """The ground truth as predictions: the right caption scores 1, the others 0."""
    scores = np.zeros(1 + n_negatives, np.float32)
    scores[0] = 1
    return _on_true_boxes(
        read_fg_ovd(ground_truth), n_negatives, lambda _, number: np.tile(scores, (number, 1))
    )


def random_predictions(
    ground_truth: GroundTruth, n_negatives: int, seed: int = 0
) -> list[FGOVDPrediction]:
    """The true boxes, each caption of each box with a score drawn evenly from 0 to 1."""
    random = np.random.default_rng(seed)
    return _on_true_boxes(
        read_fg_ovd(ground_truth),
        n_negatives,
        lambda _, number: random.random((number, 1 + n_negatives), np.float32),
    )


def text_only_predictions(
    ground_truth: GroundTruth, n_negatives: int, scorer: CaptionScorer
) -> list[FGOVDPrediction]:
    """The true boxes, with the scorer's score of each caption, whatever is in the box."""
    file = read_fg_ovd(ground_truth)
    return _on_true_boxes(
        file,
        n_negatives,
        lambda vocabulary, number: np.tile(scorer.score(file.captions_of(vocabulary)), (number, 1)),
    )


def reference_rows(
    ground_truth: GroundTruth,
    n_negatives: int,
    predictions: Iterable[tuple[int, Any, Any]] | None = None,
    scorer: CaptionScorer | None = None,
    *,
    strict: bool = False,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """The rows that stand beside a detector's.

    Args:
        ground_truth: See `evaluate_fg_ovd`.
        n_negatives: N.
        predictions: The detector's, for the row with N = 0; None leaves it out.
        scorer: Fitted on the matching validation file; None leaves the text-only row out.
        strict: See `evaluate_fg_ovd`; for the row with N = 0.
        seed: Of the random captions.

    Returns:
        `evaluate_fg_ovd`'s answer by name of the row.

    Raises:
        ValueError: See `evaluate_fg_ovd`.
    """
    file = read_fg_ovd(ground_truth)
    rows = {}
    if predictions is not None:
        rows[ALONE] = evaluate_fg_ovd(file, predictions, 0, strict=strict)
    rows[ORACLE] = evaluate_fg_ovd(file, oracle_predictions(file, n_negatives), n_negatives)
    drawn = random_predictions(file, n_negatives, seed)
    rows[RANDOM] = evaluate_fg_ovd(file, drawn, n_negatives)
    if scorer is not None:
        guessed = text_only_predictions(file, n_negatives, scorer)
        rows[TEXT_ONLY] = evaluate_fg_ovd(file, guessed, n_negatives)
    return rows


def _on_true_boxes(
    file: FGOVDFile,
    n_negatives: int,
    scores_of: Callable[[FGOVDVocabulary, int], np.ndarray],
) -> list[FGOVDPrediction]:
    """Predictions whose scores (B, 1 + N) come from `scores_of(vocabulary, B)`."""
    boxes: dict[tuple[int, int], list[list[float]]] = {}
    for one in file.annotations:
        if len(one["neg_category_ids"]) >= n_negatives:
            x, y, width, height = one["bbox"]
            found = boxes.setdefault((one["image_id"], one["category_id"]), [])
            found.append([x, y, x + width, y + height])
    answers = []
    for vocabulary in file.vocabularies(n_negatives):
        of_caption = boxes[vocabulary.image_id, vocabulary.category_ids[0]]
        scores = scores_of(vocabulary, len(of_caption)).astype(np.float32)
        corners = np.array(of_caption, dtype=np.float32)
        answers.append(FGOVDPrediction(vocabulary.annotation_id, corners, scores))
    return answers
