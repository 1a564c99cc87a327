"""FG-OVD's scores of a detector's predictions, equal to those of the official scripts.

The protocol, with N negatives: each distinct caption of the file that has N negatives is asked for
together with the first N of them, in the image of the first annotation that bears it. A box belongs
to its label, with that caption's score; a detector that gives no labels means the first of the
highest scores. Boxes of one vocabulary suppress each other whatever their
caption; the vocabularies of an image are then thrown together, and mean average precision is
computed over the right captions. Negatives have no ground truth: a wrong label takes the right one
away, and that is all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fgclip_det.fg_ovd.average_precision import LabelledBoxes, coco_summary
from fgclip_det.fg_ovd.files import (
    FGOVDFile,
    FGOVDVocabulary,
    check_n_negatives,
    read_fg_ovd,
)
from fgclip_det.fg_ovd.nms import suppress
from fgclip_det.fg_ovd.predictions import FGOVDPrediction, check_predictions, label_scores
from fgclip_det.fg_ovd.ranks import rank_boxes, summarize_ranks
from fgclip_det.fg_ovd.vocabulary_boxes import FoundBoxes, TrueBoxes, found_boxes, true_boxes

GroundTruth = str | Path | Mapping[str, Any] | FGOVDFile


def evaluate_fg_ovd(
    ground_truth: GroundTruth,
    predictions: Iterable[tuple],
    n_negatives: int = 10,
    *,
    strict: bool = False,
    with_ranks: bool = True,
    with_choices: bool = False,
) -> dict[str, Any]:
    """Score predictions as the official scripts do.

    As there, a caption without a prediction is left out, so that a detector that fails on some
    pictures gains: look at ``coverage``, or set ``strict``.

    Args:
        ground_truth: Official JSON: its path, its content, or `read_fg_ovd` of it.
        predictions: (annotation_id, boxes, scores) for each distinct caption, named by the first
            annotation that bears it, in any order: boxes (B, 4) xyxy in pixels of the picture,
            scores (B, 1 + N) of the right caption and of its first N negatives. A fourth value may
            give labels (B,), the column that each box counts for; None, or none, takes the first
            highest. Of more columns the first ones are used, and boxes with another label are
            labelled anew, so one inference with many negatives serves every smaller number. B may
            be 0. Entries for other annotations, and for those
            with fewer than N negatives, are not used.
        n_negatives: N; the published tables have 5 for the difficulty subsets and 2 for the
            attribute subsets.
        strict: Count what has no prediction as not found instead of leaving it out.
        with_ranks: Whether to compute ranks, which need every caption's score.
        with_choices: Whether to tell each box's rank and choice too.

    Returns:
        ``map``, ``map_50``, ``map_75``, ``map_small``, ``map_medium``, ``map_large``, ``mar_1``,
        ``mar_10``, ``mar_100``, ``mar_small``, ``mar_medium``, ``mar_large`` in 0..1, -1 where
        there is no such ground truth; ``n_images``; ``n_negatives``; ``strict``; ``ranks`` as of
        `summarize_ranks`, or None; ``coverage``: ``evaluated`` and ``eligible`` vocabularies, their
        ``share``, and predictions ``not_used``. With ``with_choices``, ``choices``: by annotation
        id the ``rank`` and the ``chosen`` place in the vocabulary, -1 where no box overlaps.

    Raises:
        ValueError: The annotation file or a prediction cannot be used, scores have fewer columns
            than 1 + N, or no annotation has N negatives.
    """
    file = read_fg_ovd(ground_truth)
    return evaluate_checked(
        file,
        check_predictions(file, predictions),
        n_negatives,
        strict=strict,
        with_ranks=with_ranks,
        with_choices=with_choices,
    )


def sweep_fg_ovd(
    ground_truth: GroundTruth,
    predictions: Iterable[tuple],
    max_negatives: int = 10,
    *,
    strict: bool = False,
    progress: bool = False,
) -> dict[int, dict[str, Any]]:
    """Score one inference with every number of negatives from 0.

    Not for detectors in which captions influence each other's scores or boxes: theirs with fewer
    negatives are others than the first ones of many.

    Args:
        ground_truth: See `evaluate_fg_ovd`.
        predictions: See `evaluate_fg_ovd`; taken once.
        max_negatives: The last number; scores need so many columns and one.
        strict: See `evaluate_fg_ovd`.
        progress: Whether to show a progress bar.

    Returns:
        `evaluate_fg_ovd`'s answer for each number of negatives that some annotation has.

    Raises:
        ValueError: See `evaluate_fg_ovd`.
    """
    file = read_fg_ovd(ground_truth)
    check_n_negatives(max_negatives)
    file.eligible(0)
    checked = check_predictions(file, predictions)
    numbers = [n for n in range(max_negatives + 1) if file.vocabularies(n)]
    shown = tqdm(numbers, desc="negatives", disable=None if progress else True, leave=False)
    return {n: evaluate_checked(file, checked, n, strict=strict) for n in shown}


def evaluate_checked(
    file: FGOVDFile,
    predictions: Mapping[int, FGOVDPrediction],
    n_negatives: int,
    *,
    strict: bool = False,
    with_ranks: bool = True,
    with_choices: bool = False,
) -> dict[str, Any]:
    """`evaluate_fg_ovd` of what `check_predictions` gave, which serves several numbers."""
    eligible = file.eligible(n_negatives)
    answered = [v for v in eligible if v.annotation_id in predictions]
    counted = eligible if strict else answered
    truth = true_boxes(file, counted)
    found = found_boxes(counted, predictions, n_negatives)
    own = label_scores(found.scores, found.labels)
    keep = suppress(found.vocabulary, found.boxes, own)
    found, own = FoundBoxes(*(values[keep] for values in found)), own[keep]
    result: dict[str, Any] = _average_precision(file, counted, found, own, truth)
    result["n_images"] = len({vocabulary.image_id for vocabulary in counted})
    result |= {"n_negatives": int(n_negatives), "strict": strict, "ranks": None}
    result["coverage"] = {
        "evaluated": len(answered),
        "eligible": len(eligible),
        "share": len(answered) / len(eligible),
        "not_used": len(predictions) - len(answered),
    }
    if with_ranks or with_choices:
        ranks, choices = rank_boxes(*found, truth.vocabulary, truth.boxes)
    if with_ranks:
        result["ranks"] = summarize_ranks(ranks, choices, n_negatives)
    if with_choices:
        rows = zip(truth.annotation_ids.tolist(), ranks.tolist(), choices.tolist(), strict=True)
        result["choices"] = {number: {"rank": r, "chosen": c} for number, r, c in rows}
    return result


def _average_precision(
    file: FGOVDFile,
    vocabularies: list[FGOVDVocabulary],
    found: FoundBoxes,
    own: np.ndarray,
    truth: TrueBoxes,
) -> dict[str, float]:
    order = {image["id"]: index for index, image in enumerate(file.images)}
    images = np.array([order[v.image_id] for v in vocabularies], dtype=np.int64)
    captions = np.array([v.category_ids for v in vocabularies], dtype=np.int64)
    captions = captions.reshape(len(vocabularies), found.scores.shape[1])
    labels = captions[found.vocabulary, found.labels]
    return coco_summary(
        LabelledBoxes(images[found.vocabulary], labels, found.boxes, own),
        LabelledBoxes(
            images[truth.vocabulary],
            captions[truth.vocabulary, 0],
            truth.boxes,
            np.zeros(len(truth.boxes), np.float32),
        ),
    )
