"""How sure a detector is that a region is what one name says, whatever else is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fgclip_det.apis.inferencer import OpenVocabInferencer
from fgclip_det.io import quoted
from fgclip_det.models.regions.regions import Regions
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from fgclip_det.vocabulary.competition import Competition, Competitors

VALUES = ("confidence", "evidence", "share", "score")
_STREAMS = ("detector", "encoder")


class Values:
    """Values of regions for names, each asked by itself.

    Kinds:

    * "confidence": of the detector's calibration.
    * "evidence": the mean over streams of the log-odds of the name against what competes with it.
    * "share": the share of the name among itself and what competes with it.
    * "score": the share of the name with nothing else asked, but what the name itself is told
      apart from.

    What a competitor fits better is not reported: its confidence and share are 0. Evidence and
    score are kept as they are.

    Args:
        detector: Who is asked.
        texts: All that will be asked, each encoded once; a vocabulary where they have prompts of
            their own, or are shown.
        kind: One of these; None for the first that the detector has.
        competition: What competes; None for the detector's own, if it has one.

    Raises:
        ValueError: The detector has no such values, or `kind` is unknown.
    """

    def __init__(
        self,
        detector: OpenVocabInferencer,
        texts: Sequence[str] | Vocabulary,
        kind: str | None = None,
        competition: Competition | None = None,
    ) -> None:
        self.model: Any = detector.model
        if not isinstance(texts, Vocabulary):
            names = tuple(dict.fromkeys(texts))
            texts = Vocabulary(names, tuple((name,) for name in names))
        names = texts.names
        is_said = texts.shown is None
        self._texts: TextEmbeddings = (
            self.model.encode_vocabulary(texts) if is_said else detector.encode(texts)
        )
        self._rows = {name: row for row, name in enumerate(names)}
        self._ready: dict[str, Tensor] = self.model._ready(self._texts)
        competition = competition or getattr(detector, "competition", None)
        self._told_apart = Competitors.own(self._texts)
        self._competitors: Competitors | None = None
        if competition is not None and hasattr(self.model.region_classifier, "judge"):
            self._competitors = competition.against(self._texts)
        self.kind = self._kind(kind)

    @property
    def is_share(self) -> bool:
        """Whether values are in [0, 1]."""
        return self.kind != "evidence"

    @property
    def least(self) -> float:
        """That of a picture without regions."""
        return 0.0 if self.is_share else torch.finfo(torch.float32).min

    @property
    def never(self) -> float:
        """What is below is not reported, whatever the threshold."""
        # Above 0, which what is beaten has.
        return torch.finfo(torch.float32).tiny if self.is_share else self.least

    @torch.no_grad()
    def __call__(self, regions: Regions, texts: Sequence[str]) -> Tensor:
        """(K, C) float32 values of K regions for C texts, on the CPU.

        Raises:
            ValueError: One is NaN.
        """
        # Of what may repeat, once each; in the order in which a subset of texts comes.
        names = sorted({*texts}, key=self._rows.__getitem__)
        if not names:
            return torch.zeros(len(regions), 0)
        if self.kind in ("score", "share"):
            # Each by itself: a share depends on what else is asked.
            values = torch.cat([self._share(regions, self._rows[name]) for name in names], dim=1)
        else:
            values = self._own(regions, names)
        values = values[:, [names.index(text) for text in texts]]
        if values.isnan().any():
            raise ValueError(
                "values of regions are NaN: the weights of the detector or the encoder hold NaN or "
                "infinite values"
            )
        return values.float().cpu()

    def _kind(self, kind: str | None) -> str:
        offered = ["score"]
        if self._competitors is not None:
            offered = ["evidence", "share", *offered]
            calibration = getattr(self.model, "calibration", None)
            is_said = self._texts.vocabulary.shown is None
            if is_said and calibration is not None and calibration.is_fitted:
                offered = ["confidence", *offered]
        if kind is not None and kind not in offered:
            raise ValueError(
                f"this detector has no value {quoted(kind)}: choose from {', '.join(offered)}, or "
                "calibrate it first"
            )
        return kind or offered[0]

    def _share(self, regions: Regions, row: int) -> Tensor:
        """(K, 1) shares of one text."""
        ready = {key: of_all[row : row + 1] for key, of_all in self._ready.items()}
        head = self.model.region_classifier
        competitors = self._told_apart if self.kind == "score" else self._competitors
        if competitors is None:
            return head.score(regions, **ready)
        judged = head.judge(regions, **ready, competitors=competitors.subset([row]))
        return judged.scores.masked_fill(judged.evidence.beaten, 0.0)

    def _own(self, regions: Regions, names: list[str]) -> Tensor:
        """(K, C) values that depend on no other name that is asked."""
        assert self._competitors is not None
        competitors = self._competitors.subset([self._rows[name] for name in names])
        (evidence,) = self.model.evidence([regions], self._texts.subset(names), competitors)
        if self.kind == "confidence":
            confidences = self.model.calibration.confidence(evidence.features)
            return confidences.masked_fill(evidence.beaten, 0.0)
        streams = [evidence.features[name] for name in _STREAMS if name in evidence.features]
        return torch.stack(streams).mean(dim=0)
