"""The boxes that count for vocabularies: the true ones, and those that a detector found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fgclip_det.fg_ovd.files import FGOVDFile, FGOVDVocabulary
from fgclip_det.fg_ovd.predictions import FGOVDPrediction, first_highest


class TrueBoxes(NamedTuple):
    """Ground truth; G boxes in the order of the file.

    Attributes:
        annotation_ids: (G,) int.
        vocabulary: (G,) int, index of the vocabulary that each is asked for in.
        boxes: (G, 4) float32, xyxy, in pixels of the picture as stored.
    """

    annotation_ids: np.ndarray
    vocabulary: np.ndarray
    boxes: np.ndarray


class FoundBoxes(NamedTuple):
    """A detector's D boxes by vocabulary.

    Attributes:
        vocabulary: (D,) int, index of the vocabulary that each was found for.
        boxes: (D, 4) float32, xyxy, in pixels of the picture as stored.
        scores: (D, 1 + N) float32, the right caption first.
        labels: (D,) int, the column of `scores` that each counts for.
    """

    vocabulary: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def true_boxes(file: FGOVDFile, vocabularies: Sequence[FGOVDVocabulary]) -> TrueBoxes:
    """The boxes of the right captions, in the images that are asked for them.

    Boxes with fewer negatives than their vocabulary do not count.

    Args:
        file: Ground truth.
        vocabularies: Of it.
    """
    places = {(v.image_id, v.category_ids[0]): index for index, v in enumerate(vocabularies)}
    rows = []
    for annotation in file.annotations:
        place = places.get((annotation["image_id"], annotation["category_id"]))
        if place is None:
            continue
        if len(annotation["neg_category_ids"]) + 1 >= len(vocabularies[place].category_ids):
            rows.append((annotation["id"], place, annotation["bbox"]))
    xywh = np.array([row[2] for row in rows], dtype=np.float64).reshape(-1, 4)
    # The corner is added up in doubles, then rounded, as reading the file into float32 would.
    boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1).astype(np.float32)
    ids, places_of = (np.array([row[i] for row in rows], dtype=np.int64) for i in range(2))
    return TrueBoxes(ids, places_of, boxes)


def found_boxes(
    vocabularies: Sequence[FGOVDVocabulary],
    predictions: Mapping[int, FGOVDPrediction],
    n_negatives: int,
) -> FoundBoxes:
    """The boxes that were found for vocabularies, with the scores of their first captions.

    A box whose label is none of these has the first highest of their scores.

    Args:
        vocabularies: With N negatives each.
        predictions: By annotation id; those for other vocabularies are not used.
        n_negatives: N.

    Raises:
        ValueError: See `check_columns`.
    """
    width = 1 + n_negatives
    indices, labels = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    boxes, scores = [np.zeros((0, 4), np.float32)], [np.zeros((0, width), np.float32)]
    for index, vocabulary in enumerate(vocabularies):
        prediction = predictions.get(vocabulary.annotation_id)
        if prediction is None or not len(prediction.boxes):
            continue
        check_columns(prediction, n_negatives)
        indices.append(np.full(len(prediction.boxes), index))
        boxes.append(prediction.boxes)
        scores.append(prediction.scores[:, :width])
        best = first_highest(scores[-1])
        own = best if prediction.labels is None else prediction.labels
        labels.append(np.where(own < width, own, best))
    return FoundBoxes(*map(np.concatenate, (indices, boxes, scores, labels)))


def check_columns(prediction: FGOVDPrediction, n_negatives: int) -> None:
    """Refuse boxes with too few scores.

    Raises:
        ValueError: There are fewer columns than captions.
    """
    width = prediction.scores.shape[1]
    if len(prediction.boxes) and width < 1 + n_negatives:
        raise ValueError(
            f"scores of annotation {prediction.annotation_id} have {width} columns, but "
            f"{1 + n_negatives} are needed for {n_negatives} negatives: use fewer, or run the "
            "detector with as many"
        )
