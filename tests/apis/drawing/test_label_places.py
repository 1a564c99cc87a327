"""Labels cover each other nowhere, whatever the boxes are, and stand by their boxes if they can."""

from __future__ import annotations

import numpy as np
import pytest

from fgclip_det.apis.drawing.label_places import place_labels

CANVAS = (640, 480)


def random_boxes(count: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    starts = generator.uniform(0, 1, (count, 2)) * CANVAS
    return np.concatenate([starts, starts + generator.uniform(2, 200, (count, 2))], axis=1)


def overlaps(rectangles: np.ndarray) -> int:
    left, top, right, bottom = rectangles.T
    wide = np.minimum(right[:, None], right) - np.maximum(left[:, None], left)
    high = np.minimum(bottom[:, None], bottom) - np.maximum(top[:, None], top)
    return int(((wide > 0) & (high > 0)).sum()) - len(rectangles)


def rectangles_of(places, sizes) -> np.ndarray:
    rows = [(*p, p[0] + s[0], p[1] + s[1]) for p, s in zip(places, sizes, strict=True) if p]
    return np.array(rows).reshape(-1, 4)


@pytest.mark.parametrize("count", [0, 1, 2, 10, 100, 300])
@pytest.mark.parametrize("kind", ["spread", "one place", "corners"])
def test_none_covers_another(count: int, kind: str) -> None:
    boxes = random_boxes(count)
    if kind == "one place":
        boxes[:] = (300, 200, 340, 260)
    elif kind == "corners":
        boxes = boxes + np.random.default_rng(1).choice([-600, 0, 600], (count, 1))
    sizes = [(int(width), 18) for width in np.random.default_rng(2).integers(30, 160, count)]
    places = place_labels(boxes.tolist(), sizes, CANVAS)
    assert len(places) == count
    found = rectangles_of(places, sizes)
    assert overlaps(found) == 0
    assert (found >= 0).all()
    assert (found[:, 2] <= CANVAS[0]).all() and (found[:, 3] <= CANVAS[1]).all()
    if count <= 10:
        assert None not in places
    if count == 100 and kind == "spread":
        assert places.count(None) <= 5


def test_the_first_choice_is_above_the_box() -> None:
    assert place_labels([[100, 100, 200, 200]], [(50, 20)], CANVAS) == [(100, 80)]
    assert place_labels([[100, 5, 200, 200]], [(50, 20)], CANVAS) == [(100, 0)]
    assert place_labels([[620, 100, 640, 200]], [(50, 20)], CANVAS) == [(590, 80)]


def test_the_best_stands_nearest() -> None:
    box = [100, 100, 200, 200]
    first, second = place_labels([box, box], [(50, 20)] * 2, CANVAS)
    assert first == (100, 80)
    assert second not in (None, first)


def test_what_is_taken_stays_free() -> None:
    places = place_labels(
        random_boxes(100).tolist(), [(60, 18)] * 100, CANVAS, [(0, 460, 640, 480)]
    )
    assert all(place is None or place[1] + 18 <= 460 for place in places)


def test_no_room_at_all() -> None:
    assert place_labels([[0, 0, 5, 5]], [(700, 18)], CANVAS) == [None]
    places = place_labels([[0, 0, 5, 5]] * 3, [(640, 240)] * 3, CANVAS)
    assert [place is None for place in places] == [False, False, True]
