"""Detectors that know how sure they are: evidence, and a calibration that makes it confidence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from fgclip_det.calibration import Calibration
from fgclip_det.encoders import FGCLIP
from fgclip_det.models.regions.competition import Evidence
from fgclip_det.models.regions.image_vocabularies import RegionClassifier
from fgclip_det.models.regions.region_classification import Figure, Rules, figures_of
from fgclip_det.models.regions.regions import Regions
from fgclip_det.vocabulary import TextEmbeddings
from fgclip_det.vocabulary.competition import Competition, Competitors

_MOST_KEPT = 4


class Calibrated:
    """The part of `OpenVocabulary` that deals with competitors."""

    encoder: FGCLIP
    region_classifier: RegionClassifier
    regions_hash: str
    _calibration: Calibration | None = None
    _competition: Competition | None = None

    @property
    def evidence_hash(self) -> str:
        """16 hex digits of all that makes evidence, beside the encoder's weights.

        That is what makes regions, and the temperatures of the head.
        """
        head = self.region_classifier
        settings = head.evidence_settings() if hasattr(head, "evidence_settings") else {}
        text = f"{self.regions_hash} {json.dumps(settings, sort_keys=True)}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def set_calibration(
        self, calibration: Calibration | None, competition: Competition | None = None
    ) -> None:
        """Give `classify` and `predict` confidences.

        Args:
            calibration: Of this detector and its encoder; None for no confidences any more.
            competition: What makes the competitors that it was made with.

        Raises:
            ValueError: It was made with another detector, encoder or competition, which is named,
                or the detector's head gives no evidence.
        """
        if calibration is not None:
            if competition is None:
                raise ValueError("a calibration needs the competition that it was made with")
            if not hasattr(self.region_classifier, "judge"):
                raise ValueError(
                    f"{type(self.region_classifier).__name__} gives no evidence that could be "
                    "calibrated: use RegionTextHead"
                )
            calibration.check(self.evidence_hash, self.encoder.fingerprint, competition.settings)
        self._calibration = calibration
        self._competition = None if calibration is None else competition

    @cached_property
    def _kept(self) -> dict[tuple, tuple]:
        return {}

    @property
    def calibration(self) -> Calibration | None:
        """What turns evidence into confidences."""
        return self._calibration

    @property
    def competition(self) -> Competition | None:
        """What the calibration was made with; None without one."""
        return self._competition

    @torch.no_grad()
    def evidence(
        self,
        regions: Sequence[Regions],
        text_embeddings: TextEmbeddings,
        competitors: Competitors,
    ) -> list[Evidence]:
        """What speaks for names, each by itself: what a calibration is made of.

        Args:
            regions: One for each image, from `propose`.
            text_embeddings: What is asked for.
            competitors: Of these names.

        Raises:
            ValueError: Some are another encoder's.
        """
        for image in regions:
            image.check_encoder(self.encoder.fingerprint)
        ready = self.ready_to_classify(text_embeddings, competitors)
        rivals = ready.pop("rules").competitors
        return [
            self.region_classifier.evidence(image, **ready, competitors=rivals) for image in regions
        ]

    def ready_to_classify(
        self,
        texts: TextEmbeddings,
        competitors: Competitors | None,
        contradictory: Tensor | None = None,
        one_name: bool = False,
        count: int | None = None,
        hides: bool = True,
    ) -> dict[str, Any]:
        """Keywords of the second stage's `classify`; rules only where there are some.

        Made once for the same objects: the next picture is asked in the same words.

        Args:
            texts: See `OpenVocabulary.classify`; so are the others.
            competitors: Of the first of them.
            contradictory: Pairs of them.
            one_name: Whether a place has one name only.
            count: How many of them are asked for; None for all.
            hides: Whether competitors take part in more than the figure, see `Rules`.
        """
        if competitors is None and contradictory is None and not one_name:
            return self._ready(texts)
        given = (texts, competitors, contradictory, self.calibration)
        key = (*map(id, given), one_name, count, hides, str(self.encoder.device))
        if key not in self._kept:
            made = self._with_rules(texts, competitors, contradictory, one_name, count, hides)
            while len(self._kept) >= _MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))
            # With what was given, so that no other object takes its id.
            self._kept[key] = (*given, made)
        return dict(self._kept[key][-1])

    def _with_rules(
        self,
        texts: TextEmbeddings,
        competitors: Competitors | None,
        contradictory: Tensor | None,
        one_name: bool,
        count: int | None,
        hides: bool,
    ) -> dict[str, Any]:
        ready: dict[str, Any] = self._ready(texts)
        if competitors is not None and competitors.encoder_fingerprint != self.encoder.fingerprint:
            raise ValueError(
                f"competitors of encoder {competitors.encoder_fingerprint} cannot be compared with "
                f"texts of encoder {self.encoder.fingerprint}: make them with this detector's"
            )
        # A calibration is of what was said.
        is_said = self.calibration is not None and texts.vocabulary.shown is None
        rules = Rules(
            competitors=competitors,
            figure=Figure.from_calibration(self.calibration) if is_said else None,
            contradictory=contradictory,
            one_name=one_name,
            count=count,
            hides=hides,
        )
        return {**ready, "rules": rules.ready(ready["text_embeddings"])}

    @torch.no_grad()
    def add_figures(
        self,
        detections: Sequence[InstanceData],
        regions: Sequence[Regions],
        texts: TextEmbeddings,
    ) -> None:
        """Add the calibration's figure to detections that were chosen without competitors.

        Args:
            detections: From `classify`; get ``confidences`` or ``evidence``.
            regions: One for each image.
            texts: What was asked for.
        """
        competitors = self._competition.against(texts)
        ready = self.ready_to_classify(texts, competitors)
        rules = ready.pop("rules")
        judge = partial(self.region_classifier.judge, **ready, competitors=rules.competitors)
        for found, image in zip(detections, regions, strict=True):
            figures = figures_of(judge, image[found.regions], found.labels, rules)
            found.set_field(figures, rules.figure.name)

    def _ready(self, texts: TextEmbeddings) -> dict[str, Tensor]:
        """Text embeddings as the second stage takes them, on the detector's device."""
        raise NotImplementedError
