"""LVIS's average precision of boxes and masks, over all, rare, common and frequent classes."""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from mmdet.registry import METRICS
from mmdet.structures.mask import encode_mask_results
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from pycocotools.coco import COCO
from terminaltables import AsciiTable

from fgclip_det.evaluation.coco_style.class_precision import (
    Detections,
    annotations_by_category,
    class_precision,
)
from fgclip_det.evaluation.coco_style.libraries import (
    Choice,
    Library,
    check_choice,
    counting_library,
)
from fgclip_det.io import listed, read_json

_MAX_DETECTIONS = 300
_KINDS = ("bbox", "segm")
_FREQUENCIES = {"r": "rare", "c": "common", "f": "frequent"}


@METRICS.register_module()
class OVLVISMetric(BaseMetric):
    """AP over IoU .50:.95 as LVIS defines it (arXiv 1908.03195), in percent.

    A class is evaluated only in images of which it is known whether it is there: those with one of
    its annotations, and those that list it in ``neg_category_ids``. Of an image the 300 best
    detections count. Rare classes are the novel ones of OV-LVIS. The numbers are those of the
    package ``lvis``, which is not needed.

    Args:
        ann_file: LVIS annotation file; its categories have a ``frequency``.
        metric: "bbox", "segm" or both; "segm" needs a detector with masks.
        collect_device: Of mmengine: "cpu" or "gpu".
        prefix: Put before each key, with a slash; None gives the plain ``bbox_APr``.
        library: "faster-coco-eval" or "pycocotools", which give the same numbers; "auto" takes the
            first where it is installed.

    Raises:
        ValueError: Another metric, or `ann_file` is missing or no such file; when it is told the
            dataset's ``metainfo``: the file lacks a class; while processing: an image is not in the
            file, or a detector without masks is to be evaluated on them.
    """

    default_prefix = None

    def __init__(
        self,
        ann_file: str,
        metric: str | Sequence[str] = "bbox",
        collect_device: str = "cpu",
        prefix: str | None = None,
        library: Choice = "auto",
    ) -> None:
        check_choice(library)
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.kinds = (metric,) if isinstance(metric, str) else tuple(metric)
        if not self.kinds or not set(self.kinds) <= set(_KINDS):
            raise ValueError(f"OVLVISMetric has no metric {metric!r}: use 'bbox', 'segm' or both")
        self.library = library
        self._truth = _read(ann_file)

    @property
    def dataset_meta(self) -> dict[str, Any] | None:
        """``metainfo`` of the dataset, with ``classes``; checked when it is set."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict[str, Any]) -> None:
        self._dataset_meta = dataset_meta
        self._category_ids(dataset_meta["classes"])

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Takes a batch.

        Args:
            data_batch: Not read.
            data_samples: ``img_id`` and ``pred_instances``: ``bboxes`` (M, 4) xyxy, ``scores``
                (M,), ``labels`` (M,) and, for "segm", ``masks`` (M, H, W) bool, all in pixels of
                the original picture.
        """
        for sample in data_samples:
            found = sample["pred_instances"]
            if sample["img_id"] not in self._truth.imgs:
                raise ValueError(
                    f"image {sample['img_id']!r} was detected on, but is not in the annotation "
                    "file: give the evaluator's ann_file and the test dataset's the same images"
                )
            if "segm" in self.kinds and "masks" not in found:
                raise ValueError(
                    "the detector gives no masks: evaluate it with metric='bbox', or use the "
                    "OpenVocabMaskRoIHead"
                )
            scores = found["scores"].float().cpu().numpy()
            best = np.argsort(-scores, kind="stable")[:_MAX_DETECTIONS]
            boxes = found["bboxes"].float().cpu().numpy()[best]
            boxes[:, 2:] -= boxes[:, :2]
            result = {
                "image_id": sample["img_id"],
                "bbox": boxes,
                "scores": scores[best],
                "labels": found["labels"].cpu().numpy()[best],
            }
            if "segm" in self.kinds:
                result["segm"] = encode_mask_results(found["masks"].cpu().numpy()[best])
            self.results.append(result)

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Evaluates the whole dataset.

        Args:
            results: As ``process`` stored them.

        Returns:
            ``bbox_AP``, ``bbox_AP50``, ``bbox_AP75``, and ``bbox_APr``, ``bbox_APc``, ``bbox_APf``
            of rare, common and frequent classes; ``segm_...`` likewise. -1 for a mean over no class
            with ground truth.
        """
        if not results:
            raise ValueError("no image was evaluated: check the test dataset's ann_file")
        ids = self._category_ids(self.dataset_meta["classes"])
        counted_by = counting_library(self.library)
        metrics: dict[str, float] = {}
        for kind in self.kinds:
            detections = _detections(results, kind, ids)
            precision = _precision_by_class(self._truth, detections, kind, ids, counted_by)
            metrics.update(self._means(precision, kind))
        rows = [["", "AP", "AP50", "AP75", "APr", "APc", "APf"]]
        for kind in self.kinds:
            values = [value for key, value in metrics.items() if key.startswith(kind)]
            rows.append([kind, *(f"{value:.2f}" for value in values)])
        MMLogger.get_current_instance().info(f"\nOV-LVIS, percent\n{AsciiTable(rows).table}")
        return metrics

    def _category_ids(self, names: Sequence[str]) -> list[int]:
        ids = {c["name"]: c["id"] for c in self._truth.dataset["categories"]}
        missing = [name for name in names if name not in ids]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(names)} classes are no category of the annotation file, "
                f"the first: {listed(list(map(repr, missing)), 'unknown classes')}: use the "
                "vocabulary that belongs to the file"
            )
        return [ids[name] for name in names]

    def _means(self, precision: dict[int, np.ndarray], kind: str) -> dict[str, float]:
        table = np.array(list(precision.values())).reshape(-1, 10)
        frequencies = np.array([self._truth.cats[i]["frequency"] for i in precision])
        values = {"AP": table, "AP50": table[:, :1], "AP75": table[:, 5:6]}
        values.update({f"AP{key}": table[frequencies == key] for key in _FREQUENCIES})
        return {
            f"{kind}_{key}": 100 * float(part.mean()) if part.size else -1.0
            for key, part in values.items()
        }


def _read(ann_file: str) -> COCO:
    try:
        values = read_json(ann_file, "annotation file", max_bytes=None)
    except ValueError as error:
        raise ValueError(
            f"{error}; check val_evaluator.ann_file, or make it first (tools/prepare_ov_lvis.py)"
        ) from None
    try:
        strange = {c["name"] for c in values["categories"] if c["frequency"] not in _FREQUENCIES}
        # Numbered from 1: pycocotools takes a match with the id 0 for none.
        annotations = [one for one in values["annotations"] if one["area"] > 0]
        values["annotations"] = [
            {"iscrowd": 0, **one, "id": k} for k, one in enumerate(annotations, 1)
        ]
        truth = COCO()
        truth.dataset = values
        with contextlib.redirect_stdout(io.StringIO()):
            truth.createIndex()
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"annotation file {ann_file!r} is not in LVIS's format, it lacks {error}: take one "
            "that tools/prepare_ov_lvis.py made"
        ) from None
    if strange:
        raise ValueError(f"{ann_file!r}: {min(strange)!r} has a frequency other than r, c and f")
    return truth


def _detections(results: list[dict[str, Any]], kind: str, ids: Sequence[int]) -> Detections:
    found = Detections(
        images=np.repeat([one["image_id"] for one in results], [len(r["labels"]) for r in results]),
        categories=np.asarray(ids)[np.concatenate([one["labels"] for one in results])],
        scores=np.concatenate([one["scores"] for one in results]),
    )
    if kind == "segm":
        return replace(found, masks=[mask for one in results for mask in one["segm"]])
    return replace(found, boxes=np.concatenate([one["bbox"] for one in results]))


def _precision_by_class(
    truth: COCO, detections: Detections, kind: str, ids: Sequence[int], counted_by: Library
) -> dict[int, np.ndarray]:
    """(10,) mean precision at each IoU of each class that has ground truth."""
    absent = _images_that_list(truth, "neg_category_ids")
    partial = _images_that_list(truth, "not_exhaustive_category_ids")
    annotations = annotations_by_category(truth)
    sizes = detections.sizes()
    precision = {}
    for category, rows in zip(ids, detections.rows_of(ids), strict=True):
        if category not in annotations:
            continue
        own = annotations[category]
        known = list(absent[category] | {one["image_id"] for one in own})
        # What covers nothing is no detection, and no false one either.
        counted = (sizes[rows] > 0) & np.isin(detections.images[rows], known)
        precision[category] = class_precision(
            counted_by,
            own,
            truth.imgs,
            detections,
            rows[counted],
            _MAX_DETECTIONS,
            kind,
            not_exhaustive=partial[category],
        ).mean(axis=1)
    return precision


def _images_that_list(truth: COCO, key: str) -> dict[int, set]:
    """Ids of the images whose entry names a class under `key`, by class."""
    found = defaultdict(set)
    for image in truth.imgs.values():
        for category in image.get(key, ()):
            found[category].add(image["id"])
    return found
