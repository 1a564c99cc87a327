"""From files of queries to figures: regions once a picture, then each name by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from fgclip_det.apis.argument_checks import check_batch_size
from fgclip_det.apis.inferencer import OpenVocabInferencer
from fgclip_det.apis.presence.values import VALUES as VALUES
from fgclip_det.apis.presence.values import Values
from fgclip_det.datasets.image_files import check_image_paths
from fgclip_det.datasets.presence_queries import AskedPicture, Query, read_queries
from fgclip_det.evaluation.presence.counts import Answer, box_iou
from fgclip_det.evaluation.presence.summary import (
    REPORTED,
    RIGHT_IOU,
    Outcome,
    summarize,
    tuned_threshold,
)
from fgclip_det.io import quoted, read_image
from fgclip_det.models.regions.detection_selection import select_detections
from fgclip_det.models.regions.region_classification import to_original
from fgclip_det.models.regions.regions import Regions
from fgclip_det.vocabulary import Vocabulary


def evaluate_presence(
    detector: OpenVocabInferencer,
    tune: tuple[str | os.PathLike, str | os.PathLike],
    test: tuple[str | os.PathLike, str | os.PathLike],
    recall: float = 0.95,
    value: str | None = None,
    batch_size: int = 8,
    progress: bool = True,
    needs_shares: bool = False,
    vocabulary: Any = None,
) -> dict[str, Any]:
    """Ask what is there and what is not, one name at a time.

    The threshold is fixed on one set of pictures, and judged on the other.

    Args:
        detector: Who is asked.
        tune: File of queries, and the folder of its pictures: there the threshold is the largest
            that reports this share of what is there.
        test: File and folder for all other figures.
        recall: That share, in (0, 1].
        value: What is compared with the threshold: see `Values`.
        batch_size: Pictures that go through the network at once.
        progress: Whether to show a progress bar.
        needs_shares: Whether values that are not in [0, 1] are refused, as for a diagram.
        vocabulary: Any form of one with the queries' texts as names; None for the texts alone.

    Returns:
        `summarize`'s, and the ``value``, the ``tune`` and ``test`` files, the ``target_recall``,
        and the ``tuned_recall`` that the threshold has where it was fixed: less than the former
        where competitors leave no more.

    Raises:
        ValueError: A file or a picture cannot be read or used, nothing is there in the pictures of
            `tune`, or a setting is out of range.
    """
    check_batch_size(batch_size)
    if not 0 < recall <= 1:
        raise ValueError(f"recall is {recall}: give a share above 0, at most 1")
    tuning, testing = read_queries(*tune), read_queries(*test)
    # Before the network looks into the first.
    check_image_paths(str(picture.path) for picture in chain(tuning, testing))
    there = _only_present(tuning, tune[0])
    texts = [query.text for picture in chain(tuning, testing) for query in picture.queries]
    entries = texts if vocabulary is None else Vocabulary.parse(vocabulary).subset(texts)
    values = Values(detector, entries, value)
    if needs_shares and not values.is_share:
        raise ValueError(
            f"values of the kind {quoted(values.kind)} are no probabilities to draw: leave the "
            "diagram out, or choose another --value"
        )
    with tqdm(total=len(there) + len(testing), desc="pictures", disable=not progress) as bar:
        tuned = list(_outcomes(detector, values, there, np.inf, batch_size, bar))
        threshold = max(tuned_threshold(tuned, recall), values.never)
        keep = min(threshold, REPORTED) if values.is_share else threshold
        outcomes = list(_outcomes(detector, values, testing, keep, batch_size, bar))
    told = {"value": values.kind, "target_recall": recall, "tune": list(map(str, tune))}
    told["test"] = list(map(str, test))
    told["tuned_recall"] = sum(one.value >= threshold for one in tuned) / len(tuned)
    return {**told, **summarize(outcomes, threshold, is_share=values.is_share)}


def _only_present(
    pictures: Sequence[AskedPicture], source: str | os.PathLike
) -> list[AskedPicture]:
    """What a threshold is fixed on; `source` is the file of the queries."""
    there = []
    for picture in pictures:
        kept = tuple(query for query in picture.queries if query.kind == "present")
        if kept:
            there.append(AskedPicture(picture.path, kept))
    if not there:
        raise ValueError(f"{str(source)!r} has no query of the kind 'present' to tune on: add some")
    return there


def _outcomes(
    detector: OpenVocabInferencer,
    values: Values,
    pictures: Sequence[AskedPicture],
    keep: float,
    batch_size: int,
    bar: tqdm,
) -> Iterator[Outcome]:
    """Those of all queries, with the boxes whose value is `keep` at least."""
    for start in range(0, len(pictures), batch_size):
        batch = pictures[start : start + batch_size]
        found = detector.propose(
            # As the boxes of the queries see them, whatever turn EXIF tells of.
            [read_image(picture.path, "stored") for picture in batch],
            batch_size=batch_size,
            progress=False,
        )
        for number, (picture, image) in enumerate(zip(batch, found, strict=True), start=start):
            of_all = values(image.regions, [query.text for query in picture.queries])
            regions = image.regions.to("cpu")
            test_cfg = detector.model.region_classifier.test_cfg
            for query, own in zip(picture.queries, of_all.T, strict=True):
                made = _outcome(number, query, regions, own, keep, test_cfg)
                yield made if len(own) else replace(made, value=values.least)
        bar.update(len(batch))


def _outcome(
    picture: int, query: Query, regions: Regions, values: Tensor, keep: float, test_cfg: Any
) -> Outcome:
    """One query's.

    Args:
        picture: Which.
        query: What was asked.
        regions: K, on the CPU; of none the value is 0.
        values: (K,) for this query.
        keep: Least value of a box that is kept.
        test_cfg: Of the second stage, for suppression.
    """
    boxes = to_original(regions.boxes, regions.image_meta)
    value, right = 0.0, False
    if len(values):
        best = int(values.argmax())
        value = float(values[best])
        right = bool((box_iou(boxes[best].numpy(), query.boxes) >= RIGHT_IOU).any())
    kept = select_detections(
        regions.boxes,
        values[:, None],
        # It keeps what is above, and float32 has a number next to this one.
        score_thr=float(np.nextafter(np.float32(keep), np.float32(-np.inf))),
        iou_threshold=test_cfg["nms"]["iou_threshold"],
        max_per_img=test_cfg["max_per_img"],
    )
    found = boxes[kept.regions].numpy(), kept.scores.numpy()
    answer = Answer(*found, query.boxes)
    return Outcome(picture, query.kind, value, right, answer, query.differs)
