"""What second stages have in common: regions named by texts, alone or where others compete."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from fgclip_det.models.regions.competition import Evidence, Judged
from fgclip_det.models.regions.detection_selection import Candidates
from fgclip_det.models.regions.region_classification import NO_RULES, Rules, classify_regions
from fgclip_det.models.regions.regions import Regions
from fgclip_det.models.regions.rivals import Rivals
from fgclip_det.models.regions.streams import Source, StreamMaker, Streams, log_ratio
from fgclip_det.vocabulary.competition import Competitors


class JudgingHead:
    """Mixed into a second stage, which says where logits come from and how shares are fused.

    Attributes:
        test_cfg: See `classify_regions`.
        one_label: Whether a box is detected only as the text that fits it best.
    """

    test_cfg: Mapping[str, Any]
    one_label: bool = False

    def score(
        self,
        regions: Regions,
        text_embeddings: Tensor,
        is_base: Tensor,
        classes: Tensor | None = None,
        competitors: Competitors | Rivals | None = None,
    ) -> Tensor:
        """Fused scores.

        Args:
            regions: K of one image.
            text_embeddings: (C, D), of any length each.
            is_base: (C,) bool, names that the detector was trained on.
            classes: (C,) int64, which of the detector's own classes each text is, -1 for none, as
                of `TextEmbeddings.find`; None where that is not known, or of no matter.
            competitors: What else competes with each text; None for nothing.

        Returns:
            (K, C) float32 in [0, 1].

        Raises:
            ValueError: The embeddings differ in D, `is_base` is not of bools, the regions lack
                what is to be fused, or the competitors are those of other texts.
        """
        if competitors is not None:
            return self.judge(regions, text_embeddings, is_base, competitors, classes).scores
        return self._scores(regions, text_embeddings, is_base, classes)

    @torch.no_grad()
    def streams(self, regions: Regions, is_base: Tensor, rivals: Rivals) -> Streams:
        """Logits of each source, where names have `rivals`; arguments as of `score`."""
        return self._stream_maker(self._sources(regions, is_base, like=rivals.texts), rivals)

    @torch.no_grad()
    def judge(
        self,
        regions: Regions,
        text_embeddings: Tensor,
        is_base: Tensor,
        competitors: Competitors | Rivals,
        classes: Tensor | None = None,
    ) -> Judged:
        """Scores with competition, and evidence; arguments as of `score`.

        Raises:
            ValueError: See `score`.
        """
        rivals = Rivals.of(competitors, text_embeddings)
        streams = self.streams(regions, is_base, rivals)
        objectness = log_ratio(regions.objectness)[:, None].expand(-1, len(text_embeddings))
        others = self._own_evidence(regions, classes)
        others |= {"objectness": objectness, **rivals.places(regions, text_embeddings)}

        @torch.no_grad()
        def score(some: Streams, rows: Tensor | None) -> Tensor:
            return self._fused(some, rivals, is_base, regions, classes, rows)

        return Judged(Evidence(streams, rivals, others), score)

    def evidence_settings(self) -> dict[str, Any]:
        """Settings that evidence depends on; what is learned is told by the weights."""
        raise NotImplementedError

    def evidence(
        self,
        regions: Regions,
        text_embeddings: Tensor,
        is_base: Tensor,
        competitors: Competitors | Rivals,
        classes: Tensor | None = None,
    ) -> Evidence:
        """What speaks for each text, whatever else is asked; arguments as of `score`."""
        return self.judge(regions, text_embeddings, is_base, competitors, classes).evidence

    def classify(
        self,
        regions: Regions,
        text_embeddings: Tensor,
        is_base: Tensor,
        rescale: bool = True,
        classes: Tensor | None = None,
        rules: Rules = NO_RULES,
    ) -> InstanceData:
        """Detections of one image.

        Args:
            regions: See `score`.
            text_embeddings: (C, D).
            is_base: See `score`.
            rescale: Whether boxes are wanted in pixels of the original picture, from
                ``regions.image_meta``.
            classes: See `score`.
            rules: Who competes, and what is reported.

        Returns:
            See `classify_regions`; labels are rows of `text_embeddings`.

        Raises:
            ValueError: See `score`.
        """
        rules = rules.ready(text_embeddings)

        def plain(some: Regions) -> Tensor:
            return self.score(some, text_embeddings, is_base, classes)

        def score(some: Regions) -> Tensor | Candidates | Judged:
            if rules.competitors is None:
                likely = self._likely(some, text_embeddings, is_base)
                return plain(some) if likely is None else likely
            judged = self.judge(some, text_embeddings, is_base, rules.competitors, classes)
            return judged if rules.hides else judged.scored_by(some, plain)

        return classify_regions(
            score,
            regions,
            len(text_embeddings),
            self.test_cfg,
            rescale,
            rules,
            one_label=self.one_label,
        )

    @cached_property
    def _stream_maker(self) -> StreamMaker:
        return StreamMaker()

    def _scores(
        self, regions: Regions, text_embeddings: Tensor, is_base: Tensor, classes: Tensor | None
    ) -> Tensor:
        """(K, C) scores where nothing but the texts competes."""
        raise NotImplementedError

    def _likely(
        self, regions: Regions, text_embeddings: Tensor, is_base: Tensor
    ) -> Candidates | None:
        """What of `_scores` is above ``score_thr``; None where the scores are to be asked."""
        return None

    def _sources(self, regions: Regions, is_base: Tensor, like: Tensor) -> dict[str, Source]:
        """Where logits come from, by name; weights in dtype and on the device of `like`."""
        raise NotImplementedError

    def _own_evidence(self, regions: Regions, classes: Tensor | None) -> dict[str, Tensor]:
        """By name (K, C) float64 log-odds of texts that no stream has."""
        return {}

    def _fused(
        self,
        streams: Streams,
        rivals: Rivals,
        is_base: Tensor,
        regions: Regions,
        classes: Tensor | None,
        rows: Tensor | None,
    ) -> Tensor:
        """(k, C) float32 scores from shares among all that competes.

        Args:
            streams: Of these rows.
            rivals: Of the texts.
            is_base: See `score`.
            regions: All K.
            classes: See `score`.
            rows: (k,) int64, rows of the regions; None for all.
        """
        raise NotImplementedError
