"""FG-OVD's rules one by one, with numbers worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fgclip_det.fg_ovd import evaluate_fg_ovd, read_fg_ovd, sweep_fg_ovd
from fgclip_det.fg_ovd.ranks import summarize_ranks

SQUARE = [10.0, 10.0, 40.0, 40.0]  # xywh
CORNERS = [10.0, 10.0, 50.0, 50.0]
FAR = [200.0, 200.0, 240.0, 240.0]


def annotation(
    number: int, image: int, category: int, negatives: list[int], box: list[float] = SQUARE
) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "neg_category_ids": negatives,
        "bbox": box,
    }


def file_of(*annotations: dict[str, Any], images: int = 3) -> dict[str, Any]:
    return {
        "images": [{"id": i, "file_name": f"val2017/{i}.jpg"} for i in range(images)],
        "annotations": list(annotations),
        "categories": [{"id": i, "name": f"caption {i}"} for i in range(40)],
    }


@pytest.fixture
def two() -> dict[str, Any]:
    """One caption with two negatives in each of two images."""
    return file_of(annotation(1, 0, 1, [2, 3]), annotation(2, 1, 4, [5, 6]))


def test_a_wrong_label_takes_the_right_one_away(two: dict[str, Any]) -> None:
    right = (1, [CORNERS, FAR], [[0.9, 0.1, 0.1], [0.2, 0.8, 0.1]])
    # The better of two equal boxes has a wrong label, suppresses the right one, and is no box of
    # caption 4.
    wrong = (2, [CORNERS, CORNERS], [[0.8, 0.1, 0.1], [0.1, 0.9, 0.1]])
    found = evaluate_fg_ovd(two, [right, wrong], 2)
    assert found["map"] == found["map_50"] == found["mar_1"] == pytest.approx(0.5)
    assert found["map_medium"] == pytest.approx(0.5)
    assert found["map_small"] == found["map_large"] == -1
    assert found["n_images"] == 2 and found["n_negatives"] == 2 and found["strict"] is False
    ranks = found["ranks"]
    assert ranks["histogram"] == [1, 0, 1] and ranks["mean"] == 2 and ranks["median"] == 2
    assert ranks["n"] == 2 and ranks["share_missed"] == 0
    assert found["coverage"] == {"evaluated": 2, "eligible": 2, "share": 1.0, "not_used": 0}


def test_precision_is_interpolated_by_hand() -> None:
    # Five boxes of one caption; hits 1, 2 and 4 of four detections.
    boxes = [[100.0 * i, 10.0, 40.0, 40.0] for i in range(5)]
    data = file_of(*(annotation(i, 0, 1, [2], box) for i, box in enumerate(boxes)))
    corners = [[x, y, x + w, y + h] for x, y, w, h in (boxes[0], boxes[1], boxes[2])]
    found = [corners[0], corners[1], [0.0, 300.0, 40.0, 340.0], corners[2]]
    scores = [[s, 0.0] for s in (0.9, 0.8, 0.7, 0.6)]
    result = evaluate_fg_ovd(data, [(0, found, scores)], 1)
    # Recalls 0 to 0.4 at precision 1 (41 points), to 0.6 at 3/4; 0.6 falls short of the float32
    # point 0.60000002 (19 points, not 20).
    assert result["map"] == pytest.approx((41 + 19 * 0.75) / 101, abs=1e-12)
    assert result["mar_100"] == pytest.approx(0.6) and result["mar_1"] == pytest.approx(0.2)
    assert result["ranks"]["histogram"] == [3, 2]


def test_of_two_boxes_alike_the_later_one_is_taken() -> None:
    # The first detection overlaps both boxes with an IoU of 0.6; the second one the later box only.
    boxes = [[0.0, 0.0, 40.0, 40.0], [20.0, 0.0, 40.0, 40.0]]
    found = (0, [[10, 0, 50, 40], [30, 0, 70, 40]], [[0.9, 0.1], [0.8, 0.1]])
    for order in (boxes, boxes[::-1]):
        data = file_of(*(annotation(i, 0, 1, [2], box) for i, box in enumerate(order)))
        result = evaluate_fg_ovd(data, [found], 1)
        # 0.6 falls short of the float32 threshold 0.60000002: only two thresholds count.
        expected = 51 / 101 if order is boxes else 1
        assert result["map_50"] == pytest.approx(expected)
        assert result["map"] == pytest.approx(0.2 * expected)


def test_the_first_annotation_decides_and_captions_count_once() -> None:
    data = file_of(
        annotation(1, 0, 1, [2]),
        annotation(2, 0, 1, [2, 3], [100, 10, 40, 40]),
        annotation(3, 1, 4, [5, 6]),
        annotation(4, 1, 4, [5], [100, 10, 40, 40]),
        annotation(5, 2, 4, [5, 6]),
    )
    prediction = (3, [CORNERS], [[0.9, 0.1, 0.1]])
    # Caption 1 lacks negatives where it first stands; 4 is asked for in its first image alone, and
    # there one of its boxes has too few negatives.
    result = evaluate_fg_ovd(data, [prediction], 2)
    assert result["map"] == 1 and result["n_images"] == 1 and result["ranks"]["n"] == 1
    assert result["coverage"]["eligible"] == 1
    # Entries that the protocol never asks for change nothing, whatever they hold.
    others = [(2, [FAR], [[0.9, 0.1, 0.1]]), (5, [FAR], [[0.1, 0.9, 0.1]]), (1, [FAR], [[1.0]])]
    more = evaluate_fg_ovd(data, [*others, prediction], 2)
    assert more["coverage"].pop("not_used") == 3
    result["coverage"].pop("not_used")
    assert more == result


def test_what_is_missing_is_left_out_unless_strict(two: dict[str, Any]) -> None:
    two["annotations"].append(annotation(3, 0, 7, [8, 9], [100, 10, 40, 40]))
    predictions = [(1, [CORNERS], [[0.9, 0.1, 0.1]])]
    result = evaluate_fg_ovd(two, predictions, 2)
    assert result["map"] == 1 and result["n_images"] == 1
    assert result["coverage"] == {"evaluated": 1, "eligible": 3, "share": 1 / 3, "not_used": 0}
    strict = evaluate_fg_ovd(two, predictions, 2, strict=True)
    assert strict["map"] == pytest.approx(1 / 3) and strict["n_images"] == 2
    assert strict["ranks"]["histogram"] == [1, 0, 2]
    assert strict["ranks"]["share_missed"] == pytest.approx(2 / 3)
    assert strict["coverage"] == result["coverage"] and strict["strict"] is True


def test_no_prediction_at_all(two: dict[str, Any]) -> None:
    result = evaluate_fg_ovd(two, [], 2)
    assert result["map"] == result["mar_100"] == -1 and result["n_images"] == 0
    assert result["ranks"]["n"] == 0 and result["ranks"]["median_official"] is None
    strict = evaluate_fg_ovd(two, iter(()), 2, strict=True)
    assert strict["map"] == 0 and strict["ranks"]["histogram"] == [0, 0, 2]


@pytest.mark.parametrize(
    "nothing",
    [(np.zeros((0, 4)), np.zeros((0, 3))), ([], []), (np.zeros((0, 4)), np.zeros(0))],
    ids=["numpy", "lists", "flat"],
)
def test_a_detector_that_finds_nothing(two: dict[str, Any], nothing: tuple) -> None:
    predictions = [(1, np.array([CORNERS]), np.array([[0.9, 0.1, 0.1]])), (2, *nothing)]
    result = evaluate_fg_ovd(two, predictions, 2)
    assert result["map"] == 0.5 and result["n_images"] == 2
    assert result["coverage"]["evaluated"] == 2
    assert result["ranks"]["histogram"] == [1, 0, 1]
    assert result["ranks"]["share_missed"] == 0.5


def test_labels_of_another_vocabulary_are_false_alarms() -> None:
    # Caption 4 is a negative of caption 1 in the same image: boxes called 4 there count against 4.
    data = file_of(annotation(1, 0, 1, [4]), annotation(2, 0, 4, [5], [100, 10, 40, 40]))
    alarm = (1, [FAR], [[0.1, 0.9]])
    hit = (2, [[100, 10, 140, 50]], [[0.5, 0.1]])
    result = evaluate_fg_ovd(data, [alarm, hit], 1)
    assert result["map"] == pytest.approx(0.25)  # of caption 4 precision 1/2, of caption 1 none
    assert evaluate_fg_ovd(data, [hit], 1)["map"] == 1


def test_more_columns_are_cut_and_boxes_labelled_anew(two: dict[str, Any]) -> None:
    predictions = [(1, [CORNERS], [[0.5, 0.1, 0.9]]), (2, [CORNERS], [[0.5, 0.6, 0.4]])]
    swept = sweep_fg_ovd(two, iter(predictions), 2)
    assert [swept[n]["map"] for n in (0, 1, 2)] == [1, 0.5, 0]
    assert [swept[n]["ranks"]["mean"] for n in (0, 1, 2)] == [1, 1.5, 2]
    # No annotation has more than two, so a longer sweep ends there.
    assert list(sweep_fg_ovd(two, predictions, 10)) == [0, 1, 2]


def test_scores_count_in_float32(two: dict[str, Any]) -> None:
    # Unequal as doubles, equal as floats: a tie, which the first column wins and the rank loses.
    scores = [[0.5, 0.5 + 1e-9, 0.1]]
    result = evaluate_fg_ovd(two, [(1, [CORNERS], scores)], 2)
    assert result["map"] == 1 and result["ranks"]["histogram"] == [0, 1, 0]


def test_ranks_want_more_than_half_an_overlap(two: dict[str, Any]) -> None:
    for width, rank in ((20.0, 3), (20.01, 1)):
        box = [10.0, 10.0, 10 + width, 50.0]
        result = evaluate_fg_ovd(two, [(1, [box], [[0.9, 0.1, 0.1]])], 2)
        assert result["ranks"]["histogram"].index(1) + 1 == rank
    # The best box that overlaps answers, not the one that overlaps most.
    boxes = [CORNERS, [10.0, 10.0, 31.0, 50.0], [30.0, 30.0, 90.0, 90.0]]
    scores = [[0.1, 0.4, 0.0], [0.6, 0.2, 0.0], [0.1, 0.8, 0.9]]
    result = evaluate_fg_ovd(two, [(1, boxes, scores)], 2, with_choices=True)
    assert result["choices"] == {1: {"rank": 1, "chosen": 0}}
    missed = evaluate_fg_ovd(two, [(1, [FAR], [[0.9, 0.1, 0.1]])], 2, with_choices=True)
    assert missed["choices"] == {1: {"rank": 3, "chosen": -1}}


def test_the_official_median_is_one_beyond_the_middle() -> None:
    def medians(*ranks: int) -> tuple[Any, Any]:
        found = summarize_ranks(np.array(ranks), np.zeros(len(ranks), int), 5)
        return found["median_official"], found["median"]

    assert medians(1, 2, 3, 4, 5) == (4, 3.0)
    assert medians(5, 1, 6, 2) == (6, 3.5)
    assert medians(1, 2, 3) == (3, 2.0)
    # There the official script fails: no rank lies beyond the middle.
    assert medians(1, 6) == (6, 3.5) and medians(4) == (4, 4.0)


def test_ranks_can_be_left_out(two: dict[str, Any]) -> None:
    result = evaluate_fg_ovd(two, [(1, [CORNERS], [[0.9, 0.1, 0.1]])], 2, with_ranks=False)
    assert result["ranks"] is None and result["map"] == 1


def test_the_file_is_left_as_it_was(two: dict[str, Any]) -> None:
    before = json.dumps(two)
    evaluate_fg_ovd(two, [(1, [CORNERS], [[0.9, 0.1, 0.1]])], 2)
    assert json.dumps(two) == before
    read = read_fg_ovd(two)
    assert read_fg_ovd(read) is read


GOOD = (1, [CORNERS], [[0.9, 0.1, 0.1]])


@pytest.mark.parametrize(
    ("predictions", "n_negatives", "message"),
    [
        ([(1, [CORNERS], [[0.9, float("nan"), 0.1]])], 2, "scores of annotation 1 .*NaN"),
        ([(1, [CORNERS], [[0.9, float("inf"), 0.1]])], 2, "scores of annotation 1 .*inf"),
        ([(1, [[0, 0, 1, float("nan")]], [[0.9, 0.1, 0.1]])], 2, "boxes of annotation 1 .*NaN"),
        ([(1, [[100, 100, 40, 40]], [[0.9, 0.1, 0.1]])], 2, "look like x, y, width, height"),
        ([GOOD, (7, [CORNERS], [[0.9, 0.1, 0.1]])], 2, "annotation 7, which .* does not have"),
        ([GOOD, GOOD], 2, "two predictions are for annotation 1"),
        ([(1, [CORNERS], [[0.9, 0.1]])], 2, "have 2 columns, but 3 are needed for 2 negatives"),
        ([(1, [CORNERS], [0.9, 0.1, 0.1])], 2, r"shape \(3,\) for 1 boxes: one row a box"),
        ([(1, [CORNERS, FAR], [[0.9, 0.1, 0.1]])], 2, r"shape \(1, 3\) for 2 boxes"),
        ([(1, CORNERS, [[0.9, 0.1, 0.1]])], 2, r"shape \(4,\): \(B, 4\) is needed"),
        ([(1, [CORNERS], [["0.9", "0.1", "0.1"]])], 2, "no array of numbers"),
        ([(1, [CORNERS], [[0.9, 0.1], [0.2]])], 2, "no array of numbers"),
        ([("1", [CORNERS], [[0.9, 0.1, 0.1]])], 2, "annotation id '1': no int"),
        (
            [(np.array(1.5), [CORNERS], [[0.9, 0.1, 0.1]])],
            2,
            r"annotation id array\(1\.5\): no int",
        ),
        ([(np.array([1]), [CORNERS], [[0.9, 0.1, 0.1]])], 2, r"annotation id array.*: no int"),
        ([(1, [CORNERS])], 2, r"give \(annotation_id, boxes, scores\)"),
        ([GOOD], 3, "has 3 negatives: use at most 2"),
        ([GOOD], -1, "n_negatives is -1"),
        ([GOOD], 2.0, "n_negatives is 2.0"),
    ],
)
def test_predictions_that_cannot_be_used(
    two: dict[str, Any], predictions: list, n_negatives: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_fg_ovd(two, predictions, n_negatives)


def test_a_sweep_needs_something_to_sweep(two: dict[str, Any]) -> None:
    for number in (-1, 1.5):
        with pytest.raises(ValueError, match=f"n_negatives is {number}"):
            sweep_fg_ovd(two, [GOOD], number)
    with pytest.raises(ValueError, match="no annotation of ground_truth has 0 negatives"):
        sweep_fg_ovd(file_of(), [], 2)


def test_results_go_into_json_whatever_the_type_of_the_number(two: dict[str, Any]) -> None:
    found = evaluate_fg_ovd(two, [GOOD], np.int64(2), with_choices=True)
    assert json.loads(json.dumps(found))["n_negatives"] == 2


@pytest.mark.filterwarnings("error")
def test_boxes_of_any_size_count_quietly(two: dict[str, Any]) -> None:
    huge = [[-3e38, -3e38, 3e38, 3e38], [0.0, 0.0, 1e30, 1e30], [5.0, 5.0, 5.0, 5.0]]
    scores = [[0.9, 0.1, 0.1]] * 3 + [[0.5, 0.1, 0.1]]
    found = evaluate_fg_ovd(two, [(1, [*huge, CORNERS], scores)], 2)
    # Of what comes first only the box without area counts: COCO leaves out what is beyond 1e10.
    assert found["map"] == pytest.approx(1 / 2) and found["ranks"]["histogram"] == [1, 0, 0]


def test_files_that_cannot_be_used(two: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.json' cannot be read"):
        evaluate_fg_ovd(tmp_path / "none.json", [GOOD], 2)
    path = tmp_path / "cut.json"
    path.write_text(json.dumps(two)[:-40])
    with pytest.raises(ValueError, match=r"cut\.json' is no complete JSON .*truncated"):
        evaluate_fg_ovd(path, [GOOD], 2)
    two["annotations"][1]["category_id"] = 99
    with pytest.raises(ValueError, match="annotation 2 has the category_id 99, which the file"):
        evaluate_fg_ovd(two, [GOOD], 2)
    with pytest.raises(ValueError, match=r"no annotation of ground_truth has 1 negatives: .* 0"):
        evaluate_fg_ovd(file_of(annotation(1, 0, 1, [])), [(1, [CORNERS], [[0.9]])], 1)


def test_labels_count_and_may_be_left_out(two: dict[str, Any]) -> None:
    ids = [one["id"] for one in two["annotations"]]
    boxes = [[x, y, x + w, y + h] for x, y, w, h in (one["bbox"] for one in two["annotations"])]
    tied = [[[0.5, 0.5]], [[0.5, 0.5]]]
    plain = [(i, [b], s) for i, b, s in zip(ids, boxes, tied, strict=True)]
    assert evaluate_fg_ovd(two, plain, 1)["map"] == pytest.approx(1.0)
    assert evaluate_fg_ovd(two, [(*plain[0], [1]), (*plain[1], np.array([1]))], 1)["map"] == 0
    assert evaluate_fg_ovd(two, [(*plain[0], [0]), (*plain[1], None)], 1)["map"] == 1.0
    # Some with labels and some without.
    half = evaluate_fg_ovd(two, [plain[0], (*plain[1], [1])], 1)
    assert half["map"] == pytest.approx(0.5)
    assert half["ranks"]["histogram"] == [0, 2]
    # With fewer negatives than asked for, a label that is no longer there is chosen anew.
    assert evaluate_fg_ovd(two, [(*plain[0], [1]), (*plain[1], [1])], 0)["map"] == 1.0


def test_a_box_counts_with_the_score_of_its_label(two: dict[str, Any]) -> None:
    one = two["annotations"][0]
    x, y, w, h = one["bbox"]
    box, off = [x, y, x + w, y + h], [x + 1, y, x + w + 1, y + h]
    # The better box by its label's score suppresses the other, whatever other captions score.
    given = (one["id"], [off, box], [[0.1, 0.9], [0.3, 0.2]])
    labelled = evaluate_fg_ovd(two, [(*given, [0, 0])], 1)
    assert labelled["map"] == 1.0 and labelled["ranks"]["histogram"][0] == 1
    assert evaluate_fg_ovd(two, [given], 1)["map"] == 0


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([2], "label 2 of annotation .* from 0, the right caption, to 1"),
        ([-1], "label -1 of annotation"),
        ([0, 1], "no list of 1 whole numbers"),
        ([0.0], "no list of 1 whole numbers"),
        ([True], "no list of 1 whole numbers"),
        ("a", "no list of 1 whole numbers"),
        ([[0]], "no list of 1 whole numbers"),
        ([1 << 80], "no list of 1 whole numbers"),
    ],
)
def test_labels_that_cannot_be_used(two: dict[str, Any], labels: Any, message: str) -> None:
    number = two["annotations"][0]["id"]
    with pytest.raises(ValueError, match=message):
        evaluate_fg_ovd(two, [(number, [[0, 0, 5, 5]], [[0.5, 0.5]], labels)], 1)
    with pytest.raises(ValueError, match="give \\(annotation_id, boxes, scores\\), and labels"):
        evaluate_fg_ovd(two, [(number, [], [], None, 1)], 1)
