"""The curve from evidence to confidence, fitted by maximum likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fgclip_det.calibration.logits import checked_logits
from fgclip_det.io import quoted

# A prior so weak that it decides only where right and wrong are parted without error.
_RIDGE = 1e-2
_STEPS, _SMALL_STEP = 100, 1e-8
# Of the correction: never flat, so that what has more evidence stays before what has less.
_LEAST_SLOPE, _LARGEST_SLOPE = 1e-3, 20.0
_SUREST = 25.0
# Boxes of the rarer kind for each of its points.
_BOXES_A_KNOT = 50


@dataclass(frozen=True)
class Curve:
    """What `Calibration` keeps of a fit.

    Attributes:
        features: Their names.
        weights: One for each.
        bias: In log-odds.
        knots: Of the piecewise linear correction; empty without one.
    """

    features: tuple[str, ...]
    weights: tuple[float, ...]
    bias: float
    knots: tuple[tuple[float, float], ...] = ()


def fit_curve(
    features: Mapping[str, np.ndarray],
    right: np.ndarray,
    sample_weights: np.ndarray | None = None,
    held_out: np.ndarray | None = None,
    most_knots: int = 20,
) -> Curve:
    """Fit a logistic regression, and perhaps what it leaves over.

    Args:
        features: By name (n,) log-odds.
        right: (n,) bool, whether the detection is right.
        sample_weights: (n,) of each detection, 0 or more; None for 1.
        held_out: (n,) bool: detections that the regression does not see, and to which a rising
            correction of at most `most_knots` points is fitted, of fewer where little is right or
            wrong. None fits none. Parted by pictures, of which two detections are not independent.
        most_knots: Two or more.

    Raises:
        ValueError: There are no features, another shape, NaN, or detections of one kind only.
    """
    right = np.asarray(right, bool)
    values = _table(features, right)
    weights = _weights(sample_weights, right)
    if most_knots < 2:
        raise ValueError(f"most_knots is {most_knots}: give 2 or more, or no held_out")
    seen = np.ones(len(right), bool) if held_out is None else ~np.asarray(held_out, bool)
    if seen.shape != right.shape:
        raise ValueError(f"held_out has the shape {seen.shape}: give one for each detection")
    fitted = _logistic(values[seen], right[seen], weights[seen])
    knots: tuple[tuple[float, float], ...] = ()
    if held_out is not None:
        logits = values[~seen] @ fitted[1:] + fitted[0]
        rarer = min(right[~seen].sum(), (~right[~seen]).sum())
        most = min(most_knots, max(2, int(rarer) // _BOXES_A_KNOT))
        knots = rising_knots(logits, right[~seen], weights[~seen], most)
    return Curve(tuple(features), tuple(fitted[1:].tolist()), float(fitted[0]), knots)


def rising_knots(
    logits: np.ndarray, right: np.ndarray, weights: np.ndarray, most: int
) -> tuple[tuple[float, float], ...]:
    """Points of a rising map of log-odds onto those that were seen; empty where one point is left.

    Most boxes of a detector are hopeless, and a few are sure. A box of chance p counts as
    p * (1 - p), so that points stand where something is to be learnt; bins are of equal such mass,
    and are pooled where their shares fall (pool adjacent violators, Ayer et al. 1955). Where the
    log-odds are right already, the map changes nothing but by chance.

    Args:
        logits: (n,) log-odds.
        right: (n,) bool.
        weights: (n,) 0 or more.
        most: The most points.

    Raises:
        ValueError: All detections are of one kind.
    """
    _check_kinds(right, weights)
    order = np.argsort(logits, kind="stable")
    logits, right, weights = logits[order], right[order], weights[order]
    chances = 1 / (1 + np.exp(-logits.clip(-_SUREST, _SUREST)))
    weights = weights * chances * (1 - chances)
    mass = np.cumsum(weights)
    bins = np.minimum((mass - weights / 2) * most // mass[-1], most - 1).astype(np.int64)
    # Equal log-odds cannot mean two things.
    first_of_equals = np.searchsorted(logits, logits, side="left")
    bins = bins[first_of_equals]
    used = np.flatnonzero(np.bincount(bins, weights, most))
    totals, hits, expected, squares = (
        np.bincount(bins, own, most)[used]
        for own in (weights, weights * right, weights * chances, weights**2)
    )
    means, one = expected / totals, squares / totals
    # Each has one box more, as the curve expects it: a bin without an error is not free of them.
    y = _pooled(totals + one, hits + one * means)
    x = _log_odds(means)
    return _risen(x, y + _LEAST_SLOPE * (x - x.mean()))


def _pooled(totals: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """(B,) log-odds of the shares of hits, never falling.

    Args:
        totals: (B,) mass of each bin.
        hits: (B,) of it, what is right.
    """
    blocks: list[tuple[float, float, int]] = []
    for total, hit in zip(totals.tolist(), hits.tolist(), strict=True):
        block = (total, hit, 1)
        while blocks and blocks[-1][1] * block[0] >= block[1] * blocks[-1][0]:
            before = blocks.pop()
            block = (before[0] + block[0], before[1] + block[1], before[2] + block[2])
        blocks.append(block)
    shares = np.array([hit / total for total, hit, _ in blocks])
    return np.repeat(_log_odds(shares), [count for *_, count in blocks])


def _log_odds(chances: np.ndarray) -> np.ndarray:
    chances = chances.clip(1e-12, 1 - 1e-12)
    return np.log(chances / (1 - chances))


def _risen(x: np.ndarray, y: np.ndarray) -> tuple[tuple[float, float], ...]:
    """The points, without those that would rise like a step."""
    kept = [(float(x[0]), float(y[0]))]
    for right, above in zip(x[1:].tolist(), y[1:].tolist(), strict=True):
        left, below = kept[-1]
        if right > left and above - below <= _LARGEST_SLOPE * (right - left):
            kept.append((right, above))
    return tuple(kept) if len(kept) > 1 else ()


def _logistic(values: np.ndarray, right: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(1 + F,): bias and weights, by Newton's method with steps that never climb."""
    _check_kinds(right, weights)
    scale = np.maximum(values.std(axis=0), 1e-6)
    center = values.mean(axis=0)
    table = np.column_stack([np.ones(len(values)), (values - center) / scale])
    ridge = np.full(table.shape[1], _RIDGE)
    ridge[0] = 0.0
    at = np.zeros(table.shape[1])

    def cost(at: np.ndarray) -> float:
        logits = table @ at
        loss = np.logaddexp(0, logits) - right * logits
        return float(weights @ loss + ridge @ at**2 / 2)

    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-(table @ at).clip(-500, 500)))
        slope = table.T @ (weights * (chance - right)) + ridge * at
        bend = (table * (weights * chance * (1 - chance))[:, None]).T @ table + np.diag(ridge)
        step = np.linalg.lstsq(bend, slope, rcond=None)[0]
        before, size = cost(at), 1.0
        while cost(at - size * step) > before and size > _SMALL_STEP:
            size /= 2
        at = at - size * step
        if np.abs(size * step).max() < _SMALL_STEP:
            break
    slopes = at[1:] / scale
    return np.concatenate([[at[0] - slopes @ center], slopes])


def _table(features: Mapping[str, np.ndarray], right: np.ndarray) -> np.ndarray:
    """(n, F) float64."""
    if not features:
        raise ValueError("there are no features to fit: give at least one")
    wrong = [name for name, one in features.items() if np.shape(one) != right.shape]
    if wrong or right.ndim != 1:
        raise ValueError(
            f"feature {quoted(wrong[0] if wrong else '')} and the {right.shape} verdicts differ in "
            "shape: give one number for each detection"
        )
    columns = [checked_logits(one, name) for name, one in features.items()]
    return np.column_stack(columns).astype(np.float64)


def _weights(given: np.ndarray | None, right: np.ndarray) -> np.ndarray:
    weights = np.ones(len(right)) if given is None else np.asarray(given, np.float64)
    if weights.shape != right.shape or not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("sample_weights must be one finite number from 0 for each detection")
    return weights


def _check_kinds(right: np.ndarray, weights: np.ndarray) -> None:
    hits = int((right & (weights > 0)).sum())
    misses = int((~right & (weights > 0)).sum())
    if not hits or not misses:
        raise ValueError(
            f"{hits} right and {misses} wrong detections: a curve needs both; add pictures, or "
            "find thresholds only"
        )
