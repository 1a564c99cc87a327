"""FG-OVD's scores as a metric of MMEngine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from fgclip_det.fg_ovd.files import read_fg_ovd
from fgclip_det.fg_ovd.predictions import (
    FGOVDPrediction,
    FGOVDPredictions,
    check_predictions,
    write_predictions,
)
from fgclip_det.fg_ovd.summary import Summary, summarize
from fgclip_det.fg_ovd.text_prior import read_scorer
from fgclip_det.fg_ovd.vocabulary_boxes import check_columns

# Keys of `evaluate_fg_ovd` that are shares, and what they are called in percent.
_PERCENT = {
    "map": "mAP",
    "map_50": "mAP_50",
    "map_75": "mAP_75",
    "map_small": "mAP_small",
    "map_medium": "mAP_medium",
    "map_large": "mAP_large",
    "mar_100": "mAR_100",
}
_RANKS = ("median", "median_official", "mean")


def predictions_of(data_sample: dict[str, Any]) -> list[FGOVDPrediction]:
    """The predictions for one image of `FGOVDDataset`, in arrays.

    Args:
        data_sample: ``vocabularies`` and ``vocabulary_predictions``, one `InstanceData` for each,
            with ``bboxes`` (B, 4) xyxy in pixels of the picture, ``caption_scores`` (B, 1 + N) and
            perhaps ``labels`` (B,), columns of them.

    Raises:
        ValueError: The detector gave no predictions by vocabulary.
    """
    if "vocabulary_predictions" not in data_sample:
        raise ValueError(
            "FG-OVD needs predictions for each vocabulary of an image: use FGOVDDataset with "
            "'vocabularies' in the meta_keys of PackDetInputs, and an OpenVocabTwoStageDetector"
        )
    pairs = zip(data_sample["vocabularies"], data_sample["vocabulary_predictions"], strict=True)
    return [
        FGOVDPrediction(
            vocabulary["annotation_id"],
            found["bboxes"].float().cpu().numpy(),
            found["caption_scores"].float().cpu().numpy(),
            found["labels"].cpu().numpy() if "labels" in found else None,
        )
        for vocabulary, found in pairs
    ]


@METRICS.register_module()
class FGOVDMetric(BaseMetric):
    """Mean average precision and ranks of FG-OVD (arXiv 2311.17518), with what they mean little
    without: coverage, rows to compare with, and what is taken for what; see `summarize`.

    Numbers are in percent, ranks in places.

    Args:
        ann_file: JSON of FG-OVD, the dataset's.
        n_negatives: N; at most the dataset's.
        sweep: Whether to give every number of negatives from 0 to N as well.
        strict: Whether captions without a prediction count as not found.
        references: Whether to add the oracle, the random caption and N = 0.
        validation_file: The subset's validation JSON: adds the text-only row.
        predictions_file: Where the predictions are kept (``.json`` or ``.json.gz``).
        collect_device: Of mmengine: "cpu" or "gpu".
        prefix: Put before each key, with a slash.

    Raises:
        ValueError: A file cannot be used.
    """

    default_prefix = None

    def __init__(
        self,
        ann_file: str,
        n_negatives: int = 5,
        sweep: bool = False,
        strict: bool = False,
        references: bool = True,
        validation_file: str | None = None,
        predictions_file: str | os.PathLike | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ann_file = ann_file
        self._file = read_fg_ovd(ann_file)
        self.n_negatives = n_negatives
        self._asked = {one.annotation_id for one in self._file.eligible(n_negatives)}
        self.sweep, self.strict, self.references = sweep, strict, references
        self._scorer = None
        if validation_file is not None:
            self._scorer = read_scorer(validation_file, ann_file)
        self.predictions_file = predictions_file

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Takes a batch; see `predictions_of`.

        Raises:
            ValueError: Predictions that cannot be scored, now and not when all have been made.
        """
        for sample in data_samples:
            checked = check_predictions(self._file, predictions_of(sample))
            for number, prediction in checked.items():
                if number in self._asked:
                    check_columns(prediction, self.n_negatives)
            self.results.append(list(checked.values()))

    def compute_metrics(self, results: list[list[FGOVDPrediction]]) -> dict[str, float]:
        """Logs the tables.

        Returns:
            ``mAP``, ``mAP_50``, ``mAP_75``, ``mAP_small``, ``mAP_medium``, ``mAP_large``,
            ``mAR_100``, ``coverage`` in percent (-1 where there is no such ground truth);
            ``rank_median``, ``rank_median_official``, ``rank_mean``; ``missing_images``.
        """
        # MMEngine makes plain tuples of them on their way here.
        given = [FGOVDPrediction(*one) for image in results for one in image]
        # A sampler may repeat the last images, to fill a batch.
        items = tuple({one.annotation_id: one for one in given}.values())
        width = max((one.scores.shape[1] for one in items), default=1)
        if self.predictions_file is not None:
            write_predictions(self.predictions_file, items, width - 1)
        summary = summarize(
            self._file,
            FGOVDPredictions(width - 1, items),
            self.n_negatives,
            strict=self.strict,
            sweep=self.sweep,
            references=self.references,
            scorer=self._scorer,
        )
        missing = int((self.dataset_meta or {}).get("missing_images", 0))
        told = [f"FG-OVD, {self.ann_file}", summary.page("detector")]
        if missing:
            told.insert(1, f"{missing} pictures were missing and are left out.")
        MMLogger.get_current_instance().info("\n" + "\n\n".join(told))
        return {**_metrics(summary), "missing_images": float(missing)}


def _metrics(summary: Summary) -> dict[str, float]:
    result, ranks = summary.result, summary.result["ranks"]
    metrics = {
        name: 100 * result[key] if result[key] >= 0 else -1.0 for key, name in _PERCENT.items()
    }
    metrics["coverage"] = 100 * result["coverage"]["share"]
    for key in _RANKS:
        metrics[f"rank_{key}"] = -1.0 if ranks[key] is None else float(ranks[key])
    return metrics
