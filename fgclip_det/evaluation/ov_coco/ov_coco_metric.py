"""AP over base, novel and all classes, in both protocols of OV-COCO, and recall of proposals."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.evaluation import OVCocoMetric as MMDetOVCocoMetric
from mmdet.registry import METRICS
from mmengine.logging import MMLogger
from pycocotools.coco import COCO

from fgclip_det.evaluation.coco_style.class_precision import Detections
from fgclip_det.evaluation.coco_style.libraries import Choice, check_choice, counting_library
from fgclip_det.evaluation.ov_coco.average_precision import average_precision
from fgclip_det.evaluation.ov_coco.ground_truth import category_ids, read_ground_truth
from fgclip_det.evaluation.ov_coco.proposal_recall import boxes_by_image, proposal_recall
from fgclip_det.evaluation.ov_coco.tables import class_table, group_table

_GROUPS = ("base", "novel")
_GROUP_SIZES = {"base": 48, "novel": 17}
_TITLES = {"65": "OV-COCO, 65-way: ", "80": "OV-COCO, 80-way two-json: "}


@METRICS.register_module(force=True)
class OVCocoMetric(MMDetOVCocoMetric):
    """AP averaged per class over the base, the novel and all classes, in percent.

    Takes the place of mmdet's metric of this name, which numbers classes by the order of the
    annotation file and not of the dataset's ``classes``, and has no value for a model that detects
    nothing. Classes come from the dataset's ``metainfo``. A class without a ground-truth box does
    not enter a mean; a mean over no class is -1, as in pycocotools, and its keys are left out where
    the dataset has no such group.

    The two protocols of OV-COCO differ in names and images, never in what AP is:

    - ``"65"`` (OVR-CNN, F-ViT): the dataset has the 65 names and the images with at least one box
      of theirs (``ov_coco_65_val.json``). One pass; means over 48, 17 and 65 classes.
    - ``"80"`` (ovdet): the dataset has all images of val2017. Our reading: one pass looks for
      *all* names of the dataset's vocabulary at once, the 15 unused among them
      (``ov_coco_80_vocabulary.json``), and ignores detections of those 15; then detections of
      base classes are evaluated against the base file alone, of novel classes against the novel
      file alone, each over all images. A dataset with 65 names gives the same with fewer names to
      confuse; the table says how many there were. The third mean is over the 65. Since AP knows one
      class at a time, one file with the annotations of both groups gives the same numbers.

    Args:
        ann_file: COCO annotation file, or ``dict(base=..., novel=...)`` for ``protocol="80"``; None
            takes the ground truth of the data samples.
        metric: Only "bbox".
        protocol: "65" or "80", which the table and the key ``protocol`` then tell; None claims
            neither (other data than OV-COCO).
        classwise: Whether to print the AP50 and AP of each class too.
        proposal_nums: How many of the best proposals of an image count, where the data samples
            bring ``proposals`` (detectors with ``test_cfg.keep_proposals=True``); see
            `proposal_recall`.
        format_only: Only write the predictions to ``outfile_prefix``; no numbers come back.
        outfile_prefix: Where predictions are kept, without ``.bbox.json``; None keeps none.
        backend_args: Of mmengine, to read ``ann_file``.
        collect_device: Of mmengine: "cpu" or "gpu".
        prefix: Put before each key, with a slash; None gives the plain ``AP50_novel``.
        library: "faster-coco-eval" or "pycocotools", which give the same numbers; "auto" takes the
            first where it is installed.

    Raises:
        ValueError: An argument is none of the above or a file cannot be used; when it is told the
            dataset's ``metainfo``: the annotation file lacks a class, or the classes are not the
            protocol's; while processing: an image is not in the annotation file, a label beyond the
            classes, or a score or a box not finite.
    """

    default_prefix = None

    def __init__(
        self,
        ann_file: str | os.PathLike | Mapping[str, str] | None = None,
        metric: str | Sequence[str] = "bbox",
        protocol: str | int | None = None,
        classwise: bool = False,
        proposal_nums: Sequence[int] = (100, 300, 1000),
        format_only: bool = False,
        outfile_prefix: str | None = None,
        backend_args: dict[str, Any] | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
        library: Choice = "auto",
    ) -> None:
        check_choice(library)
        if metric not in ("bbox", ["bbox"], ("bbox",)):
            raise ValueError(f"OVCocoMetric has no metric {metric!r}: use 'bbox'")
        # Numbers too: a command line's protocol=65 is one.
        self.protocol = None if protocol is None else str(protocol)
        if self.protocol not in (None, *_TITLES):
            raise ValueError(f"OV-COCO has no protocol {protocol!r}: choose '65' or '80'")
        if format_only and outfile_prefix is None:
            raise ValueError("format_only=True writes predictions only: set outfile_prefix")
        if not proposal_nums or min(proposal_nums) < 1:
            raise ValueError(f"proposal_nums is {proposal_nums!r}: give numbers from 1")
        super().__init__(
            metric="bbox",
            classwise=classwise,
            proposal_nums=tuple(proposal_nums),
            format_only=format_only,
            outfile_prefix=outfile_prefix,
            backend_args=backend_args,
            collect_device=collect_device,
            prefix=prefix,
        )
        self.library = library
        self._truth = self._read(ann_file)
        # mmdet's: None where the ground truth comes with the data samples.
        self._coco_api = next(iter(self._truth.values()), None)

    @property
    def dataset_meta(self) -> dict[str, Any] | None:
        """``metainfo`` of the dataset: ``classes`` and perhaps ``base_classes``, ``novel_classes``.

        It is checked when it is set, which is before a training, not after it.
        """
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict[str, Any]) -> None:
        self._dataset_meta = dataset_meta
        self._check_classes()
        ids = [category_ids(truth, dataset_meta["classes"]) for truth in self._truth.values()]
        if any(other != ids[0] for other in ids):
            raise ValueError(
                "the files of ann_file number their categories differently: make them together "
                "(tools/prepare_ov_coco.py)"
            )

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Takes a batch.

        Args:
            data_batch: Not read.
            data_samples: ``img_id``, ``ori_shape``, ``pred_instances`` (``bboxes`` (M, 4) xyxy,
                ``scores`` (M,), ``labels`` (M,)) and perhaps ``proposals`` (``bboxes`` (K, 4) xyxy,
                ``scores`` (K,)), all in pixels of the original picture.

        Raises:
            ValueError: See the class.
        """
        start = len(self.results)
        super().process(data_batch, data_samples)
        for (_, result), sample in zip(self.results[start:], data_samples, strict=True):
            self._check_result(result)
            if "proposals" in sample:
                result["proposals"] = self._best_proposals(sample)

    def compute_metrics(self, results: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict:
        """Evaluates the whole dataset.

        Args:
            results: Ground truth and prediction of each image, as ``process`` stored them.

        Returns:
            ``AP50_base``, ``AP50_novel``, ``AP50_all``, and ``AP_...`` likewise (mean over the IoUs
            .50:.95); where proposals came along, ``proposal_recall_base@100`` and so on; all in
            percent. ``protocol``, 65 or 80, where one was claimed.
        """
        if not results:
            raise ValueError("no image was evaluated: check the test dataset's ann_file")
        ground_truths, predictions = zip(*results, strict=True)
        with tempfile.TemporaryDirectory() as scratch:
            outfile_prefix = self.outfile_prefix or str(Path(scratch) / "results")
            truth = self._truth
            if not truth:
                path = self.gt_to_coco_json(gt_dicts=ground_truths, outfile_prefix=outfile_prefix)
                truth = {"all": read_ground_truth(path)}
            # results2json writes cat_ids[label]: they must stand in the order of the labels.
            first = next(iter(truth.values()))
            self.cat_ids = category_ids(first, self.dataset_meta["classes"])
            if self.outfile_prefix is not None:
                self.results2json(predictions, outfile_prefix)
        if self.format_only:
            return {}
        ids = dict(zip(self.dataset_meta["classes"], self.cat_ids, strict=True))
        groups = self._groups()
        detections = _detections(predictions, self.cat_ids)
        counted_by = counting_library(self.library)
        values = {}
        for ground_truth, names in self._parts(truth, groups):
            wanted = [ids[name] for name in names]
            ap = average_precision(ground_truth, detections, wanted, counted_by)
            values.update(zip(names, ap, strict=True))
        metrics = self._means(values, groups)
        metrics.update(self._recalls(truth, predictions, ids, groups))
        self._log(metrics, values, groups, first)
        if self.protocol is not None:
            metrics["protocol"] = int(self.protocol)
        return metrics

    def _read(self, ann_file: str | os.PathLike | Mapping[str, str] | None) -> dict[str, COCO]:
        """Ground truth of "all" classes, or of "base" and "novel" ones; {} where none is given."""
        if ann_file is None or isinstance(ann_file, str | os.PathLike):
            files = {} if ann_file is None else {"all": os.fspath(ann_file)}
            if self.protocol == "80" and not files:
                raise ValueError("protocol '80' needs files: ann_file=dict(base=..., novel=...)")
        else:
            files = dict(ann_file)
            if self.protocol != "80" or set(files) != set(_GROUPS):
                raise ValueError(
                    f"ann_file has the keys {sorted(files)} and protocol is {self.protocol!r}: "
                    "files for each group are dict(base=..., novel=...) with protocol='80'"
                )
        truth = {key: read_ground_truth(path, self.backend_args) for key, path in files.items()}
        if len(truth) == 2 and set(truth["base"].imgs) != set(truth["novel"].imgs):
            raise ValueError(
                f"{files['base']!r} and {files['novel']!r} list other images: protocol '80' "
                "evaluates both groups over all of them (tools/prepare_ov_coco.py makes the files)"
            )
        return truth

    def _check_classes(self) -> None:
        meta = self.dataset_meta
        if not meta.get("classes"):
            raise ValueError("the test dataset names no classes: use OVCocoDataset, say")
        classes = set(meta["classes"])
        for group in _GROUPS:
            names = meta.get(f"{group}_classes") or ()
            strange = [name for name in names if name not in classes]
            if strange:
                raise ValueError(
                    f"the {group} class {strange[0]!r} is none of the dataset's classes: "
                    "mend the groups of the vocabulary"
                )
            if self.protocol is not None and len(names) != _GROUP_SIZES[group]:
                raise ValueError(
                    f"protocol {self.protocol!r} has {_GROUP_SIZES[group]} {group} classes, the "
                    f"dataset {len(names)}: take OV-COCO's vocabulary, or leave out protocol"
                )
        if self.protocol == "65" and len(meta["classes"]) != 65:
            raise ValueError(
                f"protocol '65' looks for 65 names, the dataset has {len(meta['classes'])}: "
                "take the vocabulary 'ov_coco', or protocol='80'"
            )

    def _check_result(self, result: dict[str, Any]) -> None:
        image, labels = result["img_id"], result["labels"]
        if self._coco_api is not None and image not in self._coco_api.imgs:
            raise ValueError(
                f"image {image!r} was detected on, but is not in the annotation file: give the "
                "evaluator's ann_file and the test dataset's the same images"
            )
        count = len(self.dataset_meta["classes"])
        beyond = labels[(labels < 0) | (labels >= count)]
        if len(beyond):
            raise ValueError(
                f"a detection in image {image!r} has the label {beyond[0]}, the dataset {count} "
                "classes: give the detector and the dataset the same vocabulary"
            )
        for key in ("scores", "bboxes"):
            wrong = int((~np.isfinite(result[key])).sum())
            if wrong:
                raise ValueError(
                    f"{wrong} values in the {key} of image {image!r} are NaN or infinite: the "
                    "weights have diverged, or the input is broken"
                )

    def _best_proposals(self, sample: dict[str, Any]) -> np.ndarray:
        proposals = sample["proposals"]
        scores = proposals["scores"].float().cpu().numpy()
        boxes = proposals["bboxes"].float().cpu().numpy()
        if not (np.isfinite(scores).all() and np.isfinite(boxes).all()):
            raise ValueError(
                f"proposals of image {sample['img_id']!r} are NaN or infinite: the weights have "
                "diverged, or the input is broken"
            )
        return boxes[np.argsort(-scores, kind="stable")[: max(self.proposal_nums)]]

    def _groups(self) -> dict[str, tuple[str, ...]]:
        """Names of the classes of each mean, base and novel before all."""
        meta = self.dataset_meta
        groups = {group: tuple(meta.get(f"{group}_classes") or ()) for group in _GROUPS}
        trained_or_new = groups["base"] + groups["novel"]
        groups["all"] = trained_or_new if self.protocol == "80" else tuple(meta["classes"])
        return {group: names for group, names in groups.items() if names}

    @staticmethod
    def _parts(
        truth: dict[str, COCO], groups: dict[str, tuple[str, ...]]
    ) -> list[tuple[COCO, tuple[str, ...]]]:
        return [(ground_truth, groups[key]) for key, ground_truth in truth.items()]

    def _means(
        self, values: dict[str, np.ndarray], groups: dict[str, tuple[str, ...]]
    ) -> dict[str, float]:
        metrics = {}
        for column, key in enumerate(("AP50", "AP")):
            for group, names in groups.items():
                ap = [values[name][column] for name in names if values[name][column] >= 0]
                metrics[f"{key}_{group}"] = 100 * float(np.mean(ap)) if ap else -1.0
        return metrics

    def _recalls(
        self,
        truth: dict[str, COCO],
        predictions: Sequence[dict[str, Any]],
        ids: dict[str, int],
        groups: dict[str, tuple[str, ...]],
    ) -> dict[str, float]:
        if not all("proposals" in prediction for prediction in predictions):
            return {}
        proposals = {one["img_id"]: one["proposals"] for one in predictions}
        metrics = {}
        for group, names in groups.items():
            sources = [
                (ground_truth, [ids[name] for name in part if name in set(names)])
                for ground_truth, part in self._parts(truth, groups)
            ]
            recalls = proposal_recall(boxes_by_image(sources), proposals, self.proposal_nums)
            for number, recall in zip(self.proposal_nums, recalls, strict=True):
                value = 100 * recall if recall >= 0 else -1.0
                metrics[f"proposal_recall_{group}@{number}"] = value
        return metrics

    def _log(
        self,
        metrics: dict[str, float],
        values: dict[str, np.ndarray],
        groups: dict[str, tuple[str, ...]],
        ground_truth: COCO,
    ) -> None:
        names, images = self.dataset_meta["classes"], len(ground_truth.imgs)
        title = f"{_TITLES.get(self.protocol, '')}{len(names)} names, {images} images"
        text = f"\n{title}\n{group_table(metrics, values, groups)}"
        if self.classwise:
            text += "\n" + class_table(values, groups)
        logger = MMLogger.get_current_instance()
        logger.info(text)
        if self.protocol == "65":
            empty = images - len({one["image_id"] for one in ground_truth.dataset["annotations"]})
            if empty > 0:
                logger.warning(
                    f"{empty} of {images} images have no box, which the 65-way protocol leaves "
                    "out: evaluate on ov_coco_65_val.json (tools/prepare_ov_coco.py)"
                )


def _detections(predictions: Sequence[dict[str, Any]], ids: Sequence[int]) -> Detections:
    """All detections of all images; the sides of boxes are subtracted in float64."""
    boxes = np.concatenate([one["bboxes"].astype(np.float64).reshape(-1, 4) for one in predictions])
    boxes[:, 2:] -= boxes[:, :2]
    counts = [len(one["labels"]) for one in predictions]
    labels = np.concatenate([one["labels"] for one in predictions])
    return Detections(
        images=np.repeat([one["img_id"] for one in predictions], counts),
        categories=np.asarray(ids)[labels],
        scores=np.concatenate([one["scores"] for one in predictions]),
        boxes=boxes,
    )
