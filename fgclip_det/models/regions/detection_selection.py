"""From scores of class-agnostic boxes to a list of detections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from fgclip_det.compat import box_iou, nms

# The first round of non-maximum suppression looks at this many candidates for each detection
# that may be given.
_CANDIDATES_PER_DETECTION = 20

# Columns of which the largest value is looked at first, where there are so many values.
_GROUP, _MANY_VALUES = 64, 1 << 17

# Above this many candidates, classes are suppressed one by one: the CUDA kernel's mask grows with
# the square of the candidates.
_MAX_JOINT_CANDIDATES = 20_000


class Ranked(NamedTuple):
    """What detections are chosen by, and what is told of them.

    Attributes:
        rank: (k, C) float32.
        values: (k, C) each, by what they are called in the result.
        rows: (k,) int64, which of K boxes these are, the others not being detected; None for all.
        count: K, where there are rows.
    """

    rank: Tensor
    values: Mapping[str, Tensor]
    rows: Tensor | None = None
    count: int = 0


class Candidates(NamedTuple):
    """What ranks above the threshold, row by row.

    Attributes:
        rows: (M,) int64 in [0, count).
        columns: (M,) int64, categories.
        rank: (M,) float32; NaN is above any threshold.
        values: (M,) each, by what they are called in the result.
        count: Of boxes.
    """

    rows: Tensor
    columns: Tensor
    rank: Tensor
    values: Mapping[str, Tensor]
    count: int


def select_detections(
    boxes: Tensor,
    scores: Tensor | Iterable[Tensor | Ranked | Candidates],
    score_thr: float,
    iou_threshold: float,
    max_per_img: int,
    class_agnostic: bool = False,
    contradictory: Tensor | None = None,
) -> InstanceData:
    """Best detections of one image after non-maximum suppression, by falling rank.

    Args:
        boxes: (K, 4) float32, xyxy; each may be detected as several categories.
        scores: (K, C) float32, or blocks (k, C) of its rows, one after another; at least one.
            Scores are their own rank. A block may be of `Candidates` alone.
        score_thr: Only those of a rank above it become candidates.
        iou_threshold: A candidate that overlaps a better one by more than this is dropped.
        max_per_img: At most so many detections.
        class_agnostic: Whether candidates of other categories count as better ones too.
        contradictory: (P, 2) int64 pairs of categories, whose candidates count as better ones of
            each other. None for none.

    Returns:
        ``bboxes`` (M, 4), ``scores`` (M,) or the values of `Ranked`, ``labels`` (M,) int64 columns
        of `scores`, ``regions`` (M,) int64 rows of `boxes`.

    Raises:
        ValueError: A rank is NaN, which no threshold could be told from an unlikely one.
    """
    blocks = [scores] if isinstance(scores, Tensor) else scores
    rows, columns, ranks, values = _candidates(blocks, score_thr, class_agnostic)
    groups = torch.zeros_like(columns) if class_agnostic else columns
    if class_agnostic or contradictory is None or not len(contradictory):
        suppress = _nms
    else:
        pairs = contradictory.to(columns.device)
        suppress = partial(_nms_of_contradictions, pairs=pairs, most=max_per_img)
    # Greedy suppression never looks at worse candidates, so that the first `max_per_img`
    # survivors among the best candidates are those among all.
    count = _CANDIDATES_PER_DETECTION * max_per_img
    while True:
        order = _best(ranks, count)
        keep = suppress(boxes[rows[order]], ranks[order], groups[order], iou_threshold)
        if len(keep) >= max_per_img or count >= len(ranks):
            break
        count *= 2
    kept = order[keep[:max_per_img]]
    return InstanceData(
        bboxes=boxes[rows[kept]],
        **{name: value[kept] for name, value in values.items()},
        labels=columns[kept],
        regions=rows[kept],
    )


def _candidates(
    blocks: Iterable[Tensor | Ranked | Candidates], score_thr: float, class_agnostic: bool
) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """Rows, columns, ranks and values, each (M,), of what ranks above a threshold, row by row."""
    found, start = [], 0
    for block in blocks:
        if isinstance(block, Candidates):
            some = best_of_rows(block) if class_agnostic else block
        else:
            some = _candidates_of(block, score_thr, class_agnostic)
        is_nan = some.rank.isnan()
        if is_nan.any():
            raise ValueError(
                f"scores of {len(some.rows[is_nan].unique())} of {some.count} boxes are NaN: "
                "the weights of the detector or the encoder, or the text embeddings, hold NaN or "
                "infinite values"
            )
        found.append((some.rows + start, some.columns, some.rank, *some.values.values()))
        start += some.count
    rows, columns, ranks, *told = (torch.cat(parts) for parts in zip(*found, strict=True))
    return rows, columns, ranks, dict(zip(some.values, told, strict=True))


def _candidates_of(block: Tensor | Ranked, score_thr: float, class_agnostic: bool) -> Candidates:
    rank, values, places, count = (
        Ranked(block, {"scores": block}) if isinstance(block, Tensor) else block
    )
    # What is NaN is not below a threshold, and is refused.
    if class_agnostic and rank.numel():
        # Of one box in several categories only the best can survive; NaN is the best.
        best, columns = rank.max(dim=1)
        rows = (~(best <= score_thr)).nonzero().squeeze(1)
        columns = columns[rows]
    else:
        rows, columns = _above(rank, score_thr)
    return Candidates(
        rows if places is None else places[rows],
        columns,
        rank[rows, columns],
        {name: matrix[rows, columns] for name, matrix in values.items()},
        len(rank) if places is None else count,
    )


def best_of_rows(some: Candidates) -> Candidates:
    """Of each row the best candidate, of equal ones the first; NaN is the best."""
    rank = some.rank.nan_to_num(nan=torch.inf)
    best = rank.new_full((some.count,), -torch.inf).scatter_reduce_(0, some.rows, rank, "amax")
    places = (rank == best[some.rows]).nonzero().squeeze(1)
    rows = some.rows[places]
    is_first = torch.ones_like(rows, dtype=torch.bool)
    is_first[1:] = rows[1:] != rows[:-1]
    kept = places[is_first]
    values = {name: value[kept] for name, value in some.values.items()}
    return Candidates(some.rows[kept], some.columns[kept], some.rank[kept], values, some.count)


def _above(values: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Rows and columns, row by row, of what is above a threshold, or NaN.

    Of thousands of names few are likely for a region, and maxima take a sixth of the time of a
    comparison and its places.
    """
    count = values.shape[1]
    if values.numel() < _MANY_VALUES:
        return (~(values <= threshold)).nonzero(as_tuple=True)
    whole = count // _GROUP * _GROUP
    best = values[:, :whole].unflatten(1, (whole // _GROUP, _GROUP)).amax(dim=2)
    if whole < count:
        best = torch.cat([best, values[:, whole:].amax(dim=1, keepdim=True)], dim=1)
    rows, groups = (~(best <= threshold)).nonzero(as_tuple=True)
    if 4 * len(rows) > best.numel():
        return (~(values <= threshold)).nonzero(as_tuple=True)
    columns = groups[:, None] * _GROUP + torch.arange(_GROUP, device=values.device)
    some = values[rows[:, None], columns.clamp(max=count - 1)]
    places, offsets = (~(some <= threshold) & (columns < count)).nonzero(as_tuple=True)
    return rows[places], columns[places, offsets]


def _best(values: Tensor, count: int) -> Tensor:
    """Places of the `count` largest values, falling; of equal ones the first comes first."""
    places = torch.arange(len(values), device=values.device)
    if len(values) > count:
        # Millions of candidates are not sorted for the sake of two thousand.
        places = (values >= values.topk(count).values[-1]).nonzero().squeeze(1)
    order = values[places].sort(descending=True, stable=True).indices
    return places[order[:count]]


def _nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Rows that survive within their group, rising; `scores` must fall."""
    if not len(boxes):
        return groups.new_zeros(0)
    if len(boxes) > _MAX_JOINT_CANDIDATES:
        kept = []
        for group in groups.unique():
            rows = (groups == group).nonzero().squeeze(1)
            kept.append(rows[nms(boxes[rows], scores[rows], iou_threshold)])
        return torch.cat(kept).sort().values
    # Groups are moved apart in float64: in float32, the 5000th name's boxes would be rounded to
    # a quarter of a pixel, and results would depend on the order of the vocabulary.
    boxes = boxes.double()
    offsets = groups.double() * (boxes.max() - boxes.min() + 1)
    return nms(boxes + offsets[:, None], scores.double(), iou_threshold).sort().values


def _nms_of_contradictions(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, pairs: Tensor, most: int
) -> Tensor:
    """`_nms` where (P, 2) pairs of groups suppress each other too; of these, the `most` best."""
    pairs = torch.cat([pairs, pairs.flip(1)])
    involved = torch.isin(groups, pairs)
    others = (~involved).nonzero().squeeze(1)
    kept = [others[_nms(boxes[others], scores[others], groups[others], iou_threshold)]]
    left = involved.nonzero().squeeze(1)
    # One after another: whom a dropped one would have dropped may stay.
    while len(left) and len(kept) <= most:
        best, left = left[:1], left[1:]
        kept.append(best)
        against = torch.cat([groups[best], pairs[pairs[:, 0] == groups[best], 1]])
        overlaps = box_iou(boxes[best].double(), boxes[left].double())[0] > iou_threshold
        left = left[~(overlaps & torch.isin(groups[left], against))]
    return torch.cat(kept).sort().values
