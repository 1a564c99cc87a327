import numpy as np
import pytest

from fgclip_det.evaluation.presence import Answer, presence_counts
from fgclip_det.evaluation.presence.counts import box_iou

NONE = np.zeros((0, 4))
BOX = np.array([[0.0, 0.0, 10.0, 10.0]])
FAR = BOX + 50


def answer(found, truth, values=None, ignored=None):
    values = np.ones(len(found)) if values is None else np.array(values)
    return Answer(found, values, truth, ignored)


def f1(true, false, missed):
    precision, recall = true / (true + false + 1e-4), true / (true + missed + 1e-4)
    return 2 * precision * recall / (precision + recall + 1e-4)


def test_iou_of_boxes_by_hand():
    boxes = np.array([[0, 0, 10, 5], [5, 5, 15, 15], [3, 3, 3, 3]])
    assert box_iou(BOX, boxes).tolist() == [[0.5, pytest.approx(25 / 175), 0.0]]
    assert box_iou(boxes[2:], boxes[2:]).tolist() == [[0.0]]
    assert box_iou(NONE, BOX).shape == (0, 1)


def test_a_perfect_answer_is_nearly_one():
    result = presence_counts([answer(BOX, BOX), answer(NONE, NONE)])
    assert result["IL_MCC"] == pytest.approx(1, abs=1e-5)
    for name in ("cgF1", "positive_micro_F1", "positive_macro_F1"):
        for suffix in ("", "@50", "@75"):
            assert result[name + suffix] == pytest.approx(f1(1, 0, 0), abs=1e-5)
    assert [result[key] for key in ("TP", "FP", "FN", "TN")] == [1, 0, 0, 1]


def test_each_kind_of_query_by_hand():
    two = np.concatenate([BOX, FAR])
    half = np.array([[0.0, 0.0, 10.0, 6.0]])  # IoU 0.6
    answers = [
        answer(two, BOX),  # TP 1, FP 1
        answer(half, BOX),  # TP 1 up to 0.6, then FP 1, FN 1
        answer(NONE, two),  # FN 2
        answer(two, NONE),  # a false alarm: of the image level alone
        answer(NONE, NONE),
    ]
    result = presence_counts(answers)
    assert [result[key] for key in ("TP", "FP", "FN", "TN")] == [2, 1, 1, 1]
    mcc = (2 * 1 - 1 * 1) / (np.sqrt(3 * 3 * 2 * 2) + 1e-6)
    assert result["IL_MCC"] == pytest.approx(mcc)
    low, high = f1(2, 1, 2), f1(1, 2, 3)
    assert result["positive_micro_F1@50"] == pytest.approx(low)
    assert result["positive_micro_F1@75"] == pytest.approx(high)
    assert result["positive_micro_F1"] == pytest.approx(0.3 * low + 0.7 * high)
    assert result["cgF1"] == pytest.approx((0.3 * low + 0.7 * high) * mcc)
    assert result["cgF1@50"] == pytest.approx(low * mcc)
    # The query without boxes found has no part in the mean over queries.
    assert result["positive_macro_F1@50"] == pytest.approx((f1(1, 1, 0) + f1(1, 0, 0)) / 2)
    assert result["positive_macro_F1@75"] == pytest.approx((f1(1, 1, 0) + 0) / 2)


def test_boxes_are_matched_such_that_all_gain():
    # The first truth fits both boxes, the wide one best; the second fits the wide one alone. The
    # best pair first would leave the second truth without any.
    truth = np.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 16.0]])
    found = np.array([[0.0, 0.0, 10.0, 11.0], [0.0, 0.0, 10.0, 6.0]])
    overlaps = box_iou(truth, found)
    assert overlaps.argmax() == 0 and overlaps[1, 1] < 0.5 < min(overlaps[0, 1], overlaps[1, 0])
    result = presence_counts([answer(found, truth)])
    assert result["positive_micro_F1@50"] == pytest.approx(f1(2, 0, 0))


def test_only_boxes_at_or_above_the_threshold_count():
    answers = [answer(BOX, BOX, [0.5]), answer(BOX, NONE, [0.49])]
    assert presence_counts(answers)["FP"] == 0
    assert presence_counts(answers)["TP"] == 1
    assert presence_counts(answers, threshold=0.4)["FP"] == 1
    assert presence_counts(answers, threshold=0.6)["FN"] == 1


def test_ignored_truth_is_as_if_it_were_not_there():
    result = presence_counts([answer(NONE, np.concatenate([BOX, FAR]), ignored=[True, True])])
    assert [result[key] for key in ("TP", "FP", "FN", "TN")] == [0, 0, 0, 1]
    result = presence_counts([answer(BOX, np.concatenate([BOX, FAR]), ignored=[False, True])])
    assert result["positive_micro_F1@50"] == pytest.approx(f1(1, 0, 0))


@pytest.mark.parametrize(
    "answers",
    [
        [answer(NONE, NONE)] * 3,
        [answer(BOX, NONE)] * 3,
        [answer(NONE, BOX)] * 3,
        [answer(BOX, BOX)] * 3,  # all positive: no correlation to speak of
    ],
)
def test_one_kind_of_query_alone_gives_numbers(answers):
    result = presence_counts(answers)
    assert result["IL_MCC"] == 0 and result["cgF1"] == 0
    assert np.isfinite(list(result.values())).all()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="no queries"):
        presence_counts([])
    with pytest.raises(ValueError, match="1 of them NaN"):
        presence_counts([answer(BOX, BOX, [np.nan])])
    with pytest.raises(ValueError, match="1 boxes have 2 values"):
        presence_counts([answer(BOX, BOX, [1, 1])])
