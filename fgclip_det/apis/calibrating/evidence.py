"""What a calibration is made of: the evidence of a picture, and the boxes that may be reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from fgclip_det.apis.image_regions import ImageRegions
from fgclip_det.calibration import Calibration
from fgclip_det.models.regions.detection_selection import select_detections
from fgclip_det.vocabulary import Attributes, TextEmbeddings

# A curve is not fitted to what is more hopeless.
_LEAST_FIGURE = 1e-6


@dataclass(frozen=True)
class Evidence:
    """What speaks for K regions being C names, each by itself.

    Attributes:
        boxes: (K, 4) float32, xyxy, in pixels of the picture.
        features: By name (K, C) or (K, 1) log-odds.
        beaten: (K, C) bool: a competitor of the name fits the region better.
    """

    boxes: Tensor
    features: Mapping[str, Tensor]
    beaten: Tensor


@dataclass(frozen=True)
class Found:
    """Boxes of a picture that some threshold reports, by falling figure.

    Attributes:
        boxes: (M, 4) float32, xyxy, in pixels of the picture.
        labels: (M,) int64, rows of the texts.
        figures: (M,) float32 in [0, 1]: what thresholds act on.
    """

    boxes: np.ndarray
    labels: np.ndarray
    figures: np.ndarray


class Source(Protocol):
    """What is asked about regions; `DetectorSource` is one.

    Attributes:
        detector: Fingerprint of the detector.
        encoder: Fingerprint of its encoder.
        competition: Settings of what competes.
        attributes: The lists that it was made with; None for none.
        iou_threshold: Boxes of one name that overlap by more are one detection.
    """

    detector: str
    encoder: str
    competition: Mapping[str, Any]
    attributes: Attributes | None
    iou_threshold: float

    def evidence(self, image: ImageRegions, texts: TextEmbeddings) -> Evidence:
        """The evidence of a picture."""

    def found(self, image: ImageRegions, texts: TextEmbeddings, calibration: Calibration) -> Found:
        """What the detector reports with a calibration, before its thresholds."""


def best_of_each(
    evidence: Evidence, calibration: Calibration, iou_threshold: float, with_beaten: bool = True
) -> tuple[Found, np.ndarray]:
    """The best boxes of each name by itself.

    Args:
        evidence: Of a picture.
        calibration: Ranks the boxes.
        iou_threshold: A box that overlaps a better one of its name by more is dropped.
        with_beaten: Whether those remain that a competitor of the name fits better.

    Returns:
        The boxes, and (M, F) float32 of their features, in the calibration's order.

    Raises:
        ValueError: A feature is missing or holds NaN.
    """
    figures = calibration.evidence(evidence.features).expand_as(evidence.beaten)
    if not with_beaten:
        figures = figures.masked_fill(evidence.beaten, 0)
    count = max(1, figures.numel())
    best = select_detections(evidence.boxes, figures, _LEAST_FIGURE, iou_threshold, count)
    features = [evidence.features[name].expand_as(figures) for name in calibration.features]
    table = torch.stack(features, dim=-1)[best.regions, best.labels]
    return to_found(best, best.scores), table.float().cpu().numpy()


def to_found(detections: InstanceData, figures: Tensor) -> Found:
    """Arrays of ``bboxes``, ``labels`` and their figures (M,)."""
    return Found(
        detections.bboxes.float().cpu().numpy(),
        detections.labels.cpu().numpy(),
        figures.float().cpu().numpy(),
    )
