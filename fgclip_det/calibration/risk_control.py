"""Thresholds whose risk is bounded, whatever the detector and the law of the pictures.

Learn then Test (Angelopoulos et al. 2021, arXiv 2110.01052): each threshold of a grid that was
fixed before the pictures were seen has a null hypothesis, that its risk is above the bound. They
are tested from strict to loose, each at the full level, up to the first that cannot be rejected;
the last that was is taken. It breaks the bound with probability at most delta, for pictures that
are drawn independently from one law, of which the later ones are too.

The p-value of "pictures", where a picture has a false alarm or none, is the exact binomial tail:
it is at most delta where Clopper and Pearson's upper bound is at most the risk. That of "alarms",
clipped counts, is Hoeffding and Bentkus's (Bates et al. 2021, arXiv 2101.02703).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fgclip_det.calibration.thresholds import KINDS, NEVER, Threshold
from fgclip_det.io import quoted

# From strict to loose, at equal steps of log-odds; numbers that float32 holds, as figures do.
GRID = (1 / (1 + np.exp(-np.linspace(14, -14, 1001)))).astype(np.float32).astype(np.float64)


class Goal(NamedTuple):
    """What is to hold.

    Attributes:
        risk: Bound of the risk.
        delta: Chance that it may be broken, for all names together.
        kind: What risk is: "pictures", the share of pictures with a false alarm of a name, or
            "alarms", the mean number of them in a picture.
        clip: Of "alarms", how many are counted at most.
    """

    risk: float
    delta: float
    kind: str = "pictures"
    clip: int | None = None

    @property
    def most(self) -> int:
        """The largest loss of a picture."""
        return 1 if self.clip is None else self.clip

    def check(self) -> None:
        """Refuse what cannot be bounded.

        Raises:
            ValueError: A figure is out of range.
        """
        if self.kind not in KINDS:
            raise ValueError(f"the kind of risk is {quoted(self.kind)}: give {' or '.join(KINDS)}")
        is_clip = type(self.clip) is int and self.clip >= 1
        if is_clip != (self.kind == "alarms") or (self.clip is not None and not is_clip):
            raise ValueError(
                f"clip is {quoted(self.clip)} for {self.kind}: give 1 or more with alarms, which "
                "have a bound only where they are clipped, and none with pictures"
            )
        if not 0 < self.risk < self.most:
            raise ValueError(
                f"risk is {quoted(self.risk)}: give a number between 0 and {self.most}"
            )
        if not 0 < self.delta < 1:
            raise ValueError(f"delta is {quoted(self.delta)}: give a number between 0 and 1")


def control(
    alarms: Mapping[str, tuple[np.ndarray, np.ndarray]],
    num_pictures: int,
    goal: Goal,
    on: str = "confidence",
    words: Mapping[str, str] | None = None,
    least: float = 0.0,
) -> dict[str, Threshold]:
    """Thresholds of names that hold for all of them together.

    Args:
        alarms: By name the figures (A,) in [0, 1] of its false alarms, and their pictures (A,),
            whole numbers below `num_pictures`; a name without alarms has empty ones.
        num_pictures: How many pictures were looked into, those without alarms among them.
        goal: What is to hold; each name has an equal part of its delta.
        on: What the figures are, see `Threshold`.
        words: By name, see `Threshold`.
        least: No threshold is below it, whatever the goal allows; chosen without these pictures.

    Returns:
        One for each name; `NEVER` is the value where even the strictest is not safe enough.

    Raises:
        ValueError: There are no names, too few pictures, or figures that are none.
    """
    if not alarms:
        raise ValueError("there is no name to find a threshold for: give some")
    check_pictures(num_pictures, goal, len(alarms))
    part = goal.delta / len(alarms)
    grid = grid_above(least)
    made = {}
    for name, (figures, pictures) in alarms.items():
        value, seen = _controlled(
            figures, pictures, num_pictures, goal._replace(delta=part), name, grid
        )
        made[name] = Threshold(
            value,
            goal.risk,
            part,
            goal.kind,
            num_pictures,
            seen,
            on,
            goal.clip,
            (words or {}).get(name, ""),
        )
    return made


def grid_above(least: float) -> np.ndarray:
    """(T,) float64, falling: the thresholds of `GRID` above another, and last that one.

    Raises:
        ValueError: It is not in [0, 1].
    """
    if not 0 <= least <= 1:
        raise ValueError(f"the least threshold is {quoted(least)}: give a number from 0 to 1")
    kept = GRID[np.float32(least) < GRID]
    return GRID if len(kept) == len(GRID) else np.append(kept, np.float64(np.float32(least)))


def check_pictures(number: int, goal: Goal, names: int) -> None:
    """Make sure that a goal can be reached, if need be before a network looks into pictures.

    Args:
        number: How many pictures there are.
        goal: What is to hold.
        names: Among how many its delta is shared.

    Raises:
        ValueError: The goal cannot be, or needs more pictures; says how many.
    """
    goal.check()
    needed = needed_pictures(goal.risk, goal.delta / names, goal.most)
    if number < needed:
        raise ValueError(
            f"{number} pictures cannot bound a risk of {goal.risk:g} at delta {goal.delta:g} for "
            f"{names} name(s): {needed} are needed, even if none of them has a false alarm; add "
            "pictures, ask for fewer names, or allow more"
        )


def needed_pictures(risk: float, delta: float, clip: int = 1) -> int:
    """The least number of pictures that can bound a risk: those of which none has an alarm.

    Both p-values are then (1 - risk / clip) to the number of pictures.

    Args:
        risk: The bound, below `clip`.
        delta: Chance that it may be broken.
        clip: The largest loss of a picture.
    """
    number = max(1, math.ceil(math.log(delta) / math.log1p(-risk / clip)))
    # The last bit of a logarithm decides where the power meets delta.
    while p_values(np.zeros(1, np.int64), number, risk, clip)[0] > delta:
        number += 1
    return number


def p_values(alarms: np.ndarray, num_pictures: int, risk: float, clip: int = 1) -> np.ndarray:
    """Chances of so few alarms, or bounds of them, if the risk were above its bound.

    Args:
        alarms: (T,) whole numbers of 0 to `num_pictures` * `clip`.
        num_pictures: N.
        risk: The bound, below `clip`.
        clip: The most that was counted of a picture. With 1 the p-values are exact.

    Returns:
        (T,) float64.
    """
    mean = risk / clip
    tails = _binomial_tails(num_pictures, mean)
    if clip == 1:
        return tails[alarms]
    bentkus = math.e * tails[-(-alarms // clip)]
    seen = np.minimum(alarms / (num_pictures * clip), mean)
    return np.minimum(np.exp(-num_pictures * _divergence(seen, mean)), np.minimum(bentkus, 1))


def upper_bound(alarms: int, num_pictures: int, delta: float) -> float:
    """Clopper and Pearson's upper bound of a probability.

    Args:
        alarms: How often it happened,
        num_pictures: of so many times.
        delta: Chance that the probability is above the bound.
    """
    low, high = alarms / num_pictures, 1.0
    if alarms == num_pictures:
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        is_above = _binomial_tails(num_pictures, middle)[alarms] <= delta
        low, high = (low, middle) if is_above else (middle, high)
    return high


def _controlled(
    figures: np.ndarray,
    pictures: np.ndarray,
    num_pictures: int,
    goal: Goal,
    name: str,
    grid: np.ndarray,
) -> tuple[float, int]:
    """The loosest threshold that passes, and what was counted at it."""
    figures, pictures = np.asarray(figures, np.float64), np.asarray(pictures, np.int64)
    if figures.shape != pictures.shape or figures.ndim != 1:
        raise ValueError(f"alarms of {quoted(name)} have no picture each: give as many")
    if not ((figures >= 0) & (figures <= 1)).all():
        raise ValueError(f"alarms of {quoted(name)} are not all in [0, 1], or NaN: mend the scores")
    if len(pictures) and not 0 <= pictures.min() <= pictures.max() < num_pictures:
        raise ValueError(f"alarms of {quoted(name)} are in pictures beyond {num_pictures}")
    counted = np.sort(_strongest(figures, pictures, goal.most))
    seen = len(counted) - np.searchsorted(counted, grid, side="left")
    passes = p_values(seen, num_pictures, goal.risk, goal.most) <= goal.delta
    # Counts never fall along the grid, but that is no part of the proof: the first failure ends.
    last = (len(grid) if passes.all() else int(np.argmin(passes))) - 1
    return (NEVER, 0) if last < 0 else (float(grid[last]), int(seen[last]))


def _strongest(figures: np.ndarray, pictures: np.ndarray, most: int) -> np.ndarray:
    """The highest figures of each picture, which are all that a clipped count sees."""
    order = np.lexsort((-figures, pictures))
    own = pictures[order]
    starts = np.searchsorted(own, own, side="left")
    return figures[order][np.arange(len(own)) - starts < most]


def _binomial_tails(number: int, chance: float) -> np.ndarray:
    """(number + 1,) float64: the chance of at most k successes, for k from 0."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, number + 1)))])
    k = np.arange(number + 1)
    logs = factorials[-1] - factorials - factorials[::-1]
    logs += k * math.log(chance) + (number - k) * math.log1p(-chance)
    return np.minimum(np.cumsum(np.exp(logs)), 1.0)


def _divergence(seen: np.ndarray, mean: float) -> np.ndarray:
    """Kullback and Leibler's divergence of two coins, in nats."""
    with np.errstate(divide="ignore", invalid="ignore"):
        heads = np.where(seen > 0, seen * np.log(seen / mean), 0.0)
    return heads + (1 - seen) * np.log((1 - seen) / (1 - mean))
