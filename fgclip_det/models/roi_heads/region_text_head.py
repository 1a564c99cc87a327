"""Boxes of any detector, named by texts: FG-CLIP's scores fused with the detector's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor

from fgclip_det.models.regions.competition import Evidence, Judged, log_shares
from fgclip_det.models.regions.region_classification import NO_RULES, Rules, classify_regions
from fgclip_det.models.regions.regions import Regions
from fgclip_det.models.regions.rivals import Rivals
from fgclip_det.models.regions.streams import Source, StreamMaker, Streams, log_ratio
from fgclip_det.models.roi_heads.score_fusion import encoder_weight, geometric_score_ensemble
from fgclip_det.models.roi_heads.settings import (
    check_bool,
    check_number,
    check_temperature,
    check_test_cfg,
)
from fgclip_det.models.roi_heads.zero_shot_classifier import cosine_logits
from fgclip_det.vocabulary.competition import Competitors

_FUSIONS = ("geometric_mean", "ensemble")
_TEST_CFG: dict[str, Any] = {
    "score_thr": 0.0,
    "nms": {"iou_threshold": 0.5, "class_agnostic": False},
    "max_per_img": 300,
}


@MODELS.register_module()
class RegionTextHead(BaseModule):
    """Detections from boxes of anywhere: nothing is trained, and nothing is known of pixels.

    Of each region it needs its box, ``objectness`` (how sure the detector is of the box) and its
    ``region_embeddings``::

        regions = Regions(
            boxes=boxes, objectness=scores, region_embeddings=embeddings, image_meta=meta
        )
        classes = texts.find(detector_classes)
        RegionTextHead().classify(regions, texts.embeddings, classes >= 0, classes=classes)

    The score of a text is ``d ** (1 - w) * p ** w``: p is the softmax over the cosines of the
    region with all texts, w is `alpha` for names that the detector was trained on and `beta` for
    others. Where both are 0.5, that is the geometric mean of FG-CLIP 2's detection results
    (arXiv 2510.10921). The two ways to fuse differ in d:

    * "geometric_mean": ``objectness``, whatever the text;
    * "ensemble": for names that the detector was trained on, its own probability of that class, in
      ``class_scores``; for other names, ``objectness``.

    Args:
        fusion: See above.
        temperature: What cosines are multiplied by before the softmax.
        alpha: Weight of FG-CLIP for names that the detector was trained on, in [0, 1].
        beta: Weight of FG-CLIP for all other names, in [0, 1].
        one_label: Whether a box is detected only as the text that fits it best (FG-CLIP 2's
            arg-max), or as each text above ``score_thr``.
        test_cfg: See `classify_regions`; what it leaves out is ``score_thr=0``,
            ``nms=dict(iou_threshold=0.5, class_agnostic=False)``, ``max_per_img=300``.

    Raises:
        ValueError: A setting is unknown or out of range.
    """

    def __init__(
        self,
        fusion: Literal["geometric_mean", "ensemble"] = "geometric_mean",
        temperature: float = 100.0,
        alpha: float = 0.5,
        beta: float = 0.5,
        one_label: bool = True,
        test_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if fusion not in _FUSIONS:
            raise ValueError(f"fusion is {fusion!r}: choose one of {', '.join(_FUSIONS)}")
        check_temperature("temperature", temperature)
        check_number("alpha", alpha, 0, 1)
        check_number("beta", beta, 0, 1)
        check_bool("one_label", one_label)
        self.fusion = fusion
        self.temperature = temperature
        self.alpha = alpha
        self.beta = beta
        self.one_label = one_label
        self._stream_maker = StreamMaker()
        self.test_cfg = _completed("test_cfg", {} if test_cfg is None else test_cfg, _TEST_CFG)
        self.test_cfg["nms"] = _completed("test_cfg.nms", self.test_cfg["nms"], _TEST_CFG["nms"])
        check_test_cfg(self.test_cfg)

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
            regions: K of one image; in "ensemble" with ``class_scores``.
            text_embeddings: (C, D).
            is_base: (C,) bool, names that the detector was trained on.
            classes: (C,) int64, which column of ``class_scores`` each text has, -1 for none, as of
                `TextEmbeddings.find`; None where that is not known: then each has ``objectness``
                for its probability.
            competitors: What else competes with each text; None for nothing.

        Returns:
            (K, C) float32 in [0, 1].

        Raises:
            ValueError: The embeddings differ in D, `is_base` is not of bools, or "ensemble" has
                `classes` and lacks ``class_scores``.
        """
        if competitors is not None:
            return self.judge(regions, text_embeddings, is_base, competitors, classes).scores
        logits = cosine_logits(regions.region_embeddings, text_embeddings, self.temperature)
        det, vlm = self._detector_scores(regions, classes), logits.softmax(dim=-1)
        return geometric_score_ensemble(det, vlm, self.alpha, self.beta, is_base)

    @torch.no_grad()
    def streams(
        self, regions: Regions, text_embeddings: Tensor, is_base: Tensor, rivals: Rivals
    ) -> Streams:
        """Logits of the "encoder"; arguments as of `score`."""
        weight = encoder_weight(self.alpha, self.beta, is_base, like=text_embeddings.double())
        source = Source(regions.region_embeddings, self.temperature, weight)
        return self._stream_maker({"encoder": source}, text_embeddings, rivals)

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

        The evidence of "ensemble" has the logit of the detector's own probability, "detector",
        where `classes` are known.

        Raises:
            ValueError: See `score`, or the competitors are those of other texts.
        """
        rivals = Rivals.of(competitors, text_embeddings)
        streams = self.streams(regions, text_embeddings, is_base, rivals)
        det = self._detector_scores(regions, classes)

        def scores_at(rows: Tensor | None) -> Tensor:
            own, of_det = (streams, det) if rows is None else (streams.at(rows), det[rows])
            shares = log_shares(own["encoder"], rivals).exp_().float()
            return geometric_score_ensemble(of_det, shares, self.alpha, self.beta, is_base)

        objectness = log_ratio(regions.objectness)[:, None].expand(-1, len(text_embeddings))
        has_detector = self.fusion == "ensemble" and classes is not None
        others = {"detector": log_ratio(det)} if has_detector else {}
        others |= {"objectness": objectness, **rivals.places(regions, text_embeddings)}
        return Judged(Evidence(streams, rivals, others), scores_at)

    def evidence_settings(self) -> dict[str, Any]:
        """Settings that evidence depends on."""
        return {"temperature": self.temperature, "fusion": self.fusion}

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

        def score(some: Regions) -> Tensor | Judged:
            if rules.competitors is None:
                return plain(some)
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

    def _detector_scores(self, regions: Regions, classes: Tensor | None) -> Tensor:
        """(K, C) or, for all texts the same, (K, 1)."""
        objectness = regions.objectness.float()[:, None]
        if self.fusion == "geometric_mean" or classes is None:
            return objectness
        if regions.class_scores is None:
            raise ValueError(
                'fusion="ensemble" needs class_scores of the regions: use "geometric_mean" where '
                "the detector's are not known"
            )
        by_class = torch.cat([regions.class_scores.float(), objectness], dim=1)
        # Column -1 is the objectness.
        return by_class[:, classes.to(by_class.device)]


def _completed(name: str, given: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise ValueError(f"{name} is {given!r}: it must be a dict of {', '.join(defaults)}")
    unknown = set(given) - set(defaults)
    if unknown:
        raise ValueError(
            f"{name} has {', '.join(sorted(unknown))}: it takes {', '.join(defaults)} alone"
        )
    return {**defaults, **given}
