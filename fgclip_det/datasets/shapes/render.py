"""Pictures of Shapes: coloured, patterned shapes on a muted background, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

IMAGE_SIZE = 128
SUPERSAMPLING = 4

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (35, 165, 60),
    "blue": (45, 75, 225),
    "yellow": (240, 215, 45),
    "purple": (150, 45, 185),
    "cyan": (50, 205, 225),
    "white": (246, 246, 246),
    "black": (24, 24, 24),
}
PATTERNS: tuple[str, ...] = ("plain", "striped", "dotted", "checkered")
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "cross", "ring")

# Largest side in px, by number of objects in the picture: four 64 px objects do not fit in 128 px.
SIZE_RANGES: dict[int, tuple[float, float]] = {
    1: (34.0, 64.0),
    2: (30.0, 60.0),
    3: (28.0, 52.0),
    4: (26.0, 46.0),
}
MAX_IOU = 0.03


@dataclass(frozen=True)
class Composition:
    """One of the 192 classes: a colour, a pattern and a shape."""

    color: str
    pattern: str
    shape: str

    @property
    def name(self) -> str:
        """Class name, such as ``"red striped circle"``."""
        return f"{self.color} {self.pattern} {self.shape}"


@dataclass(frozen=True)
class PlacedObject:
    """An object of a scene.

    Attributes:
        composition: What it is.
        box: Tight box, xyxy, in pixels of the picture (pixel ``i`` spans ``[i, i + 1]``).
    """

    composition: Composition
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Scene:
    """A rendered picture with all that a caption may say about it.

    Attributes:
        image: ``(IMAGE_SIZE, IMAGE_SIZE, 3)`` uint8, RGB.
        objects: The objects, in drawing order.
        background: Word for the background's brightness.
        num_lines: Number of thin distractor lines.
    """

    image: np.ndarray
    objects: tuple[PlacedObject, ...]
    background: str
    num_lines: int


def _circle(radius: float = 1.0) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star() -> np.ndarray:
    angles = -np.pi / 2 + np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.46)
    return radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _cross(arm: float = 0.38) -> np.ndarray:
    corner = np.array([[arm, -1], [arm, -arm], [1, -arm]], dtype=float)
    turns = [np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), k) for k in range(4)]
    return np.concatenate([corner @ turn.T for turn in turns])


_OUTLINES: dict[str, np.ndarray] = {
    "circle": _circle(),
    "square": np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=float),
    "triangle": np.array([[0, -1], [1, 0.85], [-1, 0.85]], dtype=float),
    "star": _star(),
    "cross": _cross(),
    "ring": _circle(),
}
_HOLES: dict[str, np.ndarray] = {"ring": _circle(0.46)}


def outline_of(
    rng: np.random.Generator, shape: str, size: float
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Outline (V, 2), hole (V, 2) or None, and size (2,), in px from the box's top left."""
    angle = np.deg2rad(rng.uniform(-15, 15))
    aspect = rng.uniform(0.87, 1.15)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    transform = rotation @ np.diag([1.0, aspect])
    outline = _OUTLINES[shape] @ transform.T
    low, high = outline.min(axis=0), outline.max(axis=0)
    scale = size / (high - low).max()
    hole = _HOLES.get(shape)
    if hole is not None:
        hole = (hole @ transform.T - low) * scale
    return (outline - low) * scale, hole, (high - low) * scale


def _iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(width, 0.0) * max(height, 0.0)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def _tones(
    rng: np.random.Generator, composition: Composition, size: float, ys: np.ndarray, xs: np.ndarray
) -> np.ndarray:
    """Colour (h, w, 3) float32 of each supersampled pixel at ys (h, 1), xs (1, w), in px."""
    color = np.array(COLORS[composition.color], dtype=np.float32)
    main = np.clip(color + rng.uniform(-10, 10, 3), 0, 255)
    # A darker black would not show, so black's second tone is lighter.
    second = np.full(3, 110.0) if composition.color == "black" else main * 0.4
    period = float(np.clip(0.24 * size, 8.0, 10.0))
    phase = rng.uniform(0, period, 2)
    tilt = np.deg2rad(rng.uniform(-12, 12))
    stripe_turn = rng.integers(4) * np.pi / 4
    if composition.pattern == "striped":
        tilt += stripe_turn
    u = (xs * np.cos(tilt) + ys * np.sin(tilt) + phase[0]) / period
    v = (ys * np.cos(tilt) - xs * np.sin(tilt) + phase[1]) / period
    if composition.pattern == "plain":
        is_second = np.zeros(u.shape, dtype=bool)
    elif composition.pattern == "striped":
        is_second = u % 1.0 < 0.5
    elif composition.pattern == "dotted":
        is_second = (u % 1.0 - 0.5) ** 2 + (v % 1.0 - 0.5) ** 2 < 0.32**2
    else:
        is_second = (u % 1.0 < 0.5) ^ (v % 1.0 < 0.5)
    return np.where(is_second[..., None], second, main).astype(np.float32)


def _mask(outline: np.ndarray, hole: np.ndarray | None, shape: tuple[int, int]) -> np.ndarray:
    """Filled outline (V, 2), in supersampled pixels, as an (h, w) float32 array of 0 and 1."""
    mask = Image.new("1", (shape[1], shape[0]))
    draw = ImageDraw.Draw(mask)
    # Pillow puts a pixel's centre on whole coordinates; ours lie on its top left corner.
    draw.polygon([tuple(point) for point in (outline - 0.5).tolist()], fill=1)
    if hole is not None:
        draw.polygon([tuple(point) for point in (hole - 0.5).tolist()], fill=0)
    return np.asarray(mask, dtype=np.float32)


def paint(
    rng: np.random.Generator,
    canvas: np.ndarray,
    composition: Composition,
    outline: np.ndarray,
    hole: np.ndarray | None,
) -> None:
    """Blends one object into canvas (H, W, 3) float32; outline and hole are in px of it."""
    low = np.maximum(np.floor(outline.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(outline.max(axis=0)).astype(int), IMAGE_SIZE)
    width, height = (high - low).tolist()
    k = SUPERSAMPLING
    mask = _mask(
        (outline - low) * k, None if hole is None else (hole - low) * k, (height * k, width * k)
    )
    ys = (np.arange(height * k)[:, None] + 0.5) / k
    xs = (np.arange(width * k)[None, :] + 0.5) / k
    tones = _tones(rng, composition, float(np.ptp(outline, axis=0).max()), ys, xs)
    cells = (height, k, width, k)
    alpha = mask.reshape(cells).mean(axis=(1, 3))[..., None]
    color = (tones * mask[..., None]).reshape(*cells, 3).mean(axis=(1, 3))
    window = canvas[low[1] : high[1], low[0] : high[0]]
    window *= 1 - alpha
    window += color


def paint_background(rng: np.random.Generator) -> tuple[np.ndarray, str, int]:
    """Canvas (H, W, 3) float32 in 0..255, its brightness word, and its number of lines."""
    level = rng.uniform(125, 180)
    word = "dark grey" if level < 143 else "grey" if level < 162 else "light grey"
    tint = rng.uniform(-8, 8, 3)
    ramp = np.linspace(-1, 1, IMAGE_SIZE)
    slope = rng.uniform(-14, 14, 2)
    waves = rng.uniform(0, 5) * np.sin(
        ramp[:, None] * rng.uniform(2, 9) + ramp[None, :] * rng.uniform(2, 9) + rng.uniform(0, 6)
    )
    grey = level + slope[0] * ramp[:, None] + slope[1] * ramp[None, :] + waves
    canvas = (grey[..., None] + tint).astype(np.float32)
    num_lines = int(rng.integers(0, 4))
    side = IMAGE_SIZE * SUPERSAMPLING
    for _ in range(num_lines):
        line = Image.new("L", (side, side))
        ends = rng.uniform(0, side, 4).tolist()
        ImageDraw.Draw(line).line(ends, fill=255, width=int(rng.integers(4, 8)))
        alpha = np.asarray(line.reduce(SUPERSAMPLING), dtype=np.float32)[..., None] / 255
        canvas += alpha * np.float32(rng.choice([-1, 1]) * rng.uniform(25, 55))
    return canvas, word, num_lines


def _place(
    rng: np.random.Generator, compositions: list[Composition]
) -> list[tuple[np.ndarray, np.ndarray | None, tuple[float, float, float, float]]]:
    """Outline and hole in px of the picture, and xyxy box, for each object."""
    low, high = SIZE_RANGES[len(compositions)]
    shrink = 1.0
    while True:
        placed: list[tuple[np.ndarray, np.ndarray | None, tuple[float, float, float, float]]] = []
        for composition in compositions:
            for _ in range(40):
                size = max(rng.uniform(low, high) * shrink, low)
                outline, hole, extent = outline_of(rng, composition.shape, size)
                corner = rng.uniform(1.0, IMAGE_SIZE - 1.0 - extent)
                box = (*corner.tolist(), *(corner + extent).tolist())
                if all(_iou(box, other[2]) < MAX_IOU for other in placed):
                    hole = None if hole is None else hole + corner
                    placed.append((outline + corner, hole, box))
                    break
            else:
                break
        if len(placed) == len(compositions):
            return placed
        # Big objects that took all the room: draw all anew, smaller, so that this ends.
        shrink *= 0.95


def render(rng: np.random.Generator, compositions: list[Composition]) -> Scene:
    """Draws one picture.

    Args:
        rng: Source of every random choice.
        compositions: 1 to 4 objects to draw.

    Returns:
        The picture with its boxes.

    Raises:
        ValueError: The number of objects is not between 1 and 4.
    """
    if len(compositions) not in SIZE_RANGES:
        raise ValueError(f"cannot draw {len(compositions)} objects: give 1 to {len(SIZE_RANGES)}")
    canvas, background, num_lines = paint_background(rng)
    placed = _place(rng, compositions)
    for composition, (outline, hole, _) in zip(compositions, placed, strict=True):
        paint(rng, canvas, composition, outline, hole)
    canvas += rng.normal(0, 3.0, (IMAGE_SIZE, IMAGE_SIZE, 1)).astype(np.float32)
    image = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    objects = tuple(
        PlacedObject(composition, tuple(round(v, 2) for v in box))
        for composition, (_, _, box) in zip(compositions, placed, strict=True)
    )
    return Scene(image, objects, background, num_lines)
