"""Average precision of results of a detector that an annotation file tells the truth of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from fgclip_det.datasets.annotation_files import AnnotationFile
from fgclip_det.evaluation import OVCocoMetric, OVLVISMetric
from fgclip_det.vocabulary import Vocabulary

Result = dict[str, Any]


def metric_of(file: AnnotationFile, vocabulary: Vocabulary) -> OVCocoMetric | OVLVISMetric:
    """The metric of an annotation file, told of its classes: LVIS's where categories are LVIS's.

    Raises:
        ValueError: Some categories are LVIS's and others are not.
    """
    rare = [category for category in file.categories if "frequency" in category]
    if rare and len(rare) < len(file.categories):
        raise ValueError(
            f"{len(rare)} of {len(file.categories)} categories of {str(file.path)!r} have a "
            "'frequency', as LVIS's have, and the others have none: give each one, or none, or "
            "leave the metrics out (--no-metrics)"
        )
    metric = (OVLVISMetric if rare else OVCocoMetric)(str(file.path))
    metric.dataset_meta = {
        "classes": vocabulary.names,
        "base_classes": vocabulary.base_classes,
        "novel_classes": vocabulary.novel_classes,
    }
    return metric


def evaluate(
    metric: OVCocoMetric | OVLVISMetric,
    file: AnnotationFile,
    results: Mapping[int, Sequence[Result]],
    ids: Sequence[int],
) -> dict[str, float]:
    """Average precision of results; prints a table.

    Args:
        metric: Of the annotation file, told of its classes.
        file: The annotation file.
        results: Results of each image id that has any.
        ids: Category id of each class of the metric.
    """
    labels = {category: label for label, category in enumerate(ids)}
    for image in file.images:
        own = results.get(image["id"], ())
        boxes = torch.tensor([one["bbox"] for one in own], dtype=torch.float64).view(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found = {
            "bboxes": boxes,
            "scores": torch.tensor([one["score"] for one in own], dtype=torch.float64),
            "labels": torch.tensor([labels[one["category_id"]] for one in own]).long(),
        }
        shape = (image["height"], image["width"])
        sample = {"img_id": image["id"], "ori_shape": shape, "pred_instances": found}
        metric.process({}, [sample])
    return metric.compute_metrics(metric.results)
