"""Expected calibration error: is it right in 80 of 100 cases where it says 0.8?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fgclip_det.evaluation.presence.alarms import share_interval


@dataclass(frozen=True)
class Bin:
    """Cases of about the same confidence.

    Attributes:
        count: How many.
        lowest: Their least confidence.
        highest: Their largest.
        confidence: Their mean.
        right: The share of them that is right.
        interval: Of that share, 95 %.
    """

    count: int
    lowest: float
    highest: float
    confidence: float
    right: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Reliability:
    """Bins by rising confidence, and what they come to.

    Attributes:
        bins: Those that hold cases.
        error: The expected calibration error: the mean over cases of the distance between the mean
            confidence of their bin and its share of right ones.
    """

    bins: tuple[Bin, ...]
    error: float


def reliability(confidences: np.ndarray, right: np.ndarray, bins: int = 15) -> Reliability:
    """Compare confidences with what came true, in bins of equal mass.

    Equal confidences share a bin, that of the middle one of them, so that the order of the cases
    says nothing; bins then differ in mass, and some may be empty.

    Args:
        confidences: (N,) in [0, 1].
        right: (N,) bool.
        bins: How many bins.

    Raises:
        ValueError: There are no cases, they are not as many, `bins` is below 1, or a confidence is
            none.
    """
    confidences = np.asarray(confidences, dtype=np.float64).reshape(-1)
    right = np.asarray(right, dtype=bool).reshape(-1)
    if not len(confidences) or len(confidences) != len(right) or bins < 1:
        raise ValueError(
            f"{len(confidences)} confidences, {len(right)} outcomes and {bins} bins: give as many "
            "of the first two, and at least one of each"
        )
    outside = ~((confidences >= 0) & (confidences <= 1))
    if outside.any():
        raise ValueError(
            f"{int(outside.sum())} of {len(confidences)} confidences are not in [0, 1], the first "
            f"is {confidences[outside][0]}: calibrate them first"
        )
    ordered = np.sort(confidences)
    below, upto = (np.searchsorted(ordered, confidences, side) for side in ("left", "right"))
    places = (below + upto) * bins // (2 * len(confidences))
    found = tuple(
        _bin(confidences[places == place], right[places == place]) for place in np.unique(places)
    )
    distances = sum(one.count * abs(one.confidence - one.right) for one in found)
    return Reliability(found, float(distances / len(confidences)))


def _bin(confidences: np.ndarray, right: np.ndarray) -> Bin:
    count, hits = len(confidences), int(right.sum())
    return Bin(
        count,
        float(confidences.min()),
        float(confidences.max()),
        float(confidences.mean()),
        hits / count,
        share_interval(hits, count),
    )
