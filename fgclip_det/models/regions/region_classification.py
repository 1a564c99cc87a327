"""Steps shared by all second stages: pool regions, score them block by block, select."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor

from fgclip_det.calibration import Calibration
from fgclip_det.encoders.picture_frames import boxes_in_cells
from fgclip_det.models.regions.competition import Evidence, Judged
from fgclip_det.models.regions.detection_selection import (
    Candidates,
    Ranked,
    best_of_rows,
    select_detections,
)
from fgclip_det.models.regions.regions import Regions
from fgclip_det.models.regions.rivals import Rivals
from fgclip_det.ops import roi_align
from fgclip_det.vocabulary.competition import Competitors

_Scored = TypeVar("_Scored")

# Scores of one image that exist at a time; a few matrices of this size, 64 MB each, do.
_SCORES_AT_ONCE = 1 << 24

IMAGE_META = ("img_shape", "ori_shape", "scale_factor", "img_id", "img_path")


def kept_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a picture's metainfo that `Regions` keep."""
    return {key: meta[key] for key in IMAGE_META if key in meta}


def pool_tokens(
    tokens: Tensor, grid: tuple[int, int], stride: float, boxes: Sequence[Tensor]
) -> Tensor:
    """FG-CLIP's embeddings of boxes, by RoIAlign 1x1 (FG-CLIP, arXiv 2505.05071, section 3.1).

    Args:
        tokens: (N, h * w, D), in the space of the texts.
        grid: Rows and columns (h, w) of `tokens`.
        stride: Pixels per cell of `tokens`.
        boxes: One (K_i, 4) float32 tensor for each image, xyxy, in those pixels.

    Returns:
        (sum K_i, D) float32 of unit length each.
    """
    pooled = roi_align(tokens, [boxes_in_cells(own, stride) for own in boxes], 1, grid=grid)
    return F.normalize(pooled.flatten(1).float(), dim=-1)


class Figure(NamedTuple):
    """A figure of detections that is made of their evidence.

    Attributes:
        name: What it is called in the detections.
        of: (K, C) features, by name, to (K, C) float32 in [0, 1].
        weights: What each feature is worth, by its name; None where that is not known.
    """

    name: str
    of: Callable[[Mapping[str, Tensor]], Tensor]
    weights: Mapping[str, float] | None = None

    @classmethod
    def from_calibration(cls, calibration: Calibration) -> Figure:
        """``confidences``, or ``evidence`` where no curve was fitted that makes it confidence."""
        weights = dict(zip(calibration.features, calibration.weights, strict=True))
        if calibration.is_fitted:
            return cls("confidences", calibration.confidence, weights)
        return cls("evidence", calibration.evidence, weights)


@dataclass(frozen=True, eq=False)
class Rules:
    """Who competes with the names that are asked for, and what is reported.

    Attributes:
        competitors: Of each name; None for nothing but the other names.
        figure: By what detections are chosen in place of the score; only with competitors.
        contradictory: (P, 2) int64 pairs of names of which an object has one; where boxes of both
            overlap, the better is reported. None for none.
        one_name: Whether a place has one name only, whatever ``test_cfg.nms`` says.
        count: How many names are asked for; those beyond are negatives. None for all.
        hides: Whether competitors take their shares, and hide what they fit better. If not they
            make the figure alone: scores are those without them.
    """

    competitors: Competitors | Rivals | None = None
    figure: Figure | None = None
    contradictory: Tensor | None = None
    one_name: bool = False
    count: int | None = None
    hides: bool = True

    def ready(self, text_embeddings: Tensor) -> Rules:
        """The same with `Rivals`, for (C, D) texts.

        Raises:
            ValueError: The competitors are those of other texts.
        """
        if self.competitors is None:
            return self
        weights = None if self.figure is None else self.figure.weights
        rivals = Rivals.of(self.competitors, text_embeddings, self.count, weights)
        return replace(self, competitors=rivals)


NO_RULES = Rules()


def classify_regions(
    score: Callable[[Regions], Tensor | Candidates | Judged],
    regions: Regions,
    num_texts: int,
    test_cfg: Mapping[str, Any],
    rescale: bool,
    rules: Rules = NO_RULES,
    one_label: bool = False,
) -> InstanceData:
    """Detections of one image.

    They are chosen by the rules' figure where they have one, else by score; regions that a
    competitor of a name fits better are not detected as it.

    Args:
        score: (k, C) scores of k of the regions, or those of them above ``score_thr``, or where
            names have competitors what is judged.
        regions: Of the image.
        num_texts: C.
        test_cfg: ``score_thr``, ``nms`` with ``iou_threshold`` and perhaps ``class_agnostic``,
            ``max_per_img``: see `select_detections`.
        rescale: Whether boxes are wanted in pixels of the original picture.
        rules: With `Rivals` where `score` judges.
        one_label: Whether a region is detected only as the best of its names.

    Returns:
        ``bboxes`` (M, 4) xyxy, ``scores`` (M,), ``labels`` (M,) int64 columns of the scores,
        ``regions`` (M,) int64 rows of `regions`, and the rules' figure (M,); by falling figure, or
        where there is none score. Where names have competitors, ``best`` in its metainfo.

    Raises:
        ValueError: A score is NaN, or there is a figure and nothing competes with a name.
    """
    suppression = test_cfg["nms"]
    blocks = _score_blocks(score, regions, _columns(rules, num_texts))
    best = BestOfEach()
    detections = select_detections(
        regions.boxes,
        (_ranked(block, rules, test_cfg["score_thr"], one_label, best) for block in blocks),
        score_thr=test_cfg["score_thr"],
        iou_threshold=suppression["iou_threshold"],
        # Each view of a picture in tiles may show as much as a picture.
        max_per_img=test_cfg["max_per_img"] * regions.image_meta.get("tiling", {}).get("views", 1),
        class_agnostic=rules.one_name or suppression.get("class_agnostic", False),
        contradictory=rules.contradictory,
    )
    if rescale:
        detections.bboxes = to_original(detections.bboxes, regions.image_meta)
    if best.ranks is not None:
        # Not by set_metainfo, which copies.
        detections.set_field(best, "best", field_type="metainfo")
    return detections


@dataclass(eq=False)
class BestOfEach:
    """The region that is most like each name, beaten or not.

    Attributes:
        ranks: (C,) float32, by what detections are chosen; None before any region was judged.
        regions: (C,) int64, its row.
    """

    ranks: Tensor | None = None
    regions: Tensor | None = None
    _seen: int = 0

    def add(self, rank: Tensor) -> None:
        """The next (k, C) regions."""
        if len(rank):
            ranks, rows = rank.max(dim=0)
            rows += self._seen
            if self.ranks is not None:
                is_better = ranks > self.ranks
                ranks = torch.where(is_better, ranks, self.ranks)
                rows = torch.where(is_better, rows, self.regions)
            self.ranks, self.regions = ranks, rows
            self._seen += len(rank)


def figures_of(
    judge: Callable[[Regions], Judged], regions: Regions, labels: Tensor, rules: Rules
) -> Tensor:
    """The rules' figure of detections that were chosen without it.

    Args:
        judge: Judges k regions.
        regions: M, of each detection one.
        labels: (M,) int64, names of the detections.
        rules: With `Rivals` and a figure.

    Returns:
        (M,) float32.
    """
    blocks = _score_blocks(judge, regions, _columns(rules, 1))
    found = torch.cat([_figures(block.evidence, rules) for block in blocks])
    return found.gather(1, labels[:, None]).squeeze(1)


def _ranked(
    scored: Tensor | Candidates | Judged,
    rules: Rules,
    score_thr: float,
    one_label: bool,
    best: BestOfEach,
) -> Tensor | Ranked | Candidates:
    if isinstance(scored, Candidates):
        return best_of_rows(scored) if one_label else scored
    if isinstance(scored, Tensor):
        return _only_best(scored) if one_label else scored
    figure = rules.figure
    rank = scored.scores if figure is None else _figures(scored.evidence, rules)
    best.add(rank)
    # The rest matters only where something may be reported. What is NaN is left to be refused.
    rows = (~(rank <= score_thr)).any(dim=1).nonzero().squeeze(1)
    count, rank, some = len(rank), rank.index_select(0, rows), scored.at(rows)
    values = {"scores": rank} if figure is None else {figure.name: rank, "scores": some.scores}
    if rules.hides:
        rank = rank.masked_fill(some.evidence.beaten & (rank >= 0), -1.0)
    return Ranked(_only_best(rank) if one_label else rank, values, rows, count)


def _figures(evidence: Evidence, rules: Rules) -> Tensor:
    if rules.competitors.leaves_alone:
        _check_company(evidence, rules)
    return rules.figure.of(evidence.features)


def _check_company(evidence: Evidence, rules: Rules) -> None:
    """Make sure that something competes with each name, be it a background alone.

    Raises:
        ValueError: Nothing does.
    """
    names = evidence.features if rules.figure.weights is None else rules.figure.weights
    used = [evidence.features[name] for name in names if name in evidence.features]
    alone = sum(values.isinf().any(dim=0) for values in used) > 0
    alone = alone[: rules.competitors.count]
    if alone.any():
        raise ValueError(
            f"nothing competes with {int(alone.sum())} of {len(alone)} names, so that there is no "
            "evidence of them: give the competition a bank of names, see Competition"
        )


def _columns(rules: Rules, num_texts: int) -> int:
    """Columns of the widest matrix, in numbers of four bytes."""
    if rules.competitors is None:
        return num_texts
    return 2 * max(num_texts, rules.competitors.most_columns)


def _only_best(scores: Tensor) -> Tensor:
    """(K, C) scores with all but the first of the largest ones of each row below any threshold."""
    if not scores.numel():
        return scores
    best, columns = scores.max(dim=1, keepdim=True)
    return torch.full_like(scores, -1.0).scatter_(1, columns, best)


def to_original(boxes: Tensor, meta: Mapping[str, Any]) -> Tensor:
    """Boxes in pixels of the network input -> of the original picture, clipped to it."""
    # A pipeline that does not resize leaves no scale factor.
    scale_x, scale_y = meta.get("scale_factor", (1.0, 1.0))[:2]
    boxes = boxes / boxes.new_tensor([scale_x, scale_y, scale_x, scale_y])
    height, width = meta.get("ori_shape", meta["img_shape"])[:2]
    limits = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limits)


def _score_blocks(
    score: Callable[[Regions], _Scored], regions: Regions, columns: int
) -> Iterator[_Scored]:
    """Scores of some regions after another, so that memory has a bound for any vocabulary."""
    rows = max(1, _SCORES_AT_ONCE // max(1, columns))
    for start in range(0, max(1, len(regions)), rows):
        yield score(regions[start : start + rows])
