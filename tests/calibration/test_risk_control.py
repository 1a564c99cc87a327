"""Thresholds keep their bound: p-values by closed forms, and 200 calibrations of a known law."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fgclip_det.calibration import NEVER, Goal, control, needed_pictures, upper_bound
from fgclip_det.calibration.risk_control import GRID, p_values

CALIBRATIONS, PICTURES = 200, 300


def _tail(number: int, chance: float, most: int) -> float:
    ways = (math.comb(number, k) for k in range(most + 1))
    return math.fsum(w * chance**k * (1 - chance) ** (number - k) for k, w in enumerate(ways))


@pytest.mark.parametrize(("number", "chance"), [(1, 0.5), (22, 0.1), (300, 0.03), (900, 0.9)])
def test_p_values_of_pictures_are_exact_binomial_tails(number: int, chance: float) -> None:
    seen = np.arange(0, number + 1, max(1, number // 7))
    expected = [_tail(number, chance, int(k)) for k in seen]
    np.testing.assert_allclose(p_values(seen, number, chance), expected, rtol=1e-9, atol=1e-99)


def test_p_values_agree_with_scipy() -> None:
    binom = pytest.importorskip("scipy.stats").binom
    seen = np.array([0, 5, 49_000, 50_000, 51_000, 100_000])
    found = p_values(seen, 100_000, 0.5)
    np.testing.assert_allclose(found, binom.cdf(seen, 100_000, 0.5), rtol=1e-7)


def test_the_upper_bound_is_where_the_p_value_is_delta() -> None:
    # Of no alarms it has a closed form.
    assert upper_bound(0, 30, 0.05) == pytest.approx(1 - 0.05 ** (1 / 30))
    assert upper_bound(30, 30, 0.05) == 1
    bound = upper_bound(7, 90, 0.02)
    assert _tail(90, bound, 7) == pytest.approx(0.02)


def test_p_values_of_clipped_alarms_are_the_smaller_of_two_bounds() -> None:
    n, risk, clip = 50, 1.5, 5
    mean, seen = risk / clip, 20
    share = seen / (n * clip)
    divergence = share * math.log(share / mean) + (1 - share) * math.log((1 - share) / (1 - mean))
    hoeffding, bentkus = math.exp(-n * divergence), math.e * _tail(n, mean, 4)
    found = p_values(np.array([0, seen, 21, 75, 250]), n, risk, clip)
    assert found[0] == pytest.approx((1 - mean) ** n)
    assert found[1] == pytest.approx(min(hoeffding, bentkus))
    assert found[2] <= math.e * _tail(n, mean, 5)
    assert found[3] == found[4] == 1


@pytest.mark.parametrize("risk", [0.5, 0.1, 0.05, 0.01])
@pytest.mark.parametrize("delta", [0.5, 0.1, 0.001])
def test_so_many_pictures_are_needed(risk: float, delta: float) -> None:
    number = needed_pictures(risk, delta)
    assert (1 - risk) ** number <= delta < (1 - risk) ** (number - 1)
    assert needed_pictures(3 * risk, delta, clip=3) == number


def test_known_numbers_of_pictures() -> None:
    assert needed_pictures(0.1, 0.1) == 22
    assert needed_pictures(0.05, 0.05) == 59
    assert needed_pictures(0.9, 0.5) == 1


def test_too_few_pictures_are_refused_with_their_number() -> None:
    none = np.zeros(0)
    with pytest.raises(ValueError, match=r"21 pictures cannot.*1 name.*22 are needed"):
        control({"mug": (none, none)}, 21, Goal(0.1, 0.1))
    assert control({"mug": (none, none)}, 22, Goal(0.1, 0.1))["mug"].value == GRID[-1]
    with pytest.raises(ValueError, match=r"22 pictures.*2 name.*29 are needed"):
        control({"mug": (none, none), "cup": (none, none)}, 22, Goal(0.1, 0.1))


def test_the_loosest_threshold_that_passes_is_taken() -> None:
    # Of 60 pictures two may have an alarm: the chance of at most 2 is 0.053, of at most 3 0.14.
    figures = np.array([0.95, 0.9, 0.8, 0.6, 0.5])
    found = control({"mug": (figures, np.arange(5))}, 60, Goal(0.1, 0.1), words={"mug": "w"})["mug"]
    assert found.value == GRID[GRID > 0.8].min()
    assert (found.alarms, found.pictures, found.risk, found.delta) == (2, 60, 0.1, 0.1)
    assert (found.kind, found.clip, found.on, found.words) == ("pictures", None, "confidence", "w")


def test_no_threshold_is_below_the_least() -> None:
    figures = np.array([0.95, 0.9, 0.8])
    alarms = {
        "mug": (figures, np.arange(3)),
        "cup": ([], []),
        "never": (np.ones(60), np.arange(60)),
    }
    loose = control(alarms, 90, Goal(0.1, 0.1))
    found = control(alarms, 90, Goal(0.1, 0.1), least=0.55)
    assert loose["mug"].value < 0.55 and loose["cup"].value == GRID[-1]
    assert found["mug"].value == found["cup"].value == np.float32(0.55)
    assert (found["mug"].alarms, found["cup"].alarms) == (3, 0)
    assert found["never"].value == NEVER
    strict = control(alarms, 60, Goal(0.1, 0.3), least=0.55)["mug"]
    assert strict == control(alarms, 60, Goal(0.1, 0.3))["mug"] and strict.value > 0.55
    for least in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="least threshold"):
            control(alarms, 90, Goal(0.1, 0.1), least=least)


def test_several_alarms_of_one_picture_are_one_risk() -> None:
    figures = np.array([0.95, 0.9, 0.9, 0.8, 0.8, 0.8, 0.6])
    pictures = np.array([0, 1, 1, 0, 1, 0, 2])
    found = control({"mug": (figures, pictures)}, 60, Goal(0.1, 0.1))["mug"]
    assert found.value == GRID[GRID > 0.6].min()
    assert found.alarms == 2


def test_an_alarm_at_the_threshold_is_reported() -> None:
    """float32 of the figure and of the threshold are compared, as where boxes are reported."""
    place = 400
    at = np.full(30, GRID[place])
    found = control({"mug": (at, np.arange(30))}, 60, Goal(0.1, 0.1))["mug"]
    assert found.value == GRID[place - 1]
    assert np.float32(GRID[place]) < found.value


def test_never_where_even_the_strictest_fails() -> None:
    certain = control({"mug": (np.ones(30), np.arange(30)), "b": ([], [])}, 60, Goal(0.1, 0.1))
    assert (certain["mug"].value, certain["mug"].alarms) == (NEVER, 0)
    assert certain["b"].value == GRID[-1]
    assert certain["b"].delta == certain["mug"].delta == 0.05


def test_clipped_alarms_see_the_strongest_of_each_picture() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 80, 500)
    figures = rng.random(500)
    goal = Goal(1.0, 0.1, "alarms", clip=3)
    found = control({"mug": (figures, pictures)}, 80, goal)["mug"]
    at = np.bincount(pictures[figures >= found.value], minlength=80).clip(max=3).sum()
    assert found.alarms == at
    assert (found.kind, found.clip) == ("alarms", 3)
    below = GRID[np.flatnonzero(found.value == GRID)[0] + 1]
    looser = np.bincount(pictures[figures >= below], minlength=80).clip(max=3).sum()
    assert p_values(np.array([at]), 80, 1.0, 3) <= 0.1 < p_values(np.array([looser]), 80, 1.0, 3)


@pytest.mark.parametrize(
    ("goal", "told"),
    [
        (Goal(0, 0.1), "risk is 0"),
        (Goal(1, 0.1), "risk is 1"),
        (Goal(math.nan, 0.1), "risk is nan"),
        (Goal(0.1, 1), "delta is 1"),
        (Goal(0.1, 0), "delta is 0"),
        (Goal(0.1, 0.1, "boxes"), "'boxes'"),
        (Goal(0.1, 0.1, "alarms"), "clip is None"),
        (Goal(0.1, 0.1, "alarms", 0), "clip is 0"),
        (Goal(0.1, 0.1, "alarms", 1.5), "clip is 1.5"),
        (Goal(0.1, 0.1, "pictures", 5), "clip is 5"),
        (Goal(5, 0.1, "alarms", 5), "between 0 and 5"),
    ],
)
def test_goals_that_cannot_be(goal: Goal, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        control({"mug": ([], [])}, 100, goal)


@pytest.mark.parametrize(
    ("alarms", "told"),
    [
        ({}, "no name"),
        ({"mug": ([0.5], [])}, "picture each"),
        ({"mug": ([math.nan], [0])}, "NaN"),
        ({"mug": ([1.5], [0])}, r"in \[0, 1\]"),
        ({"mug": ([0.5], [100])}, "beyond 100"),
        ({"mug": ([0.5], [-1])}, "beyond 100"),
    ],
)
def test_alarms_that_cannot_be(alarms: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        control(alarms, 100, Goal(0.1, 0.1))


def _most_violations(delta: float) -> int:
    """The 99 % quantile of Binomial(`CALIBRATIONS`, delta)."""
    return next(k for k in range(CALIBRATIONS) if _tail(CALIBRATIONS, delta, k) >= 0.99)


def _drawn(rng: np.random.Generator, steps: int | None) -> tuple[np.ndarray, np.ndarray]:
    """False alarms of PICTURES pictures: their number is Poisson(0.8), their figures are uniform.

    With `steps` figures are whole parts of it, so that many are equal.
    """
    pictures = np.repeat(np.arange(PICTURES), rng.poisson(0.8, PICTURES))
    figures = rng.random(len(pictures))
    return figures if steps is None else np.floor(figures * steps) / steps, pictures


def _risk(value: float, goal: Goal, steps: int | None) -> float:
    """The true risk of a threshold under that law: reported alarms are Poisson too."""
    if value == NEVER:
        return 0.0
    share = 1 - value if steps is None else max(0.0, 1 - math.ceil(value * steps) / steps)
    mean = 0.8 * share
    chances = [math.exp(-mean) * mean**k / math.factorial(k) for k in range(goal.most)]
    # The mean of min(count, clip) is the sum of the chances to be above 0, 1, ... clip - 1.
    return sum(1 - sum(chances[: k + 1]) for k in range(goal.most))


@pytest.mark.parametrize("steps", [None, 20], ids=["continuous", "ties"])
@pytest.mark.parametrize("delta", [0.02, 0.1, 0.3])
@pytest.mark.parametrize(
    "goal",
    [Goal(r, 0.5) for r in (0.02, 0.1, 0.3)]
    + [Goal(r, 0.5, "alarms", 3) for r in (0.15, 0.3, 0.6)],
    ids=lambda goal: f"{goal.kind}-{goal.risk}",
)
def test_the_bound_is_broken_no_more_often_than_said(
    goal: Goal, delta: float, steps: int | None
) -> None:
    goal = goal._replace(delta=delta)
    rng = np.random.default_rng([int(1000 * delta), int(1000 * goal.risk), goal.most])
    values = [
        control({"mug": _drawn(rng, steps)}, PICTURES, goal)["mug"].value
        for _ in range(CALIBRATIONS)
    ]
    risks = np.array([_risk(value, goal, steps) for value in values])
    assert (risks > goal.risk + 1e-9).sum() <= _most_violations(delta)
    # And it is no bound that reports nothing: the risk that is allowed is mostly used.
    if steps is None:
        assert np.median(risks) > goal.risk * (0.3 if goal.risk > 0.02 else 0.1)


def test_the_check_sees_a_bound_that_does_not_hold() -> None:
    """Taking the threshold whose share of alarms is the risk breaks it every second time."""
    goal, rng = Goal(0.1, 0.1), np.random.default_rng(0)
    broken = 0
    for _ in range(CALIBRATIONS):
        figures, pictures = _drawn(rng, None)
        top = np.zeros(PICTURES)
        np.maximum.at(top, pictures, figures)
        broken += _risk(float(np.quantile(top, 1 - goal.risk)), goal, None) > goal.risk
    assert broken > _most_violations(goal.delta)


def test_names_share_delta() -> None:
    """Any of ten names breaks its bound no more often than one name alone may."""
    goal, rng = Goal(0.1, 0.2), np.random.default_rng(3)
    broken = 0
    for _ in range(CALIBRATIONS):
        found = control({f"{k}": _drawn(rng, None) for k in range(10)}, PICTURES, goal)
        broken += any(_risk(one.value, goal, None) > goal.risk for one in found.values())
    assert broken <= _most_violations(goal.delta)
