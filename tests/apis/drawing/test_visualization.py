"""Boxes are where they belong, and names can be read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fgclip_det.apis import Detections, draw_detections
from fgclip_det.apis.drawing.signs import signs_of
from fgclip_det.apis.drawing.visualization import draw_boxes, shortened
from tests.messages import says


def _detections(width: int, height: int, names: list[str], boxes: list[list[float]]) -> Detections:
    return Detections(
        names=names,
        boxes=torch.tensor(boxes).reshape(-1, 4),
        scores=torch.linspace(0.9, 0.5, len(names)),
        labels=torch.arange(len(names)),
        vocabulary=names,
        width=width,
        height=height,
    )


def test_nothing_found_leaves_a_large_picture_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    before = image.copy()
    drawn = draw_detections(image, _detections(640, 480, [], []))
    assert np.array_equal(np.asarray(drawn), image)
    assert np.array_equal(image, before)


def test_draws_the_edges_of_a_box() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    found = _detections(640, 480, ["cup"], [[100, 200, 300, 400]])
    drawn = np.asarray(draw_detections(image, found)).sum(axis=2) > 0
    assert drawn[300, 100] and drawn[300, 300] and drawn[400, 200]
    assert not drawn[300, 200]
    assert not drawn[300, 330:].any() and not drawn[410:].any()


def test_enlarges_small_pictures_with_their_boxes() -> None:
    image = np.zeros((64, 128, 3), np.uint8)
    drawn = draw_detections(image, _detections(128, 64, ["cup"], [[32, 20, 96, 60]]))
    assert drawn.size == (640, 320)
    assert np.asarray(drawn)[200, 160].any()
    assert not np.asarray(drawn)[200, 320].any()


def test_a_name_keeps_its_color() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    box = [100.0, 200.0, 300.0, 400.0]
    alone = draw_detections(image, _detections(640, 480, ["cup"], [box]))
    far = [500.0, 20.0, 600.0, 100.0]
    beside = draw_detections(image, _detections(640, 480, ["plate", "cup"], [far, box]))
    assert alone.getpixel((100, 300)) == beside.getpixel((100, 300)) != (0, 0, 0)
    assert beside.getpixel((500, 60)) != beside.getpixel((100, 300))


def test_the_best_is_on_top() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    box = [100.0, 200.0, 300.0, 400.0]
    alone = draw_detections(image, _detections(640, 480, ["cup"], [box]))
    both = draw_detections(image, _detections(640, 480, ["cup", "plate"], [box, box]))
    assert both.getpixel((100, 300)) == alone.getpixel((100, 300))


@pytest.mark.parametrize("size", [(1, 1), (20_000, 10), (10, 3000)])
def test_draws_on_extreme_sizes(size: tuple[int, int]) -> None:
    width, height = size
    names = ["a cup", "红色的圆", "x" * 2000, "{}\N{FIRE}"]
    boxes = [[0.0, 0.0, float(width), float(height)]] * len(names)
    image = np.zeros((height, width, 3), np.uint8)
    drawn = draw_detections(image, _detections(width, height, names, boxes))
    assert drawn.size[0] * height == drawn.size[1] * width


def test_one_label_does_not_cover_a_long_picture() -> None:
    image = np.zeros((10, 20_000, 3), np.uint8)
    drawn = draw_detections(image, _detections(20_000, 10, ["cup"], [[0, 0, 50, 10]]))
    assert not np.asarray(drawn)[:, 200:].any()


def test_long_names_are_cut() -> None:
    assert shortened("red mug") == "red mug"
    assert shortened("red " * 100) == "red " * 9 + "r..."


def test_boxes_are_drawn_in_order() -> None:
    canvas = Image.new("RGB", (40, 30))
    draw_boxes(canvas, [[5, 5, 20, 20], [5, 5, 30, 25]], ["red", (0, 0, 255)], 2)
    assert canvas.getpixel((5, 10)) == canvas.getpixel((6, 6)) == (0, 0, 255)
    assert canvas.getpixel((20, 10)) == canvas.getpixel((19, 12)) == (255, 0, 0)
    assert canvas.getpixel((10, 10)) == canvas.getpixel((35, 28)) == (0, 0, 0)


def test_labels_off_and_short() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    found = _detections(640, 480, ["cup"], [[100, 200, 300, 400]])
    off, short, full = (
        np.asarray(draw_detections(image, found, labels)).any(axis=2).sum()
        for labels in ("off", "short", "full")
    )
    assert off < short < full
    with pytest.raises(ValueError, match=says("'some'", '"short"')):
        draw_detections(image, found, "some")


def test_ids_are_shown_where_they_are_known() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    found = _detections(640, 480, ["cup"], [[100, 200, 300, 400]])
    plain = draw_detections(image, found)
    with_id = draw_detections(image, replace(found, ids=torch.tensor([7])))
    without = draw_detections(image, replace(found, ids=torch.tensor([-1])))
    assert plain.tobytes() == without.tobytes() != with_id.tobytes()


def test_masks_are_filled_in_the_color_of_the_name() -> None:
    image = np.full((480, 640, 3), 100, np.uint8)
    masks = torch.zeros(1, 480, 640, dtype=torch.bool)
    masks[0, 220:380, 120:280] = True
    found = _detections(640, 480, ["cup"], [[100, 200, 300, 400]])
    drawn = np.asarray(draw_detections(image, replace(found, masks=masks), "off"))
    color = np.array(signs_of(["cup"])["cup"].color)
    assert np.array_equal(drawn[220, 200], color)
    assert np.abs(drawn[300, 200] - (0.55 * 100 + 0.45 * color)).max() <= 1
    assert (drawn[210, 200] == 100).all()


def test_crowds_are_told_of() -> None:
    """Labels that have no room are counted in a line at the bottom."""
    image = np.full((480, 640, 3), 200, np.uint8)
    names = [f"a long name of number {number}" for number in range(300)]
    found = _detections(640, 480, names, [[300, 200, 330, 230]] * 300)
    drawn = np.asarray(draw_detections(image, found))
    assert (drawn[-1, :150] == 0).all()
    few = draw_detections(image, _detections(640, 480, names[:3], [[300, 200, 330, 230]] * 3))
    assert (np.asarray(few)[-1] == 200).all()


def test_odd_names_do_no_harm() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    names = ["two\nlines", "\x1b[31mred", "\u202eturned", "\ud800", " ", "a" * 200]
    draw_detections(image, _detections(640, 480, names, [[10, 10, 200, 200]] * len(names)))
