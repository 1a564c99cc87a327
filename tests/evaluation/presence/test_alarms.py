import itertools

import numpy as np
import pytest
from scipy.stats import binom

from fgclip_det.evaluation.presence import (
    area_under_curve,
    area_with_interval,
    share_interval,
    threshold_at_recall,
)


@pytest.mark.parametrize(
    ("recall", "threshold"), [(0.95, 2), (0.951, 1), (1, 1), (0.9, 3), (0.05, 20), (0.001, 20)]
)
def test_the_largest_threshold_with_the_recall(recall, threshold):
    values = np.random.default_rng(0).permutation(np.arange(1.0, 21))
    assert threshold_at_recall(values, recall) == threshold


@pytest.mark.parametrize("count", [1, 7, 20, 100, 5000])
def test_recall_is_reached_with_ties_too(count):
    values = np.random.default_rng(count).integers(0, 4, count)
    for recall in (0.5, 0.95, 0.99):
        threshold = threshold_at_recall(values, recall)
        assert (values >= threshold).mean() >= recall
        assert (values > threshold).mean() < recall


def test_area_counts_ties_a_half():
    assert area_under_curve([1, 2], [0, 1]) == (1 + 1 + 0.5 + 1) / 4
    assert area_under_curve([3, 3], [3]) == 0.5
    rng = np.random.default_rng(0)
    present, absent = rng.integers(2, 9, 60), rng.integers(0, 7, 40)
    pairs = [(a > b) + 0.5 * (a == b) for a, b in itertools.product(present, absent)]
    assert area_under_curve(present, absent) == pytest.approx(np.mean(pairs))
    assert area_under_curve(absent, present) == pytest.approx(1 - np.mean(pairs))
    assert area_under_curve([0.1, -np.inf], [-np.inf]) == 0.75


def test_area_interval_covers_and_shrinks():
    rng = np.random.default_rng(0)
    covered = widths = 0
    for _ in range(300):
        area, low, high = area_with_interval(rng.normal(1, 1, 80), rng.normal(0, 1, 120))
        assert 0 <= low <= area <= high <= 1
        covered += low <= 0.7602 <= high  # the normal distribution at 1 / sqrt(2)
        widths += (high - low) / 300
    assert 275 <= covered <= 295
    assert widths == pytest.approx(2 * 1.96 * 0.034, rel=0.1)
    assert area_with_interval([2.0], [1.0]) == (1, 1, 1)


def test_share_interval_is_clopper_and_pearsons():
    assert share_interval(0, 0) == (0, 1)
    low, high = share_interval(0, 100)
    assert low == 0 and high == pytest.approx(1 - 0.025 ** (1 / 100))
    low, high = share_interval(100, 100)
    assert high == 1 and low == pytest.approx(0.025 ** (1 / 100))
    low, high = share_interval(7, 50)
    assert binom.sf(6, 50, low) == pytest.approx(0.025)
    assert binom.cdf(7, 50, high) == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: threshold_at_recall([]), "0 values of things that are there"),
        (lambda: threshold_at_recall([1.0, np.nan]), "1 of them NaN"),
        (lambda: threshold_at_recall([1.0], 0), "recall is 0"),
        (lambda: threshold_at_recall([1.0], 1.1), "recall is 1.1"),
        (lambda: area_under_curve([1.0], []), "0 values of things that are not there"),
        (lambda: share_interval(3, 2), "3 of 2"),
        (lambda: share_interval(1, 2, 1), "level 1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
