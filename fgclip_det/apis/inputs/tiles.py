"""Large pictures in overlapping tiles: where these lie, and one list of regions out of all.

The rule, of which no word is part, so that regions stay for any question:

1. The picture as a whole and each tile are proposed for; boxes move into the picture's pixels. The
   whole picture is there for what is larger than the overlap, which no tile need hold entire.
2. A box with a side on an inner border of its tile is *cut*. It is dropped where it is what that
   tile shows of a box of another tile or of the whole picture (IoU above 0.4 with the other's part
   in the tile), itself not cut, which goes beyond that border, and is about as sure. To lie inside
   another is not enough: a large box of the whole picture holds all that is small in it. Of what
   no view holds entire, the part of each tile stays.
3. A box that another tile shows more whole, farther from that tile's inner borders, is dropped
   where that tile has a box of the same (IoU above 0.5); so is one of the whole picture where a
   tile holds it. So an object has the boxes, and the embeddings, of the tile in which it lies
   most whole. Boxes of one view never suppress each other here: those of one object may differ in
   embedding, and which fits is known only once words are there.
"""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fgclip_det.compat import box_iou
from fgclip_det.models.regions.regions import Regions

SMALLEST_TILE = 32
# Sides this near to a border of a tile are on it; detectors seldom meet it to the pixel.
_ON_BORDER = 0.04
_PART = 0.4
_AS_SURE = 0.5
_SAME = 0.5
# Rows of a matrix of overlaps that exist at a time.
_ROWS = 256


class Window(NamedTuple):
    """A part of a picture, in its pixels."""

    left: int
    top: int
    right: int
    bottom: int


class Tiling(NamedTuple):
    """What `check_tiling` has found right."""

    tile: int | None = None
    overlap: float = 0.2


def check_tiling(tile: Any, overlap: Any) -> Tiling:
    """Refuse tiles that are none.

    Raises:
        ValueError: `tile` is neither None nor a whole number from `SMALLEST_TILE`, or `overlap` is
            no number in [0, 1).
    """
    is_number = isinstance(overlap, numbers.Real) and not isinstance(overlap, bool)
    if not (is_number and 0 <= overlap < 1):
        raise ValueError(
            f"overlap is {overlap!r}: it must be from 0 to below 1, the share of a tile that the "
            "next one covers too, such as 0.2"
        )
    if tile is None:
        return Tiling(None, overlap)
    is_whole = isinstance(tile, numbers.Integral) and not isinstance(tile, bool)
    if not (is_whole and tile >= SMALLEST_TILE):
        raise ValueError(
            f"tile is {tile!r}: it must be a whole number of pixels, {SMALLEST_TILE} or more, such "
            "as 1024"
        )
    return Tiling(int(tile), float(overlap))


def tile_windows(width: int, height: int, tiling: Tiling) -> list[Window]:
    """Where tiles lie, row by row; none where the picture fits into one.

    All are of one size, the last of a row or column ending with the picture; a side that is
    shorter than a tile has one.

    Args:
        width: Of the picture, in pixels.
        height: Likewise.
        tiling: Side of a tile, None for no tiles, and least share that the next one covers too.
    """
    tile, overlap = tiling
    if tile is None or max(width, height) <= tile:
        return []
    return [
        Window(left, top, min(left + tile, width), min(top + tile, height))
        for top in _starts(height, tile, overlap)
        for left in _starts(width, tile, overlap)
    ]


def _starts(side: int, tile: int, overlap: float) -> list[int]:
    step = max(1, math.floor(tile * (1 - overlap) + 1e-9))
    count = 1 + max(0, -(-(side - tile) // step))
    return [max(0, min(number * step, side - tile)) for number in range(count)]


def in_picture(regions: Regions, window: Window) -> Regions:
    """Regions of a window, in pixels of the whole picture, those of no area left out.

    Args:
        regions: As proposed for the window's pixels, perhaps resized and padded.
        window: Where it lies.
    """
    # In float64: far from the corner a float32 has few digits left for parts of a pixel.
    scale = torch.tensor(regions.image_meta.get("scale_factor", (1.0, 1.0))[:2]).double()
    boxes = regions.boxes.double() / scale.repeat(2).to(regions.boxes.device)
    size = boxes.new_tensor([window.right - window.left, window.bottom - window.top]).repeat(2)
    boxes = torch.minimum(boxes.clamp(min=0), size)
    boxes = (boxes + boxes.new_tensor([window.left, window.top]).repeat(2)).float()
    inside = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return replace(regions, boxes=boxes)[inside]


def cut_out(pixels: np.ndarray, window: Window) -> np.ndarray:
    """A window's part of (H, W, 3) pixels; not a copy."""
    return pixels[window.top : window.bottom, window.left : window.right]


def join(
    whole: Regions,
    tiles: Iterable[Regions],
    windows: Sequence[Window],
    size: tuple[int, int],
    tiling: Tiling,
) -> Regions:
    """One list of regions out of those of all views; the module tells the rule.

    Args:
        whole: As proposed for the picture as a whole.
        tiles: As proposed for each tile, in order; read one by one.
        windows: Where tiles lie.
        size: Height and width of the picture in pixels.
        tiling: How tiles were made.

    Returns:
        In pixels of the picture, by view. ``image_meta`` has its size, and under ``tiling`` what
        tells them from regions without tiles: its settings and the number of views.
    """
    windows = [Window(0, 0, size[1], size[0]), *windows]
    views = [in_picture(*own) for own in zip(itertools.chain([whole], tiles), windows, strict=True)]
    return _joined(views, windows, tiling)


def _joined(views: Sequence[Regions], windows: Sequence[Window], tiling: Tiling) -> Regions:
    whole = windows[0]
    view = torch.cat([torch.full((len(own),), n) for n, own in enumerate(views)])
    boxes = torch.cat([own.boxes for own in views])
    sure = torch.cat([own.objectness for own in views])
    view = view.to(boxes.device)
    places = boxes.new_tensor([list(window) for window in windows])
    outer = _outside(boxes, places[view], boxes.new_tensor(list(whole)))
    dropped = _parts(boxes, sure, view, places, outer)
    dropped |= _shown_better(boxes, view, places, boxes.new_tensor(list(whole)))
    kept = (~dropped).nonzero().squeeze(1)
    found = _concatenated(views)[kept]
    shape = (whole.bottom, whole.right)
    found.image_meta = {
        "img_shape": shape,
        "ori_shape": shape,
        "scale_factor": (1.0, 1.0),
        "tiling": {**tiling._asdict(), "views": len(views)},
    }
    return found


def _concatenated(views: Sequence[Regions]) -> Regions:
    tensors = {
        name: torch.cat([getattr(own, name) for own in views])
        for name, value in vars(views[0]).items()
        if torch.is_tensor(value)
    }
    return replace(views[0], **tensors)


def _outside(boxes: Tensor, places: Tensor, whole: Tensor) -> Tensor:
    """(K, 4) bool: sides that lie on an inner border of their window."""
    near = _ON_BORDER * (places[:, 2:] - places[:, :2]).amin(dim=1, keepdim=True)
    return ((boxes - places).abs() <= near) & ((places - whole).abs() > 0)


def _parts(boxes: Tensor, sure: Tensor, view: Tensor, places: Tensor, outer: Tensor) -> Tensor:
    """(K,) bool: cut boxes that are what their tile shows of an entire one of another view."""
    dropped = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    entire = (~outer.any(dim=1)).nonzero().squeeze(1)
    # Towards a border that cuts it, an entire box goes on.
    signs = boxes.new_tensor([-1, -1, 1, 1])
    for rows in _chunks(outer.any(dim=1).nonzero().squeeze(1)):
        own, tile = boxes[rows, None], places[view[rows], None]
        near = entire[_touching(boxes[entire], own[..., :2].amin(0), own[..., 2:].amax(0))]
        other = boxes[None, near]
        shown = _intersection(other, tile)
        shared = _area(_intersection(own, shown))
        is_part = shared > _PART * (_area(own) + _area(shown) - shared)
        is_part &= (((other - own) * signs > 0) & outer[rows, None]).any(dim=2)
        is_part &= view[None, near] != view[rows, None]
        is_part &= sure[None, near] >= _AS_SURE * sure[rows, None]
        dropped[rows] = is_part.any(dim=1)
    return dropped


def _intersection(boxes: Tensor, others: Tensor) -> Tensor:
    """What both hold, (..., 4); where that is nothing, of no area by `_area`."""
    corners = torch.maximum(boxes[..., :2], others[..., :2])
    return torch.cat([corners, torch.minimum(boxes[..., 2:], others[..., 2:])], dim=-1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def _chunks(rows: Tensor) -> Sequence[Tensor]:
    return rows.split(_ROWS) if len(rows) else ()


def _touching(boxes: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return ((boxes[:, :2] < high) & (boxes[:, 2:] > low)).all(dim=1)


def _shown_better(boxes: Tensor, view: Tensor, places: Tensor, whole: Tensor) -> Tensor:
    """(K,) bool: boxes that the tile where they lie most whole has too."""
    dropped = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    signs = boxes.new_tensor([1, 1, -1, -1])
    # Sides of the picture's own cut nothing, wherever a box lies beside them.
    far = torch.where(places == whole, -signs * 2 * whole.amax(), places)
    for rows in _chunks(torch.arange(len(boxes), device=boxes.device)):
        own = boxes[rows]
        room = ((own[:, None] - far[None]) * signs).amin(dim=2)
        # The whole picture's, which comes first, where it lies in no tile.
        room[:, 0] = 0
        best = room.argmax(dim=1)
        near = _touching(boxes, own[:, :2].amin(dim=0), own[:, 2:].amax(dim=0)).nonzero().squeeze(1)
        same = (box_iou(own, boxes[near]) > _SAME) & (view[near][None] == best[:, None])
        dropped[rows] = (best != view[rows]) & same.any(dim=1)
    return dropped
