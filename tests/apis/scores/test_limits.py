"""The least scores and confidences that are reported."""

from __future__ import annotations

import dataclasses

import pytest

from fgclip_det.apis.scores.limits import Limits
from fgclip_det.calibration import NEVER, Calibration, Threshold
from fgclip_det.vocabulary import Vocabulary
from tests.messages import says

NAMES = Vocabulary.parse(["a mug", "a cup", "a plate"])
THRESHOLDS = {"a cup": Threshold(0.75, 0.1, 0.1, "pictures", 100, 3)}
CALIBRATION = Calibration(
    "1" * 16, "2" * 16, {}, ("encoder",), (1.0,), conf_thr=0.25, thresholds=THRESHOLDS
)


def test_without_a_calibration_shares_have_a_bound() -> None:
    for given, expected in ((None, 0.3), (0, 0.0), (0.5, 0.5)):
        limits = Limits.of(None, given, None)
        assert (limits.score_thr, limits.conf_thr, limits.told) == (expected, None, None)
        assert limits.confidences(NAMES) is None


def test_thresholds_of_names_win_over_that_of_the_file() -> None:
    limits = Limits.of(CALIBRATION, None, None)
    assert (limits.score_thr, limits.told) == (0.0, 0.25)
    assert limits.confidences(NAMES) == [0.25, 0.75, 0.25]
    assert Limits.of(CALIBRATION, 0.5, None).score_thr == 0.5


def test_what_is_asked_for_wins_over_both() -> None:
    limits = Limits.of(CALIBRATION, None, 0.5)
    assert limits.told == 0.5 and limits.confidences(NAMES) == [0.5, 0.5, 0.5]
    assert Limits.of(CALIBRATION, None, 0).confidences(NAMES) == [0, 0, 0]


def test_a_name_that_is_never_reported() -> None:
    never = {"a mug": dataclasses.replace(THRESHOLDS["a cup"], value=NEVER)}
    limits = Limits.of(dataclasses.replace(CALIBRATION, thresholds=never), None, None)
    assert limits.confidences(NAMES) == [NEVER, 0.25, 0.25]


def test_thresholds_of_evidence_are_no_confidences() -> None:
    plain = dataclasses.replace(CALIBRATION, is_fitted=False, thresholds={})
    limits = Limits.of(plain, None, None)
    assert limits.told is None and limits.confidences(NAMES) == [0.25] * 3


def test_a_confidence_needs_a_calibration() -> None:
    with pytest.raises(ValueError, match=says("0.5", "not calibrated", "fgclip-det calibrate")):
        Limits.of(None, None, 0.5)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "0.5", True, [0.5]])
@pytest.mark.parametrize("which", ["score_thr", "conf_thr"])
def test_what_is_no_threshold(which: str, value: object) -> None:
    given = {"score_thr": None, "conf_thr": None, which: value}
    with pytest.raises(ValueError, match=says(which, repr(value), "between 0 and 1")):
        Limits.of(CALIBRATION, **given)
