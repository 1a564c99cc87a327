"""One object, one id."""

from __future__ import annotations

import numpy as np
import pytest

from fgclip_det.apis.video.tracking import ObjectTracker

SIZE = np.array([-20.0, -20.0, 20.0, 20.0])


def _box(x: float, y: float) -> np.ndarray:
    return np.array([x, y, x, y]) + SIZE


def _run(frames, rate: float = 25.0, scores=None) -> list[list[int]]:
    """Ids of each frame's boxes."""
    tracker = ObjectTracker(rate)
    found = []
    for index, boxes in enumerate(frames):
        own = np.full(len(boxes), 0.9) if scores is None else scores[: len(boxes)]
        found.append(tracker.ids(np.array(boxes).reshape(-1, 4), own, index / rate).tolist())
    return found


def test_moving_objects_keep_their_ids() -> None:
    frames = [[_box(30 + 2 * t, 40), _box(400 - 3 * t, 300 + t)] for t in range(60)]
    assert _run(frames) == [[-1, -1]] + [[1, 2]] * 59


def test_order_is_that_of_the_boxes_that_are_given() -> None:
    first = [_box(30, 40), _box(400, 300), _box(200, 100)]
    found = _run([first, first, first[::-1], [first[1], first[2], first[0]]])
    assert found[1:] == [[1, 2, 3], [3, 2, 1], [2, 3, 1]]


@pytest.mark.parametrize("score", [0.0, 0.05, 0.31, 0.5, 1.0])
def test_any_score_that_is_reported_is_an_object(score: float) -> None:
    frames = [[_box(30 + t, 40)] for t in range(5)]
    assert _run(frames, scores=np.full(1, score)) == [[-1], [1], [1], [1], [1]]


def test_equal_and_changing_scores_change_no_id() -> None:
    tracker = ObjectTracker(25)
    rng = np.random.default_rng(0)
    for t in range(30):
        boxes = np.stack([_box(30 + t, 40), _box(300 - t, 90)])
        scores = np.array([0.5, 0.5]) if t % 2 else rng.uniform(0.3, 1, 2)
        found = tracker.ids(boxes, scores, t / 25)
        assert found.tolist() == ([1, 2] if t else [-1, -1])


def test_two_names_of_one_place_are_one_object() -> None:
    tracker = ObjectTracker(25)
    for t in range(6):
        box = _box(50 + t, 60)
        found = tracker.ids(np.stack([box, _box(300, 60), box + 0.4]), [0.9, 0.8, 0.4], t / 25)
        assert found.tolist() == ([1, 2, 1] if t else [-1, -1, -1])


def test_an_object_that_is_hidden_for_a_moment_is_the_same() -> None:
    frames = [[_box(30 + 2 * t, 40)] if not 20 <= t < 35 else [] for t in range(50)]
    found = _run(frames)
    assert found[1:20] == [[1]] * 19
    assert found[35:] == [[1]] * 15


def test_an_object_that_was_long_away_is_another() -> None:
    frames = [[_box(100, 40)] if not 20 <= t < 60 else [] for t in range(70)]
    assert _run(frames)[60:] == [[-1]] + [[2]] * 9


def test_at_a_low_rate_frames_count_and_not_seconds() -> None:
    # One frame in two seconds: one that is missed is no reason for another id.
    frames = [[_box(100 + t, 40)] if t != 5 else [] for t in range(10)]
    found = _run(frames, rate=0.5)
    assert found[1:5] == [[1]] * 4 and found[6:] == [[1]] * 4


def test_times_of_a_variable_rate_are_taken_for_what_they_are() -> None:
    tracker, rng = ObjectTracker(25), np.random.default_rng(1)
    time_s, found = 0.0, []
    for _ in range(40):
        found += tracker.ids(_box(30 + 100 * time_s, 40)[None], [0.9], time_s).tolist()
        time_s += rng.uniform(0.01, 0.15)
    assert found == [-1] + [1] * 39


def test_frames_without_anything_give_nothing() -> None:
    found = _run([[], [], [_box(30, 40)], [_box(30, 40)], []])
    assert found == [[], [], [-1], [1], []]


def test_boxes_without_an_area_do_not_fail() -> None:
    flat = np.array([10.0, 10.0, 10.0, 30.0])
    for ids in _run([[flat, _box(100, 100)]] * 4):
        assert len(ids) == 2


def test_the_same_boxes_give_the_same_ids() -> None:
    rng = np.random.default_rng(3)
    frames = [[_box(*rng.uniform(0, 200, 2)) for _ in range(rng.integers(0, 6))] for _ in range(80)]
    assert _run(frames) == _run(frames)


@pytest.mark.parametrize("meeting", [0, 8, 16])
def test_objects_that_cross_keep_their_ids(meeting: float) -> None:
    # Centres pass each other at this distance, in pixels; boxes have sides of 40.
    frames = [[_box(20 + 3 * t, 100), _box(320 - 3 * t, 100 + meeting)] for t in range(100)]
    found = _run(frames)
    kept = sum(ids == [1, 2] for ids in found[1:])
    assert kept >= 0.95 * len(found)
