"""The evidence of a detector, and what it reports with a calibration."""

from __future__ import annotations

from typing import Any

import numpy as np

from fgclip_det.apis.calibrating.evidence import Evidence, Found, to_found
from fgclip_det.apis.image_regions import ImageRegions
from fgclip_det.apis.inferencer import OpenVocabInferencer
from fgclip_det.calibration import Calibration
from fgclip_det.models.regions.region_classification import to_original
from fgclip_det.vocabulary import TextEmbeddings


class DetectorSource:
    """Asks the detector of an inferencer; see `Source`.

    Args:
        detector: Its model gets each calibration that is asked about.
        competition: Makes what competes: a `Competition`.

    Raises:
        ValueError: There is none.
    """

    def __init__(self, detector: OpenVocabInferencer, competition: Any) -> None:
        if competition is None:
            raise ValueError(
                "nothing competes with what this detector is asked for, so that there is no "
                "evidence to calibrate: its test_cfg.negatives is None, or its head has no judge"
            )
        self.model = detector.model
        self.detector = self.model.evidence_hash
        self.encoder = self.model.encoder.fingerprint
        self.maker = competition
        self.competition = dict(competition.settings)
        self.attributes = competition.attributes
        head = self.model.region_classifier
        suppression = head.test_cfg["nms"]
        self.iou_threshold = suppression["iou_threshold"]
        # Where names suppress each other a bound of several would not be one of each by itself.
        self.by_itself = suppression.get("class_agnostic") or getattr(head, "one_label", False)
        self._kept: tuple[TextEmbeddings, list[tuple[TextEmbeddings, Any]]] | None = None

    def evidence(self, image: ImageRegions, texts: TextEmbeddings) -> Evidence:
        """The evidence of a picture."""
        (found,) = self.model.evidence([image.regions], texts, self.maker.against(texts))
        boxes = to_original(image.regions.boxes, image.regions.image_meta)
        return Evidence(boxes, found.features, found.beaten)

    def found(self, image: ImageRegions, texts: TextEmbeddings, calibration: Calibration) -> Found:
        """What the detector reports with a calibration, before its thresholds."""
        if self.model.calibration is not calibration:
            self.model.set_calibration(calibration, self.maker)
        asked = self._asked(texts)
        detections = self.model.classify(
            [image.regions] * len(asked),
            [own for own, _ in asked],
            competitors=[rivals for _, rivals in asked],
        )
        name = "confidences" if calibration.is_fitted else "evidence"
        parts = [to_found(one, getattr(one, name)) for one in detections]
        if len(parts) == 1:
            return parts[0]
        labels = np.repeat(np.arange(len(parts)), [len(one.labels) for one in parts])
        figures = np.concatenate([one.figures for one in parts])
        order = np.argsort(-figures, kind="stable")
        boxes = np.concatenate([one.boxes for one in parts])
        return Found(boxes[order], labels[order], figures[order])

    def _asked(self, texts: TextEmbeddings) -> list[tuple[TextEmbeddings, Any]]:
        """What is asked at once: all names, or each by itself."""
        if self._kept is None or self._kept[0] is not texts:
            rivals = self.maker.against(texts)
            asked = [(texts, rivals)]
            if self.by_itself:
                names = enumerate(texts.names)
                asked = [(texts.subset([name]), rivals.subset([row])) for row, name in names]
            self._kept = texts, asked
        return self._kept[1]
