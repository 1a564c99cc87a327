"""AP50 over base, novel and all classes."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets.api_wrappers import COCO, COCOeval
from mmdet.evaluation import OVCocoMetric as MMDetOVCocoMetric
from mmdet.registry import METRICS
from mmengine.fileio import load
from mmengine.logging import MMLogger
from terminaltables import AsciiTable

_MAX_DETECTIONS = 100


@METRICS.register_module(force=True)
class OVCocoMetric(MMDetOVCocoMetric):
    """AP at IoU 0.5, averaged per class over the base, the novel and all classes, in percent.

    Takes the place of mmdet's metric of this name, which numbers classes by the order of the
    annotation file and not of the dataset's ``classes``, and has no value for a model that detects
    nothing. Classes come from the dataset's ``metainfo``. A class without a ground-truth box does
    not enter a mean; a mean over no class is -1, as in pycocotools, and its key is left out where
    the dataset has no such group.

    Args:
        ann_file: COCO annotation file; None takes the ground truth of the data samples.
        metric: Only "bbox".
        classwise: Whether to print the AP50 of each class too.
        format_only: Only write the predictions to ``outfile_prefix``; no numbers come back.
        outfile_prefix: Where predictions are kept, without ``.bbox.json``; None keeps none.
        backend_args: Of mmengine, to read ``ann_file``.
        collect_device: Of mmengine: "cpu" or "gpu".
        prefix: Put before each key, with a slash; None gives the plain ``AP50_novel``.

    Raises:
        ValueError: Another metric than "bbox"; or, while computing, the annotation file lacks a
            class of the dataset.
    """

    default_prefix = None

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | Sequence[str] = "bbox",
        classwise: bool = False,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        backend_args: dict[str, Any] | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        if metric not in ("bbox", ["bbox"], ("bbox",)):
            raise ValueError(f"OVCocoMetric has no metric {metric!r}: use 'bbox'")
        if ann_file is not None and "://" not in ann_file and not Path(ann_file).is_file():
            raise ValueError(
                f"no annotation file {ann_file!r}: check val_evaluator.ann_file, or make it first "
                "(tools/prepare_shapes.py for Shapes)"
            )
        super().__init__(
            ann_file=ann_file,
            metric="bbox",
            classwise=classwise,
            proposal_nums=(1, 10, _MAX_DETECTIONS),
            format_only=format_only,
            outfile_prefix=outfile_prefix,
            backend_args=backend_args,
            collect_device=collect_device,
            prefix=prefix,
        )

    def compute_metrics(self, results: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict:
        """Evaluates the whole dataset.

        Args:
            results: Ground truth and prediction of each image, as ``process`` stored them.

        Returns:
            ``AP50_base``, ``AP50_novel`` and ``AP50_all``, in percent.
        """
        ground_truths, predictions = zip(*results, strict=True)
        with tempfile.TemporaryDirectory() as scratch:
            outfile_prefix = self.outfile_prefix or str(Path(scratch) / "results")
            if self._coco_api is None:
                path = self.gt_to_coco_json(gt_dicts=ground_truths, outfile_prefix=outfile_prefix)
                with contextlib.redirect_stdout(io.StringIO()):
                    self._coco_api = COCO(path)
            # results2json writes cat_ids[label]: they must stand in the order of the labels.
            self.cat_ids = self._category_ids(self.dataset_meta["classes"])
            detections = load(self.results2json(predictions, outfile_prefix)["bbox"])
        if self.format_only:
            return {}
        ap50 = average_precision_50(self._coco_api, detections, self.cat_ids)
        metrics = self._means(ap50)
        self._log(metrics, ap50)
        return metrics

    def _category_ids(self, names: Sequence[str]) -> list[int]:
        ids = {c["name"]: c["id"] for c in self._coco_api.dataset["categories"]}
        missing = [name for name in names if name not in ids]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(names)} classes are no category of the annotation file, "
                f"the first is {missing[0]!r}: use the vocabulary that belongs to the file"
            )
        return [ids[name] for name in names]

    def _means(self, ap50: dict[int, float]) -> dict[str, float]:
        metrics = {}
        for group in ("base", "novel", "all"):
            names = self.dataset_meta.get("classes" if group == "all" else f"{group}_classes")
            if not names:
                continue
            values = [ap50[i] for i in self._category_ids(names)]
            values = [value for value in values if value >= 0]
            metrics[f"AP50_{group}"] = 100 * float(np.mean(values)) if values else -1.0
        return metrics

    def _log(self, metrics: dict[str, float], ap50: dict[int, float]) -> None:
        rows = [["classes", "with ground truth", "AP50"]]
        for key, value in metrics.items():
            group = key.removeprefix("AP50_")
            names = self.dataset_meta["classes" if group == "all" else f"{group}_classes"]
            seen = sum(ap50[i] >= 0 for i in self._category_ids(names))
            rows.append([f"{group} ({len(names)})", str(seen), f"{value:.2f}"])
        text = AsciiTable(rows).table
        if self.classwise:
            names = self.dataset_meta["classes"]
            values = [ap50[i] for i in self._category_ids(names)]
            classes = [
                [n, "-" if v < 0 else f"{100 * v:.2f}"] for n, v in zip(names, values, strict=True)
            ]
            text += "\n" + AsciiTable([["class", "AP50"], *classes]).table
        MMLogger.get_current_instance().info("\n" + text)


def average_precision_50(
    ground_truth: COCO, detections: list[dict[str, Any]], category_ids: Sequence[int]
) -> dict[int, float]:
    """AP at IoU 0.5 of each category, by pycocotools.

    Args:
        ground_truth: Annotations; every image in it counts, detected on or not.
        detections: COCO results: ``image_id``, ``category_id``, ``bbox`` (xywh, px), ``score``.
        category_ids: Categories to evaluate.

    Returns:
        Category id -> AP50 in 0..1, or -1 for a category without ground truth.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        # pycocotools fails on an empty list; a model that finds nothing must still get its zeros.
        found = ground_truth.loadRes(detections) if detections else COCO()
        evaluator = COCOeval(ground_truth, found, "bbox")
        evaluator.params.catIds = list(category_ids)
        evaluator.params.imgIds = ground_truth.getImgIds()
        evaluator.params.iouThrs = np.array([0.5])
        evaluator.params.maxDets = [1, 10, _MAX_DETECTIONS]
        evaluator.evaluate()
        evaluator.accumulate()
    # (IoU, recall, class, area, detections). pycocotools sorts the ids that it was given.
    precision = evaluator.eval["precision"][0, :, :, 0, -1]
    return {int(i): float(precision[:, k].mean()) for k, i in enumerate(evaluator.params.catIds)}
