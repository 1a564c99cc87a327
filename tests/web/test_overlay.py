"""Detections as SVG: every name is text, and no label covers another."""

from __future__ import annotations

import re
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

from fgclip_det.web.overlay import as_svg, rows_of

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; --></svg><b>",
    "a\x00b\u202ec\n<d>",
    "&lt;b&gt; & ]]>",
]


def found_of(names: list[str], boxes: list[list[float]], confident: bool = True) -> SimpleNamespace:
    values = np.linspace(0.9876, 0.5, len(names)).astype(np.float32)
    return SimpleNamespace(
        names=names, vocabulary=sorted(set(names)), boxes=np.array(boxes, float).reshape(-1, 4),
        scores=values / 2, confidences=values if confident else None,
        certainties=values if confident else values / 2, width=200, height=100,
    )  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text(name: str) -> None:
    found = found_of([name], [[10, 10, 90, 90]])
    near = [SimpleNamespace(name=name, cosine=0.5, own=0.6)]
    root = ElementTree.fromstring(as_svg(found, near, 400, asked=name))
    assert {element.tag for element in root.iter()} == {"svg", "g", "rect", "text"}
    assert not [key for element in root.iter() for key in element.attrib if key.startswith("on")]
    text = "".join(element.text or "" for element in root.iter("text"))
    assert text.startswith("1 ") and "\n" not in text and "\u202e" not in text


def test_boxes_are_scaled_to_the_screen() -> None:
    root = ElementTree.fromstring(as_svg(found_of(["a"], [[10, 20, 50, 60]]), [None], 400))
    assert root.get("viewBox") == "0 0 400 200"
    line = next(one for one in root.iter("rect") if one.get("class") == "line")
    sides = [float(line.get(key)) for key in ("x", "y", "width", "height")]
    assert sides == [20, 40, 80, 80]


def test_labels_cover_each_other_nowhere() -> None:
    boxes = [[5.0 * n, 3.0 * n, 5.0 * n + 60, 3.0 * n + 40] for n in range(12)]
    svg = as_svg(found_of([f"thing {n % 4}" for n in range(12)], boxes), [None] * 12, 900)
    labels = re.findall(
        r'class="label"[^>]*><rect x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)"', svg
    )
    rects = [tuple(map(int, one)) for one in labels]
    assert len(rects) == 12
    for place, (x, y, w, h) in enumerate(rects):
        for a, b, c, d in rects[:place]:
            assert x + w <= a or a + c <= x or y + h <= b or b + d <= y


def test_more_names_than_colours_differ_in_dashes() -> None:
    boxes = [[20.0 * n, 0, 20.0 * n + 15, 50] for n in range(9)]
    svg = as_svg(found_of([f"name {n}" for n in range(9)], boxes), [None] * 9, 800)
    looks = re.findall(r'class="line"[^>]*?stroke="(#\w+)" stroke-width="2"([^/]*)/', svg)
    assert len(set(looks)) == 9
    assert len({color for color, _ in looks}) == 7


def test_the_first_box_alone_is_reached_by_tab() -> None:
    svg = as_svg(found_of(["a", "b"], [[0, 0, 9, 9], [20, 20, 90, 90]]), [None, None], 400)
    places = dict(re.findall(r'tabindex="(-?\d)" data-row="(\d)"', svg))
    assert {row: tab for tab, row in places.items()} == {"0": "0", "1": "-1"}


def test_rows_tell_confidence_score_and_neighbour() -> None:
    near = [SimpleNamespace(name="b", cosine=0.25, own=0.75)]
    (row,) = rows_of(found_of(["a"], [[10, 20, 50, 60]]), near)
    assert row["certainty"] == "0.9876"
    assert row["lines"] == [
        "confidence 0.9876",
        "score 0.4938",
        "next to it: b (cosine 0.25, own 0.75)",
        "box 10.00, 20.00, 50.00, 60.00",
    ]


def test_nothing_found_is_an_empty_drawing() -> None:
    root = ElementTree.fromstring(as_svg(found_of([], []), [], 400, "a"))
    assert (len(root), root.get("aria-label"), root.get("data-asked")) == (0, "0 boxes", "a")
