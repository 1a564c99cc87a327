"""Places of labels that cover each other nowhere, each as near to its box as there is room."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Rings of places around a box that are looked at, and how far the last one is, in label heights.
_RINGS = 8
_PER_RING = 24


def place_labels(
    boxes: Sequence[Sequence[float]],
    sizes: Sequence[tuple[int, int]],
    canvas: tuple[int, int],
    taken: Sequence[tuple[int, int, int, int]] = (),
) -> list[tuple[int, int] | None]:
    """Where labels go, the first ones having the first choice.

    Beside the box if there is room, within it, else in rings around it, else where there is room
    at all.

    Args:
        boxes: K boxes xyxy, in pixels of the canvas.
        sizes: Width and height of each label in pixels.
        canvas: Width and height.
        taken: Rectangles xyxy that are no place for any.

    Returns:
        Left and top of each label; None for those that have no room.
    """
    width, height = canvas
    covered = np.zeros((len(taken) + len(boxes), 4), np.int64)
    covered[: len(taken)] = np.asarray(taken, np.int64).reshape(-1, 4)
    count = len(taken)
    places: list[tuple[int, int] | None] = []
    for box, (wide, high) in zip(boxes, sizes, strict=True):
        places.append(None)
        if wide > width or high > height:
            continue
        most = (width - wide, height - high)
        for candidates in (_candidates, _anywhere):
            # Those that stick out are pushed in.
            corners = np.clip(candidates(box, wide, high, most), 0, most)
            free = _free(corners, (wide, high), covered[:count])
            if free.any():
                left, top = corners[int(free.argmax())].tolist()
                places[-1] = (left, top)
                covered[count] = (left, top, left + wide, top + high)
                count += 1
                break
    return places


def _candidates(box: Sequence[float], wide: int, high: int, most: tuple[int, int]) -> np.ndarray:
    """(N, 2) left and top, the best first."""
    x1, y1, x2, y2 = (round(value) for value in box)
    beside = [
        (x1, y1 - high),
        (x1, y1),
        (x1, y2),
        (x2 - wide, y1 - high),
        (x2 - wide, y2),
        (x2, y1),
        (x1 - wide, y1),
        (x1, y2 - high),
        (x2 - wide, y2 - high),
        (x2, y2 - high),
        (x1 - wide, y2 - high),
    ]
    middle = np.array([(x1 + x2 - wide) / 2, (y1 + y2 - high) / 2])
    angles = np.linspace(0, 2 * np.pi, _PER_RING, endpoint=False)
    ways = np.stack([np.sin(angles), -np.cos(angles)], axis=1)
    reach = np.array([(x2 - x1 + wide) / 2, (y2 - y1 + high) / 2])
    rings = [middle + ways * (reach + ring * high) for ring in range(_RINGS)]
    return np.concatenate([np.array(beside), np.concatenate(rings).round()]).astype(np.int64)


def _anywhere(box: Sequence[float], wide: int, high: int, most: tuple[int, int]) -> np.ndarray:
    """(N, 2) left and top all over the canvas, the nearest first."""
    steps = (np.arange(0, most[0] + 1, wide // 4 + 1), np.arange(0, most[1] + 1, high))
    corners = np.stack(np.meshgrid(*steps), axis=-1).reshape(-1, 2)
    middle = np.array([(box[0] + box[2] - wide) / 2, (box[1] + box[3] - high) / 2])
    return corners[np.abs(corners - middle).sum(axis=1).argsort(kind="stable")]


def _free(corners: np.ndarray, size: tuple[int, int], covered: np.ndarray) -> np.ndarray:
    ends = corners + np.array(size)
    apart = (
        (corners[:, None, 0] >= covered[None, :, 2])
        | (ends[:, None, 0] <= covered[None, :, 0])
        | (corners[:, None, 1] >= covered[None, :, 3])
        | (ends[:, None, 1] <= covered[None, :, 1])
    )
    return apart.all(axis=1)
