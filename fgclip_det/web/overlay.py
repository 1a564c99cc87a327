"""Detections as SVG over their picture; whatever a name holds, it is text there."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from fgclip_det.apis.drawing.fonts import runs
from fgclip_det.apis.drawing.label_places import place_labels
from fgclip_det.apis.drawing.signs import Sign, signs_of
from fgclip_det.exit_codes import printable

# Pixels of the screen: letters, the room around them, lines.
_LETTERS = 12
_PAD = 3
_LINE = 2
_LONGEST = 26
_LONGEST_TOLD = 60


def as_svg(found: Any, near: Sequence[Any], width: int, asked: str = "") -> str:
    """Boxes with numbers, names and certainties.

    Each box is a button that keys reach. Labels cover each other nowhere; what one that has no room
    would say is in the list that `rows_of` makes.

    Args:
        found: `Detections`, best first.
        near: What else each is like, see `neighbours`.
        width: Of the picture on the screen, in pixels.
        asked: What the answer is to; the element's ``data-asked``.
    """
    scale = width / found.width
    height = max(round(found.height * scale), 1)
    signs = signs_of([*found.vocabulary, *found.names])
    boxes = [[value * scale for value in box] for box in found.boxes.tolist()]
    texts = [_label(found, row) for row in range(len(boxes))]
    sizes = [_size(text) for text in texts]
    places = place_labels(boxes, sizes, (width, height))
    drawn = []
    # Small ones on top, where the pointer reaches them.
    for row in sorted(range(len(boxes)), key=lambda row: -_area(boxes[row])):
        sign, told = signs[found.names[row]], _told(found, near, row)
        drawn.append(_box(row, boxes[row], sign, told))
    for row, place in enumerate(places):
        if place is not None:
            drawn.append(_text(row, texts[row], place, sizes[row], signs[found.names[row]]))
    count = f"{len(boxes)} boxes" if len(boxes) != 1 else "1 box"
    return (
        f'<svg class="found" viewBox="0 0 {width} {height}" role="group" aria-label="{count}"'
        f' data-asked="{_quoted(asked)}">{"".join(drawn)}</svg>'
    )


def rows_of(found: Any, near: Sequence[Any]) -> list[dict[str, Any]]:
    """What is told of each box, for a list and where the pointer rests: plain text.

    Returns:
        "number" (from 1), "name", "short" (the name as it is shown), "certainty", "color"
        (``#rrggbb``), "box" (xyxy in pixels of the picture) and "lines" of each.
    """
    signs = signs_of([*found.vocabulary, *found.names])
    rows = []
    for row, (name, box) in enumerate(zip(found.names, found.boxes.tolist(), strict=True)):
        rows.append(
            {
                "number": row + 1,
                "name": name,
                "short": _short(name, _LONGEST_TOLD),
                "certainty": f"{float(found.certainties[row]):.4f}",
                "color": _color(signs[name].color),
                "box": box,
                "lines": _lines(found, near, row),
            }
        )
    return rows


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _lines(found: Any, near: Sequence[Any], row: int) -> list[str]:
    lines = [f"score {float(found.scores[row]):.4f}"]
    if found.confidences is not None:
        lines.insert(0, f"confidence {float(found.confidences[row]):.4f}")
    other = near[row] if row < len(near) else None
    if other is not None:
        name = _short(other.name, _LONGEST_TOLD)
        lines.append(f"next to it: {name} (cosine {other.cosine:.2f}, own {other.own:.2f})")
    lines.append("box " + ", ".join(f"{value:.2f}" for value in found.boxes[row].tolist()))
    return lines


def _told(found: Any, near: Sequence[Any], row: int) -> str:
    name = _short(found.names[row], _LONGEST_TOLD)
    return f"{row + 1}: {name}, {', '.join(_lines(found, near, row)[:-1])}"


def _label(found: Any, row: int) -> str:
    name = _short(found.names[row], _LONGEST)
    return f"{row + 1} {name} {float(found.certainties[row]):.2f}"


def _size(text: str) -> tuple[int, int]:
    # Of letters beyond Latin the font here may not be the browser's; the text is fitted below.
    letters = sum(font.getlength(piece) for piece, font in runs(text, _LETTERS))
    return round(letters) + 2 * _PAD, _LETTERS + 2 * _PAD


def _box(row: int, box: Sequence[float], sign: Sign, told: str) -> str:
    x1, y1, x2, y2 = box
    sides = (
        f'x="{x1:.1f}" y="{y1:.1f}" width="{max(x2 - x1, 1):.1f}" height="{max(y2 - y1, 1):.1f}"'
    )
    dashes = " ".join(str(part * _LINE) for part in sign.dashes)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<g class="box" role="button" tabindex="{-1 if row else 0}" data-row="{row}"'
        f' aria-label="{_quoted(told)}"><rect class="edge" {sides} stroke-width="{_LINE + 2}"/>'
        f'<rect class="line" {sides} stroke="{_color(sign.color)}" stroke-width="{_LINE}"{dashed}/>'
        f"</g>"
    )


def _text(row: int, text: str, place: tuple[int, int], size: tuple[int, int], sign: Sign) -> str:
    left, top = place
    wide, high = size
    return (
        f'<g class="label" data-row="{row}"><rect x="{left}" y="{top}" width="{wide}"'
        f' height="{high}" fill="{_color(sign.color)}"/>'
        f'<text x="{left + _PAD}" y="{top + _PAD + _LETTERS - 2}" font-size="{_LETTERS}"'
        f' textLength="{wide - 2 * _PAD}" lengthAdjust="spacingAndGlyphs"'
        f' fill="{_color(sign.ink)}">{_quoted(text)}</text></g>'
    )


def _short(name: str, most: int) -> str:
    name = printable(name)
    return name if len(name) <= most else f"{name[: most - 1].rstrip()}…"


def _color(rgb: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def _quoted(text: str) -> str:
    return escape(printable(text), quote=True)
