"""D³'s scores as a metric of MMEngine."""

from __future__ import annotations

import os
from typing import Any

from mmdet.evaluation import DODCocoMetric
from mmdet.registry import METRICS

_KEYS = ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")


@METRICS.register_module()
class D3Metric(DODCocoMetric):
    """COCO's AP of D³ (arXiv 2307.12813) by MMDetection's `DODCocoMetric`, in percent.

    Args:
        ann_file: ``d3_{full,pres,abs}_annotations.json``.
        prefix: Put before each key, with a slash.
        **kwargs: Of `DODCocoMetric`.

    Raises:
        ValueError: The file is missing.
    """

    default_prefix = "d3"

    def __init__(self, ann_file: str, prefix: str | None = None, **kwargs: Any) -> None:
        if not os.path.isfile(ann_file):
            raise ValueError(f"there is no file {ann_file!r}: unpack D³'s annotations there")
        super().__init__(ann_file=ann_file, prefix=prefix, **kwargs)

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """See `DODCocoMetric`.

        Returns:
            ``mAP`` over IoU .50:.05:.95, the published one, ``mAP_50``, ``mAP_75``, by size of
            objects ``mAP_s``, ``mAP_m``, ``mAP_l`` (-100 where there are none), and by words of a
            sentence ``mAP_short`` (up to 3), ``mAP_mid`` (6), ``mAP_long`` (9), ``mAP_very_long``.

        Raises:
            ValueError: The file has no sentence of one of these lengths.
        """
        if not any(len(result["scores"]) for result in results):
            # pycocotools has no word for it.
            return dict.fromkeys(_KEYS, 0.0)
        try:
            found = super().compute_metrics(results)
        except ZeroDivisionError:
            raise ValueError(
                "D³'s averages need objects of sentences of up to 3, 6, 9 and of more words: give "
                "the whole annotation file"
            ) from None
        return {key: 100 * value for key, value in found.items()}
