import numpy as np
import pytest

from fgclip_det.evaluation.presence import reliability


def test_two_bins_by_hand():
    found = reliability(np.array([0.1, 0.3, 0.6, 1.0]), np.array([0, 1, 1, 1]), bins=2)
    assert [one.count for one in found.bins] == [2, 2]
    assert [one.confidence for one in found.bins] == pytest.approx([0.2, 0.8])
    assert [one.right for one in found.bins] == [0.5, 1]
    assert [(one.lowest, one.highest) for one in found.bins] == [(0.1, 0.3), (0.6, 1.0)]
    assert found.error == pytest.approx((2 * 0.3 + 2 * 0.2) / 4)
    assert found.bins[1].interval[1] == 1 and 0.1 < found.bins[1].interval[0] < 0.2


def test_bins_have_equal_mass():
    found = reliability(np.linspace(0, 1, 1500) ** 3, np.zeros(1500))
    assert [one.count for one in found.bins] == [100] * 15


def test_what_is_calibrated_has_little_error_and_what_boasts_has_much():
    rng = np.random.default_rng(0)
    confidences = rng.random(20_000)
    right = rng.random(20_000) < confidences
    assert reliability(confidences, right).error < 0.015
    assert reliability(np.sqrt(confidences), right).error == pytest.approx(1 / 6, abs=0.01)


def test_order_means_nothing_among_ties():
    rng = np.random.default_rng(1)
    confidences, right = rng.integers(0, 5, 1000) / 4, rng.random(1000) < 0.5
    first = reliability(confidences, right)
    order = rng.permutation(1000)
    assert reliability(confidences[order], right[order]) == first
    # Each value has a bin of its own, and none is torn apart.
    assert [(one.lowest, one.highest) for one in first.bins] == [(v, v) for v in np.arange(5) / 4]
    by_hand = sum(
        (confidences == v).sum() * abs(v - right[confidences == v].mean()) for v in np.arange(5) / 4
    )
    assert first.error == pytest.approx(by_hand / 1000)


def test_one_case_and_all_equal_ones():
    assert reliability(np.array([0.25]), np.array([True])).error == pytest.approx(0.75)
    found = reliability(np.full(9, 1.0), np.array([1, 0, 0] * 3))
    assert len(found.bins) == 1 and found.error == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("confidences", "right", "bins", "message"),
    [
        ([], [], 15, "0 confidences"),
        ([0.5], [1, 0], 15, "2 outcomes"),
        ([0.5], [1], 0, "0 bins"),
        ([0.5, np.nan], [1, 1], 15, "1 of 2 confidences .* nan"),
        ([1.5], [1], 15, "the first is 1.5"),
    ],
)
def test_bad_input_is_named(confidences, right, bins, message):
    with pytest.raises(ValueError, match=message):
        reliability(np.array(confidences), np.array(right), bins)
