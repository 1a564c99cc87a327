"""Shapes that move: their boxes are where they are painted, from frame to frame."""

from __future__ import annotations

import numpy as np
import pytest

from fgclip_det.datasets.shapes.motion import MovingShape, render_frames
from fgclip_det.datasets.shapes.render import IMAGE_SIZE, Composition

RED = Composition("red", "plain", "square")
RING = Composition("blue", "striped", "ring")


@pytest.mark.parametrize("composition", [RED, RING])
def test_boxes_are_those_of_what_is_painted(composition: Composition) -> None:
    shape = MovingShape(composition, 40, (30, 64), (3, -2))
    empty = [rgb.astype(int) for rgb, _ in render_frames(0, [], 20)]
    for (rgb, boxes), ground in zip(render_frames(0, [shape], 20), empty, strict=True):
        changed = np.abs(rgb - ground).sum(-1) > 60
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        painted = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert boxes.shape == (1, 4)
        assert boxes[0] == pytest.approx(painted, abs=2)


def test_they_move_by_their_step_and_turn_back_at_the_border() -> None:
    shape = MovingShape(RED, 30, (64, 64), (2.5, 0))
    boxes = np.stack([boxes[0] for _, boxes in render_frames(0, [shape], 200)])
    steps = np.diff(boxes[:, 0])
    assert steps[:5] == pytest.approx([2.5] * 5)
    assert steps.min() == pytest.approx(-2.5)
    assert np.ptp(boxes[:, 1]) < 1e-9
    assert boxes.min() >= 1 and boxes.max() <= IMAGE_SIZE - 1


def test_the_same_seed_gives_the_same_frames() -> None:
    shapes = [MovingShape(RED, 30, (64, 64), (2, 1)), MovingShape(RING, 30, (30, 30), (1, 1))]
    first, again, other = ([rgb for rgb, _ in render_frames(seed, shapes, 3)] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(np.subtract(first, other, dtype=int)).mean() > 1


def test_a_later_one_covers_those_before_it() -> None:
    shapes = [
        MovingShape(c, 40, (64, 64), (0, 0)) for c in (RED, Composition("blue", "plain", "square"))
    ]
    (rgb, boxes), *_ = render_frames(0, shapes, 1)
    red, _, blue = rgb[60:68, 60:68].reshape(-1, 3).mean(0)
    assert blue > red + 100
    assert len(boxes) == 2
