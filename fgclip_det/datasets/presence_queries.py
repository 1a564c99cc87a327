"""Queries of pictures: is this phrase there, and where? `tools/prepare_shapes.py` writes some."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fgclip_det.datasets.annotation_files import check_images
from fgclip_det.io import is_id, quoted, read_json

# Things that are there, ones that differ from such a thing in one attribute, and others.
KINDS = ("present", "near_miss", "absent")


@dataclass(frozen=True, eq=False)
class Query:
    """A phrase that is asked of a picture.

    Attributes:
        text: The phrase.
        kind: One of `KINDS`.
        boxes: (T, 4) float32, xyxy, in pixels of the picture as stored: where it is; none unless
            it is present.
        differs: The attribute that a near miss differs in, where the file tells it.
    """

    text: str
    kind: str
    boxes: np.ndarray
    differs: str | None = None


@dataclass(frozen=True)
class AskedPicture:
    """A picture and what is asked of it.

    Attributes:
        path: Its file.
        queries: In the order of the file.
    """

    path: Path
    queries: tuple[Query, ...]


def read_queries(path: str | os.PathLike, image_root: str | os.PathLike) -> list[AskedPicture]:
    """Read a file of queries.

    Args:
        path: JSON with ``images`` as of COCO, and ``queries`` with ``image_id``, ``text``, ``kind``
            and ``bboxes`` (xywh in pixels), perhaps ``differs``.
        image_root: Folder that its file names are relative to.

    Returns:
        The pictures of which something is asked.

    Raises:
        ValueError: The file cannot be read or used, or asks nothing.
    """
    source = f"file of queries {str(path)!r}"
    content = read_json(path, "file of queries", max_bytes=None)
    lists = [content.get(key) if isinstance(content, Mapping) else None for key in _LISTS]
    if not all(isinstance(one, list) and all(isinstance(e, Mapping) for e in one) for one in lists):
        raise ValueError(
            f"{source} has no lists of objects {' and '.join(map(repr, _LISTS))}: make it with "
            "tools/prepare_shapes.py, or see docs/presence.md"
        )
    images, queries = lists
    ids = [image.get("id") for image in images]
    if not all(map(is_id, ids)) or len(set(ids)) < len(ids):
        raise ValueError(f"{source} has images without an id of their own: number them")
    check_images(source, images, sized=False)
    asked: dict[Any, list[Query]] = {identity: [] for identity in ids}
    for number, entry in enumerate(queries, start=1):
        where = f"{source}: query {number}"
        if not is_id(entry.get("image_id")) or entry["image_id"] not in asked:
            raise ValueError(f"{where} is of image {quoted(entry.get('image_id'))}, which is none")
        asked[entry["image_id"]].append(_query(where, entry))
    if not queries:
        raise ValueError(f"{source} asks nothing: its 'queries' are empty")
    return [
        AskedPicture(Path(image_root, image["file_name"]), tuple(asked[image["id"]]))
        for image in images
        if asked[image["id"]]
    ]


_LISTS = ("images", "queries")
# No picture is as wide, and float32 holds pixels up to here.
_FAR = 2**24


def _query(where: str, entry: Mapping[str, Any]) -> Query:
    text, kind, differs = (entry.get(key) for key in ("text", "kind", "differs"))
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{where} has the text {quoted(text)}: give a phrase")
    if kind not in KINDS:
        raise ValueError(f"{where} is of the kind {quoted(kind)}: choose from {', '.join(KINDS)}")
    given = entry.get("bboxes", [])
    if not isinstance(given, list) or not all(map(_is_box, given)):
        raise ValueError(f"{where} has the bboxes {quoted(given)}: give [x, y, width, height] each")
    boxes = np.array(given, dtype=np.float32).reshape(-1, 4)
    if (kind == "present") != bool(len(boxes)):
        raise ValueError(
            f"{where} is {kind} and has {len(boxes)} bboxes: what is present has some, all else "
            "has none"
        )
    boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    differs = " ".join(differs.split()) if isinstance(differs, str) else None
    return Query(text, kind, boxes, differs)


def _is_box(box: Any) -> bool:
    """Whether it is four numbers that a float32 holds, the last two above 0."""
    numbers = isinstance(box, list) and len(box) == 4 and all(type(n) in (int, float) for n in box)
    return numbers and all(abs(n) < _FAR for n in box) and min(box[2:]) > 0
