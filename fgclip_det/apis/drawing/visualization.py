"""Boxes with names and scores, drawn so that they can be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from fgclip_det.apis.drawing.fonts import runs
from fgclip_det.apis.drawing.label_places import place_labels
from fgclip_det.apis.drawing.signs import Sign, signs_of
from fgclip_det.apis.inputs.picture_lists import to_pixels
from fgclip_det.exit_codes import printable

# Small pictures are enlarged until their longer side has this many pixels.
_LEAST_SIDE = 640
_LONGEST_NAME = 40
_LEAST_LETTERS = 12
_MOST_LETTERS = 60
# Of a mask over the picture.
_COVER = 0.45


# `Detections` draws itself by what stands here.
@runtime_checkable
class Found(Protocol):
    """The part of `Detections` that is drawn; see there."""

    names: list[str]
    boxes: Tensor
    vocabulary: list[str]
    masks: Tensor | None
    ids: Tensor | None

    @property
    def certainties(self) -> Tensor:
        """(M,) float32."""


Color = str | tuple[int, int, int]
Labels = Literal["off", "short", "full"]


def draw_detections(image: np.ndarray, detections: Found, labels: Labels = "full") -> Image.Image:
    """Draw boxes, names and confidences, or scores where there are none.

    No label covers another: one that finds no room beside its box stands off, with a line to the
    box, and where there is no room at all a line at the bottom says how many are left out.

    Args:
        image: (H, W, 3) uint8, RGB: the picture the detections are of.
        detections: Boxes in pixels of `image`, perhaps with masks and ids.
        labels: "full" for name and number, and the id of those that have one, "short" for the name,
            "off" for none.

    Returns:
        The annotated picture, enlarged where it is small; a name has the same colour everywhere.

    Raises:
        ValueError: `image` is no such array, the detections are of another kind, or `labels` is
            unknown.
    """
    if not isinstance(image, np.ndarray):
        raise ValueError(f"a picture must be an array, not {type(image).__name__}: read_image it")
    image = to_pixels(image)
    if not isinstance(detections, Found):
        raise ValueError(f"detections cannot be a {type(detections).__name__}: give Detections")
    check_labels(labels)
    height, width = image.shape[:2]
    scale = max(1, round(_LEAST_SIDE / max(height, width)))
    known = signs_of([*detections.vocabulary, *detections.names])
    signs = [known[name] for name in detections.names]
    if detections.masks is not None:
        image = _with_masks(image, detections.masks.numpy(), signs)
    canvas = Image.fromarray(image).resize((width * scale, height * scale), Image.BICUBIC)
    # Of a very long picture the shorter side decides, or one label would cover it.
    side = min(max(canvas.size), 4 * min(canvas.size))
    line = max(2, side // 250)
    boxes = [[float(value) * scale for value in box] for box in detections.boxes.tolist()]
    # The best detection is drawn last, on top.
    for box, sign in reversed(list(zip(boxes, signs, strict=True))):
        _draw_box(canvas, box, sign, line)
    if labels != "off" and boxes:
        texts = [_label_of(detections, row, labels) for row in range(len(boxes))]
        _draw_labels(
            canvas, boxes, texts, signs, max(_LEAST_LETTERS, min(side // 38, _MOST_LETTERS)), line
        )
    return canvas


def check_labels(labels: str) -> None:
    """Refuse what is no way to label.

    Raises:
        ValueError: It is none.
    """
    if labels not in get_args(Labels):
        raise ValueError(f'labels is {labels!r}: it must be "off", "short" or "full"')


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


def _label_of(detections: Found, row: int, labels: Labels) -> str:
    text = printable(shortened(detections.names[row]))
    if labels == "short":
        return text
    known = detections.ids is not None and int(detections.ids[row]) >= 0
    number = f"#{int(detections.ids[row])} " if known else ""
    return f"{number}{text} {float(detections.certainties[row]):.2f}"


def _with_masks(image: np.ndarray, masks: np.ndarray, signs: Sequence[Sign]) -> np.ndarray:
    """(H, W, 3) uint8 with each mask in the colour of its name, the best on top."""
    covered = image.copy()
    for mask, sign in reversed(list(zip(masks, signs, strict=True))):
        color = np.array(sign.color, np.float32)
        covered[mask] = (1 - _COVER) * image[mask] + _COVER * color
        inner = mask.copy()
        inner[1:-1, 1:-1] &= mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
        covered[mask & ~inner] = sign.color
    return covered


def _draw_box(canvas: Image.Image, box: Sequence[float], sign: Sign, line: int) -> None:
    draw = ImageDraw.Draw(canvas)
    if not sign.dashes:
        draw.rectangle(list(box), outline=sign.color, width=line)
        return
    # Gaps are dark, so that they are seen on any ground.
    draw.rectangle(list(box), outline=(0, 0, 0), width=line)
    drawn, left_out = (part * line for part in sign.dashes)
    x1, y1, x2, y2 = (round(value) for value in box)
    for start in range(x1, x2 + 1, drawn + left_out):
        end = min(start + drawn - 1, x2)
        draw.rectangle((start, y1, end, min(y1 + line - 1, y2)), fill=sign.color)
        draw.rectangle((start, max(y2 - line + 1, y1), end, y2), fill=sign.color)
    for start in range(y1, y2 + 1, drawn + left_out):
        end = min(start + drawn - 1, y2)
        draw.rectangle((x1, start, min(x1 + line - 1, x2), end), fill=sign.color)
        draw.rectangle((max(x2 - line + 1, x1), start, x2, end), fill=sign.color)


class _Label:
    """A text in a rectangle of its colour."""

    def __init__(self, text: str, size: int) -> None:
        self.pieces = runs(text, size)
        self.pad = max(2, size // 5)
        lengths = [font.getlength(letters) for letters, font in self.pieces]
        self.starts = [sum(lengths[:place]) for place in range(len(lengths))]
        bounds = [font.getbbox(letters) for letters, font in self.pieces]
        self.top = min(bound[1] for bound in bounds)
        bottom = max(bound[3] for bound in bounds)
        width = round(sum(lengths)) + 2 * self.pad
        self.size = (width, round(bottom - self.top) + 2 * self.pad)

    def draw(self, draw: ImageDraw.ImageDraw, place: tuple[int, int], sign: Sign) -> None:
        """Draw it, its left top corner at a place."""
        left, top = place
        draw.rectangle((left, top, left + self.size[0] - 1, top + self.size[1] - 1), sign.color)
        for (letters, font), start in zip(self.pieces, self.starts, strict=True):
            where = (left + self.pad + start, top + self.pad - self.top)
            draw.text(where, letters, fill=sign.ink, font=font)


def _draw_labels(
    canvas: Image.Image,
    boxes: Sequence[Sequence[float]],
    texts: Sequence[str],
    signs: Sequence[Sign],
    size: int,
    line: int,
) -> None:
    # Crowds have smaller letters.
    for smaller in dict.fromkeys(max(_LEAST_LETTERS, size * part // 4) for part in (4, 3, 2)):
        size = smaller
        # Most names are found more than once.
        made = {text: _Label(text, size) for text in dict.fromkeys(texts)}
        written = [made[text] for text in texts]
        sizes = [label.size for label in written]
        places = place_labels(boxes, sizes, canvas.size)
        if None not in places:
            break
    draw = ImageDraw.Draw(canvas)
    if None in places:
        left_out = _Label(f"{len(texts)} labels have no room here", size)
        bar = (0, canvas.height - left_out.size[1], *canvas.size)
        if left_out.size[0] <= canvas.width and left_out.size[1] <= canvas.height // 4:
            places = place_labels(boxes, sizes, canvas.size, [bar])
            left_out = _Label(f"{places.count(None)} labels have no room here", size)
            left_out.draw(draw, bar[:2], Sign((0, 0, 0), ()))
    for box, place, label, sign in zip(boxes, places, written, signs, strict=True):
        if place is not None:
            _draw_leader(draw, box, place, label.size, sign, max(1, line // 2))
    for place, label, sign in zip(places, written, signs, strict=True):
        if place is not None:
            label.draw(draw, place, sign)


def _draw_leader(
    draw: ImageDraw.ImageDraw,
    box: Sequence[float],
    place: tuple[int, int],
    size: tuple[int, int],
    sign: Sign,
    line: int,
) -> None:
    """A line from a label to its box, where they do not touch."""
    ends = (place[0] + size[0], place[1] + size[1])
    # The point of the label that is nearest to the middle of the box, and that of the box to it.
    start = [max(place[axis], min((box[axis] + box[axis + 2]) / 2, ends[axis])) for axis in (0, 1)]
    end = [max(box[axis], min(start[axis], box[axis + 2])) for axis in (0, 1)]
    if max(abs(start[0] - end[0]), abs(start[1] - end[1])) > 1:
        draw.line((*start, *end), fill=sign.color, width=line)
