import numpy as np
import pytest

from fgclip_det.evaluation.presence import (
    Answer,
    Outcome,
    presence_page,
    right_boxes,
    summarize,
    tuned_threshold,
)

NONE = np.zeros((0, 4))
BOX = np.array([[0.0, 0.0, 10.0, 10.0]])


def outcome(kind, value, picture=0, right=None, differs=None):
    """Of one box with this value; it is where the truth is if there is truth."""
    truth = BOX if kind == "present" else NONE
    right = kind == "present" if right is None else right
    return Outcome(picture, kind, value, right, Answer(BOX, np.array([value]), truth), differs)


@pytest.fixture
def outcomes():
    present = [outcome("present", v, i) for i, v in enumerate((0.9, 0.8, 0.3, 0.6))]
    near = [outcome("near_miss", v, i) for i, v in enumerate((0.7, 0.2, 0.1))]
    near = [*near, outcome("near_miss", 0.6, 3, differs="color")]
    return [*present, *near, outcome("absent", 0.01, 4), outcome("absent", 0.0, 5)]


def test_figures_by_hand(outcomes):
    found = summarize(outcomes, 0.6)
    assert found["pictures"] == 6
    assert found["queries"] == {"present": 4, "near_miss": 4, "absent": 2}
    assert found["recall"]["count"] == 3 and found["recall"]["share"] == 0.75
    assert found["near_miss"]["alarms"]["count"] == 2
    (share,) = found["near_miss"]["by_attribute"].values()
    assert (share["count"], share["of"], share["share"]) == (1, 1, 1.0)
    # 0.9 and 0.8 beat four each, 0.6 two and ties one, 0.3 two.
    assert found["near_miss"]["AUC"][0] == (4 + 4 + 2.5 + 2) / 16
    assert found["absent"]["alarms"]["share"] == 0 and found["absent"]["AUC"][0] == 1
    assert found["alarms_per_picture"] == 2 / 6
    counts = found["counts"]["threshold"]
    assert [counts[key] for key in ("TP", "FP", "FN", "TN")] == [3, 2, 1, 4]
    assert found["counts"]["0.5"]["TP"] == 3
    cases = found["calibration"]
    assert cases["best region"]["cases"] == 10 and cases["boxes from 0.05 on"]["cases"] == 8
    # The two of 0.6 share a bin, of which one is right; all others have their own.
    distances = [0.1, 0.2, 0.7, 0.7, 0.2, 0.1, 0.01, 0, 0.1, 0.1]
    assert cases["best region"]["error"] == pytest.approx(sum(distances) / 10)


def test_a_box_elsewhere_is_reported_but_not_right(outcomes):
    outcomes[0] = outcome("present", 0.9, right=False)
    found = summarize(outcomes, 0.6)
    assert found["recall"]["count"] == 3 and found["in_place"]["count"] == 2


def test_threshold_is_that_of_what_is_there(outcomes):
    assert tuned_threshold(outcomes, 0.75) == 0.6
    assert tuned_threshold(outcomes, 1.0) == 0.3


def test_a_kind_that_is_not_asked_has_no_figures(outcomes):
    found = summarize([one for one in outcomes if one.kind != "absent"], 0.6)
    assert "absent" not in found and "near_miss" in found
    assert "absent" not in presence_page(found, "t").split("Threshold")[1]
    with pytest.raises(ValueError, match="no query is of what is there"):
        summarize([one for one in outcomes if one.kind != "present"], 0.6)


def test_log_odds_have_no_calibration_and_no_half():
    outcomes = [outcome("present", 3.0), outcome("present", -1.0), outcome("absent", -7.0)]
    found = summarize(outcomes, -1.0, is_share=False)
    assert found["calibration"] == {} and list(found["counts"]) == ["threshold"]
    assert found["counts"]["threshold"]["TP"] == 2
    assert "ECE" not in presence_page(found, "t")


def test_of_boxes_on_one_object_the_surest_is_right():
    shifted = BOX + np.array([0.0, 1.0, 0.0, 1.0])
    found = np.concatenate([shifted, BOX, BOX + 40])
    answer = Answer(found, np.array([0.9, 0.8, 0.95]), BOX)
    assert right_boxes(answer).tolist() == [True, False, False]
    two = Answer(found, answer.values, np.concatenate([BOX, BOX + 40]))
    assert right_boxes(two).tolist() == [True, False, True]
    assert right_boxes(Answer(found, answer.values, NONE)).tolist() == [False] * 3
    assert right_boxes(Answer(NONE, np.zeros(0), BOX)).tolist() == []


def test_page_names_all_that_was_asked(outcomes):
    page = presence_page(summarize(outcomes, 0.6), "Title.")
    assert page.startswith("Title.\n\n6 pictures, queries: 4 present, 4 near miss, 2 absent.")
    assert "| recall | 75.00 (19.41 to 99.37), 3 of 4 |" in page
    assert "| alarms, other color | 100.00" in page
    assert "ECE, boxes from 0.05 on (8 cases)" in page and "| cgF1, from 0.5 on |" in page
