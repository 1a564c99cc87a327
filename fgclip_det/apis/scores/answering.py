"""From regions and what is asked for to what is reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from fgclip_det.apis.detections import Detections
from fgclip_det.apis.detector_loading import OpenVocabDetector
from fgclip_det.apis.scores.closest import closest
from fgclip_det.apis.scores.competing import Asked
from fgclip_det.apis.scores.limits import Limits


def answer(
    model: OpenVocabDetector,
    images: Sequence[Any],
    asked: Sequence[Asked],
    limits: Limits,
    one_name: bool = False,
) -> list[Detections]:
    """Detections in regions.

    Args:
        model: Answers.
        images: `ImageRegions`.
        asked: What is asked for in each.
        limits: Of what is reported.
        one_name: Whether of boxes that overlap, whatever their names, the best is reported.
    """
    regions = [image.regions for image in images]
    # Where nothing is to compete, confidences are as good to choose by, and need what they are of.
    hides = model.calibration is None or any(one.competitors is not None for one in asked)
    found = model.classify(
        regions,
        [one.texts for one in asked],
        competitors=[
            one.competitors if hides or one.is_shown else model.competition.against(one.texts)
            for one in asked
        ],
        contradictory=[one.contradictory for one in asked],
        one_name=one_name,
        counts=[one.count for one in asked],
        hides=hides,
    )
    answers = []
    for image, instances, one in zip(images, found, asked, strict=True):
        told = as_detections(instances, one, image, limits)
        if not len(told):
            best = instances.metainfo.get("best")
            told = replace(told, closest=closest(model, image.regions, one, one_name, best))
        answers.append(told)
    return answers


def as_detections(instances: InstanceData, asked: Asked, image: Any, limits: Limits) -> Detections:
    """Turn the answer of a detector's `classify` for one picture into `Detections`.

    Args:
        instances: ``bboxes`` (M, 4) xyxy in pixels of the picture, ``scores`` (M,), ``labels``
            (M,): rows of the texts; those beyond what is asked for are of negatives, which are not
            reported; and ``confidences`` or ``evidence`` (M,) of a calibrated detector.
        asked: What was asked for.
        image: `ImageRegions`, where it was looked for.
        limits: Of what is reported.
    """
    limits = limits.of_shown if asked.is_shown else limits
    boxes = instances.bboxes.float().cpu()
    boxes[:, 0::2] = boxes[:, 0::2].clamp(0, image.width)
    boxes[:, 1::2] = boxes[:, 1::2].clamp(0, image.height)
    scores, labels = instances.scores.float().cpu(), instances.labels.cpu()
    inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    kept = (scores >= limits.score_thr) & inside & (labels < asked.count)
    confidences: Tensor | None = instances.get("confidences")
    figures: Tensor | None = instances.get("evidence") if confidences is None else confidences
    least = limits.confidences(asked.vocabulary)
    if figures is not None and least is not None:
        kept &= figures.cpu() >= torch.tensor([*least, 0.0])[labels.clamp(max=asked.count)]
    rows = kept.nonzero().squeeze(1)
    # What was chosen without competitors falls by score, and what was chosen by evidence does not.
    ranks = scores if confidences is None else confidences.cpu()
    rows = rows[ranks[rows].sort(descending=True, stable=True).indices]
    labels = labels[rows]
    return Detections(
        names=[asked.names[label] for label in labels.tolist()],
        boxes=boxes[rows],
        scores=scores[rows],
        labels=labels,
        vocabulary=list(asked.names),
        width=image.width,
        height=image.height,
        image_path=image.image_path,
        confidences=None if confidences is None else confidences.cpu()[rows],
        conf_thr=limits.told,
    )
