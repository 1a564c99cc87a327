"""Pictures as the network takes them, and those that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from fgclip_det.apis.inputs.picture_lists import Picture, limit_aspect, name_of, to_pixels
from fgclip_det.apis.inputs.tiles import Tiling, Window, tile_windows

Failures = list[tuple[str, str]]


class Input(NamedTuple):
    """A picture on its way through the network.

    Attributes:
        place: Its place among the pictures of a call.
        data: What the pipeline made of it.
        size: Its height and width in pixels.
        path: Its file, or None where it was given as pixels.
        pixels: (H, W, 3) uint8, RGB, where they are kept, or tiles are cut out of them.
        windows: Its tiles; none of a picture that fits into one.
    """

    place: int
    data: dict
    size: tuple[int, int]
    path: str | None
    pixels: np.ndarray | None
    windows: list[Window]


def load(
    batch: Iterable[tuple[int, Picture]],
    pipeline: Callable[[dict], dict],
    failures: Failures | None,
    tiling: Tiling,
    keep_pixels: bool,
) -> Iterator[Input]:
    """Read pictures and prepare them as a whole.

    Args:
        batch: Places and pictures.
        pipeline: See `prepared`.
        failures: Where those go that cannot be read; None to raise.
        tiling: Which pictures are also looked at in tiles.
        keep_pixels: Whether all keep their pixels.

    Raises:
        ValueError: A picture cannot be read.
    """
    for place, picture in batch:
        path = name_of(picture)
        where = f"picture {path!r}" if path else "a picture"
        try:
            rgb = to_pixels(picture)
            data = prepared(rgb, path, pipeline)
        except (ValueError, MemoryError) as error:
            reason = str(error)
            if isinstance(error, MemoryError):
                reason = f"{where} does not fit into memory: make it smaller"
            if failures is None:
                raise ValueError(reason) from error
            failures.append((path or "<pixels>", reason))
            continue
        height, width = rgb.shape[:2]
        windows = tile_windows(width, height, tiling)
        kept = rgb if keep_pixels or windows else None
        yield Input(place, data, (height, width), path, kept, windows)


def prepared(rgb: np.ndarray, path: str | None, pipeline: Callable[[dict], dict]) -> dict:
    """What a pipeline makes of (H, W, 3) uint8 RGB pixels; of very long ones padded.

    Args:
        rgb: The pixels.
        path: Their file, if any.
        pipeline: Transforms of a picture that is loaded, from a detector's config.

    Raises:
        ValueError: It would grow beyond what is padded.
    """
    where = f"picture {path!r}" if path else "a picture"
    bgr = np.ascontiguousarray(limit_aspect(rgb, where)[..., ::-1])
    shape = bgr.shape[:2]
    return pipeline(
        {"img": bgr, "img_shape": shape, "ori_shape": shape, "img_id": 0, "img_path": path}
    )
