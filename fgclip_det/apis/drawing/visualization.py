"""Boxes with names and scores, drawn so that they can be read."""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fgclip_det.apis.detections import Detections
from fgclip_det.apis.inputs.picture_lists import to_pixels

# Small pictures are enlarged until their longer side has this many pixels.
_LEAST_SIDE = 640
_LONGEST_NAME = 40
_GOLDEN_ANGLE = 0.618033988749895

Color = str | tuple[int, int, int]


def draw_detections(image: np.ndarray, detections: Detections) -> Image.Image:
    """Draw boxes, names and scores.

    Args:
        image: (H, W, 3) uint8, RGB: the picture the detections are of.
        detections: Boxes in pixels of `image`.

    Returns:
        The annotated picture, enlarged where it is small; a name has the same colour everywhere.

    Raises:
        ValueError: `image` is no such array, or the detections are of another kind.
    """
    if not isinstance(image, np.ndarray):
        raise ValueError(f"a picture must be an array, not {type(image).__name__}: read_image it")
    image = to_pixels(image)
    if not isinstance(detections, Detections):
        raise ValueError(f"detections cannot be a {type(detections).__name__}: give Detections")
    height, width = image.shape[:2]
    scale = max(1, round(_LEAST_SIDE / max(height, width)))
    canvas = Image.fromarray(image).resize((width * scale, height * scale), Image.BICUBIC)
    draw = ImageDraw.Draw(canvas)
    # Of a very long picture the shorter side decides, or one label would cover it.
    side = min(max(canvas.size), 4 * min(canvas.size))
    line = max(2, side // 250)
    font = ImageFont.load_default(size=max(12, side // 42))
    # The best detection is drawn last, on top.
    order = list(reversed(range(len(detections))))
    boxes = [[float(value) * scale for value in detections.boxes[i]] for i in order]
    colors = [_color(detections.names[i]) for i in order]
    draw_boxes(canvas, boxes, colors, line)
    for i, box, color in zip(order, boxes, colors, strict=True):
        label = f"{shortened(detections.names[i])} {float(detections.scores[i]):.2f}"
        _draw_label(draw, box, label, color, font, canvas.size)
    return canvas


def draw_boxes(
    canvas: Image.Image, boxes: Iterable[Sequence[float]], colors: Iterable[Color], line: int
) -> None:
    """Draw the outlines of boxes into a picture, each on top of those before it.

    Args:
        canvas: What is drawn into.
        boxes: K boxes xyxy, in pixels of `canvas`.
        colors: Of each.
        line: Width of an outline, in pixels.
    """
    draw = ImageDraw.Draw(canvas)
    for box, color in zip(boxes, colors, strict=True):
        draw.rectangle(list(box), outline=color, width=line)


def shortened(name: str) -> str:
    """A name as it is shown: whole captions are cut."""
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 3].rstrip() + "..."


def _draw_label(
    draw: ImageDraw.ImageDraw,
    box: list[float],
    label: str,
    color: tuple[int, int, int],
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    canvas_size: tuple[int, int],
) -> None:
    left, top, right, bottom = draw.textbbox((0, 0), label, font=font)
    width, height = right - left + 6, bottom - top + 6
    x = min(max(box[0], 0), max(canvas_size[0] - width, 0))
    above = box[1] - height
    y = above if above >= 0 else min(max(box[1], 0), canvas_size[1] - height)
    draw.rectangle((x, y, x + width, y + height), fill=color)
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    ink = (0, 0, 0) if luminance > 140 else (255, 255, 255)
    draw.text((x + 3 - left, y + 3 - top), label, fill=ink, font=font)


def _color(name: str) -> tuple[int, int, int]:
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:2], "big")
    red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN_ANGLE % 1.0, 0.85, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)
