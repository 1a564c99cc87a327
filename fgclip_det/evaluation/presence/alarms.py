"""How often is something reported that is not there, at a threshold that finds what is?"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import beta, norm, rankdata


def threshold_at_recall(present: np.ndarray, recall: float = 0.95) -> float:
    """The largest threshold at or above which at least a share of values lies.

    Args:
        present: (N,) values of things that are there.
        recall: That share, in (0, 1].

    Raises:
        ValueError: There are no values, some are NaN, or `recall` is out of range.
    """
    present = _values(present, "things that are there")
    if not 0 < recall <= 1:
        raise ValueError(f"recall is {recall}: give a share above 0, at most 1")
    # 0.95 * 20 is 19 and not the next number above.
    needed = math.ceil(recall * len(present) - 1e-9)
    return float(np.sort(present)[len(present) - needed])


def share_interval(hits: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share, which covers it in at least `level` of all cases.

    Args:
        hits: In how many cases it was so.
        count: Of how many; of none, the share may be anything.
        level: In (0, 1).

    Raises:
        ValueError: `hits` is not from 0 to `count`, or `level` out of range.
    """
    if not 0 <= hits <= count or not 0 < level < 1:
        raise ValueError(f"{hits} of {count} at level {level}: give a part of a whole, and (0, 1)")
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, hits, count - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, count - hits)) if hits < count else 1.0
    return low, high


def area_under_curve(present: np.ndarray, absent: np.ndarray) -> float:
    """The share of pairs in which what is there has the larger value; ties count a half.

    Args:
        present: (N,) values of things that are there.
        absent: (M,) values of things that are not.

    Raises:
        ValueError: There are none of either, or some are NaN.
    """
    return float(_placements(present, absent)[0].mean())


def area_with_interval(
    present: np.ndarray, absent: np.ndarray, level: float = 0.95
) -> tuple[float, float, float]:
    """`area_under_curve` with its interval (DeLong, DeLong and Clarke-Pearson 1988).

    The interval takes queries for independent of one another, and shrinks to a point where the two
    kinds do not overlap at all.

    Returns:
        Area, lower and upper end.

    Raises:
        ValueError: See `area_under_curve`.
    """
    parts = _placements(present, absent)
    area = float(parts[0].mean())
    variance = sum(part.var(ddof=1) / len(part) for part in parts if len(part) > 1)
    half = float(norm.ppf((1 + level) / 2)) * math.sqrt(variance)
    return area, max(0.0, area - half), min(1.0, area + half)


def _placements(present: np.ndarray, absent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) share of absent ones that each present one beats, (M,) of present ones above each."""
    present = _values(present, "things that are there")
    absent = _values(absent, "things that are not there")
    together = rankdata(np.concatenate([present, absent]))
    above = (together[: len(present)] - rankdata(present)) / len(absent)
    below = (together[len(present) :] - rankdata(absent)) / len(present)
    return above, 1 - below


def _values(values: np.ndarray, what: str) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64).reshape(-1)
    broken = int(np.isnan(values).sum())
    if not len(values) or broken:
        raise ValueError(f"{len(values)} values of {what}, {broken} of them NaN: give numbers")
    return values
