"""Boxes of any detector, named by texts: FG-CLIP's scores fused with the detector's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor

from fgclip_det.models.regions.competition import log_shares
from fgclip_det.models.regions.regions import Regions
from fgclip_det.models.regions.rivals import Rivals
from fgclip_det.models.regions.streams import Source, Streams, log_ratio
from fgclip_det.models.roi_heads.judging_head import JudgingHead
from fgclip_det.models.roi_heads.score_fusion import encoder_weight, geometric_score_ensemble
from fgclip_det.models.roi_heads.settings import (
    check_bool,
    check_number,
    check_temperature,
    check_test_cfg,
)
from fgclip_det.models.roi_heads.unit_rows import UnitRows
from fgclip_det.models.roi_heads.zero_shot_classifier import cosines

_FUSIONS = ("geometric_mean", "ensemble")
_TEST_CFG: dict[str, Any] = {
    "score_thr": 0.0,
    "nms": {"iou_threshold": 0.5, "class_agnostic": False},
    "max_per_img": 300,
}


@MODELS.register_module()
class RegionTextHead(JudgingHead, BaseModule):
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
        self._unit_rows = UnitRows()
        self.test_cfg = _completed("test_cfg", {} if test_cfg is None else test_cfg, _TEST_CFG)
        self.test_cfg["nms"] = _completed("test_cfg.nms", self.test_cfg["nms"], _TEST_CFG["nms"])
        check_test_cfg(self.test_cfg)

    def evidence_settings(self) -> dict[str, Any]:
        """Settings that evidence depends on."""
        return {"temperature": self.temperature, "fusion": self.fusion}

    def _scores(
        self, regions: Regions, text_embeddings: Tensor, is_base: Tensor, classes: Tensor | None
    ) -> Tensor:
        directions = self._unit_rows(text_embeddings)
        logits = cosines(regions.region_embeddings, directions, self.temperature)
        det, vlm = self._detector_scores(regions, classes), logits.softmax(dim=-1)
        return geometric_score_ensemble(det, vlm, self.alpha, self.beta, is_base)

    def _sources(self, regions: Regions, is_base: Tensor, like: Tensor) -> dict[str, Source]:
        weight = encoder_weight(self.alpha, self.beta, is_base, like)
        return {"encoder": Source(regions.region_embeddings, self.temperature, weight)}

    def _own_evidence(self, regions: Regions, classes: Tensor | None) -> dict[str, Tensor]:
        """The logit of the detector's own probability, where it is fused."""
        if self.fusion == "geometric_mean" or classes is None:
            return {}
        return {"detector": log_ratio(self._detector_scores(regions, classes))}

    def _fused(
        self,
        streams: Streams,
        rivals: Rivals,
        is_base: Tensor,
        regions: Regions,
        classes: Tensor | None,
        rows: Tensor | None,
    ) -> Tensor:
        shares = log_shares(streams["encoder"], rivals).exp_().float()
        det = self._detector_scores(regions, classes)
        det = det if rows is None else det.index_select(0, rows)
        return geometric_score_ensemble(det, shares, self.alpha, self.beta, is_base)

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
