"""Videos of Shapes: objects that move in straight lines and turn back at the border."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fgclip_det.datasets.shapes.render import (
    IMAGE_SIZE,
    Composition,
    outline_of,
    paint,
    paint_background,
)


class MovingShape(NamedTuple):
    """An object of a video.

    Attributes:
        composition: What it is.
        size: Its longer side, in pixels.
        start: Its centre (x, y) in the first frame, in pixels.
        step: How far it moves from frame to frame (x, y), in pixels.
    """

    composition: Composition
    size: float
    start: tuple[float, float]
    step: tuple[float, float]


def render_frames(
    seed: int, shapes: Sequence[MovingShape], count: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw a video.

    Args:
        seed: Of the background, and of how the objects look, which stays from frame to frame.
        shapes: M objects; a later one covers those before it.
        count: Frames.

    Returns:
        Of each frame its picture, (IMAGE_SIZE, IMAGE_SIZE, 3) uint8, RGB, and the boxes of the
        objects, (M, 4) float64, xyxy, in pixels.
    """
    background = paint_background(np.random.default_rng(seed))[0]
    noise = np.random.default_rng([seed, 1])
    looks = []
    for place, shape in enumerate(shapes):
        rng = np.random.default_rng([seed, 2, place])
        looks.append(outline_of(rng, shape.composition.shape, shape.size))
    for index in range(count):
        canvas, boxes = background.copy(), np.empty((len(shapes), 4))
        for place, (shape, (outline, hole, extent)) in enumerate(zip(shapes, looks, strict=True)):
            centre = np.add(shape.start, np.multiply(shape.step, index))
            corner = _reflected(centre - extent / 2, IMAGE_SIZE - 2.0 - extent) + 1.0
            boxes[place] = *corner, *(corner + extent)
            # The same colours and patterns in each frame.
            rng = np.random.default_rng([seed, 3, place])
            moved = None if hole is None else hole + corner
            paint(rng, canvas, shape.composition, outline + corner, moved)
        canvas += noise.normal(0, 3.0, (IMAGE_SIZE, IMAGE_SIZE, 1)).astype(np.float32)
        yield np.clip(np.rint(canvas), 0, 255).astype(np.uint8), boxes


def _reflected(place: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Places that ran straight on, thrown back at 0 and at `room`."""
    return room - np.abs(place % (2 * room) - room)
