"""The fitted curve: known laws are found again, and what cannot be fitted is said."""

from __future__ import annotations

import numpy as np
import pytest

from fgclip_det.calibration import Calibration, fit_curve
from fgclip_det.calibration.fit import rising_knots


def _law(rng: np.random.Generator, count: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    features = {"a": rng.normal(1, 3, count), "b": rng.normal(-2, 0.5, count)}
    logits = -1 + 0.7 * features["a"] - 1.5 * (features["b"] + 2)
    return features, rng.random(count) < 1 / (1 + np.exp(-logits))


def _calibration(curve) -> Calibration:
    return Calibration("d", "e", {}, curve.features, curve.weights, curve.bias, curve.knots)


def _error(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error, bins of equal mass."""
    parts = np.array_split(np.argsort(confidence), bins)
    gaps = [abs(confidence[p].mean() - right[p].mean()) * len(p) for p in parts]
    return sum(gaps) / len(right)


def test_the_weights_of_a_known_law_are_found() -> None:
    features, right = _law(np.random.default_rng(0), 40_000)
    curve = fit_curve(features, right)
    assert curve.features == ("a", "b")
    np.testing.assert_allclose(curve.weights, [0.7, -1.5], rtol=0.06)
    assert curve.bias == pytest.approx(-1 - 3, abs=0.2)
    assert curve.knots == ()


def test_it_is_the_maximum_of_the_likelihood() -> None:
    features, right = _law(np.random.default_rng(1), 2000)
    curve = fit_curve(features, right)
    confidence = _calibration(curve).confidence(features).astype(np.float64)
    # Where its slopes are zero, up to the weak prior.
    assert abs((confidence - right).sum()) < 0.01
    for values in features.values():
        assert abs(((confidence - right) * values).sum()) < 0.2


def test_weights_are_repetitions() -> None:
    features, right = _law(np.random.default_rng(2), 500)
    times = np.random.default_rng(3).integers(0, 4, 500)
    repeated = {name: np.repeat(one, times) for name, one in features.items()}
    by_weight = fit_curve(features, right, sample_weights=times.astype(float))
    by_rows = fit_curve(repeated, np.repeat(right, times))
    np.testing.assert_allclose(by_weight.weights, by_rows.weights, rtol=1e-3)
    assert by_weight.bias == pytest.approx(by_rows.bias, rel=1e-3)


def test_right_and_wrong_without_error_give_finite_weights() -> None:
    x = np.linspace(-5, 5, 100)
    curve = fit_curve({"x": x, "same": np.zeros(100)}, x > 0)
    confidence = _calibration(curve).confidence({"x": x, "same": np.zeros(100)})
    assert np.isfinite([*curve.weights, curve.bias]).all()
    assert ((confidence > 0.5) == (x > 0)).all()


def test_features_beyond_all_bounds_are_held() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(0, 1, 1000)
    right = rng.random(1000) < 1 / (1 + np.exp(-x))
    x[:20], right[:20] = np.inf, True
    curve = fit_curve({"x": x}, right)
    assert np.isfinite([*curve.weights, curve.bias]).all()


def test_knots_mend_what_a_line_cannot() -> None:
    rng = np.random.default_rng(5)

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.normal(0, 4, count)
        return x, rng.random(count) < np.clip(0.02 + 0.45 * (x > -1) + 0.45 * (x > 3), 0, 1)

    x, right = drawn(8000)
    held_out = np.arange(8000) % 2 == 0
    line = _calibration(fit_curve({"x": x[~held_out]}, right[~held_out]))
    curve = fit_curve({"x": x}, right, held_out=held_out)
    assert 2 <= len(curve.knots) <= 20
    fresh, truth = drawn(40_000)
    bent = _calibration(curve).confidence({"x": fresh})
    assert _error(bent, truth) < 0.025 < 0.05 < _error(line.confidence({"x": fresh}), truth)
    # The order stays: confidences never fall where the evidence rises.
    rising = np.diff(bent[np.argsort(fresh)])
    assert (rising >= 0).all()
    assert (rising > 0).mean() > 0.8


def _mass(logit: float) -> float:
    chance = 1 / (1 + np.exp(-logit))
    return chance * (1 - chance)


def test_knots_pool_what_falls() -> None:
    logits = np.repeat([0.0, 1.0, 2.0, 3.0], 100)
    shares = [0.1, 0.6, 0.4, 0.9]
    right = np.concatenate([np.arange(100) < 100 * share for share in shares])
    knots = rising_knots(logits, right, np.ones(400), 20)
    assert [x for x, _ in knots] == pytest.approx([0.0, 1.0, 2.0, 3.0])
    found = [1 / (1 + np.exp(-y)) for _, y in knots]
    # Of the two that were pooled the one nearer to 0 counts more.
    mass = np.array([_mass(1.0), _mass(2.0)])
    pooled = mass @ shares[1:3] / mass.sum()
    assert found == pytest.approx([0.1, pooled, pooled, 0.9], abs=0.01)
    assert found[1] < found[2]


def test_knots_leave_alone_what_is_right() -> None:
    """Also where nearly all boxes are hopeless, as those of a detector are."""
    rng = np.random.default_rng(8)
    x = np.concatenate([rng.normal(-20, 5, 200_000), rng.normal(0, 4, 40_000)])
    right = rng.random(len(x)) < 1 / (1 + np.exp(-x))
    knots = rising_knots(x, right, np.ones(len(x)), 10)
    assert len(knots) == 10
    for place, meant in knots:
        assert abs(1 / (1 + np.exp(-place)) - 1 / (1 + np.exp(-meant))) < 0.06
    assert min(x for x, _ in knots) < -1.5 and max(x for x, _ in knots) > 1.5


def test_no_knots_where_all_evidence_is_equal() -> None:
    assert rising_knots(np.zeros(100), np.arange(100) % 2 == 0, np.ones(100), 20) == ()


def test_evidence_that_misleads_is_flattened() -> None:
    logits = np.linspace(-1, 1, 100)
    falling = rising_knots(logits, logits < 0, np.ones(100), 20)
    assert len(falling) == 20
    assert [float(y) for _, y in falling] == pytest.approx([0.0] * 20, abs=0.05)


@pytest.mark.parametrize("most", [2, 3, 20])
def test_few_detections_and_few_knots(most: int) -> None:
    rng = np.random.default_rng(6)
    for count in (4, 5, 30):
        x, right = rng.normal(0, 2, count), np.arange(count) % 2 == 0
        knots = rising_knots(x, right, np.ones(count), most)
        assert len(knots) <= most
        Calibration("d", "e", {}, ("x",), (1.0,), 0.0, knots)


@pytest.mark.parametrize(
    ("features", "right", "options", "told"),
    [
        ({}, [True, False], {}, "no features"),
        ({"x": [0.0]}, [True, False], {}, "'x'.*shape"),
        ({"x": [0.0, np.nan]}, [True, False], {}, "'x' holds NaN"),
        ({"x": [0.0, 1.0]}, [True, True], {}, "2 right and 0 wrong"),
        ({"x": []}, [], {}, "0 right and 0 wrong"),
        ({"x": [0.0, 1.0]}, [True, False], {"sample_weights": [1.0, 0.0]}, "1 right and 0 wrong"),
        ({"x": [0.0, 1.0]}, [True, False], {"sample_weights": [1.0, -1.0]}, "sample_weights"),
        ({"x": [0.0, 1.0]}, [True, False], {"sample_weights": [1.0]}, "sample_weights"),
        ({"x": [0.0, 1.0]}, [True, False], {"held_out": [True]}, "held_out"),
        ({"x": [0.0, 1.0]}, [True, False], {"held_out": [True, True]}, "0 right and 0 wrong"),
        ({"x": [0.0, 1.0]}, [True, False], {"most_knots": 1}, "most_knots is 1"),
    ],
)
def test_what_cannot_be_fitted_is_said(features, right, options, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        fit_curve({k: np.array(v) for k, v in features.items()}, np.array(right), **options)
