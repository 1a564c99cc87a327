"""Queries of Shapes: what is there, what is nowhere in the picture, and what nearly is there."""

from __future__ import annotations

from typing import Any

import numpy as np

from fgclip_det.datasets.prepare.prepared_files import PreparedFile
from fgclip_det.datasets.shapes.captions import attribute_swaps, region_caption
from fgclip_det.datasets.shapes.render import COLORS, PATTERNS, SHAPES, Composition

_ATTRIBUTES = ("color", "pattern", "shape")
_ALL = [Composition(c, p, s) for c in COLORS for p in PATTERNS for s in SHAPES]
# No stream of the pictures' own begins so.
_STREAM = 20


def presence_file(coco: dict[str, Any], split: str, seed: int = 0) -> PreparedFile:
    """The queries of a split.

    For each object three: itself (``present``), a composition that differs from it in one
    attribute (``near_miss``, with the attribute as ``differs``), and one that differs from every
    object of the picture in two attributes or all three (``absent``). Neither of the latter is
    anywhere in the picture, and no phrase is asked twice of one.

    Args:
        coco: COCO detection JSON of Shapes, with names such as "red striped circle".
        split: Name of the split.
        seed: Of what is drawn.

    Returns:
        ``images`` of the COCO file and ``queries``: ``id``, ``image_id``, ``text``, ``kind`` and
        ``bboxes``, xywh in pixels of the picture.
    """
    compositions = {c["id"]: Composition(*c["name"].split()) for c in coco["categories"]}
    objects: dict[int, dict[Composition, list[list[float]]]] = {i["id"]: {} for i in coco["images"]}
    for annotation in coco["annotations"]:
        own = objects[annotation["image_id"]]
        own.setdefault(compositions[annotation["category_id"]], []).append(annotation["bbox"])
    queries: list[dict[str, Any]] = []
    for image, present in objects.items():
        rng = np.random.default_rng([seed, _STREAM, *split.encode(), image])
        for query in _queries(rng, present):
            queries.append({"id": len(queries) + 1, "image_id": image, **query})
    return PreparedFile(
        f"{split}_presence.json",
        lists={"images": coco["images"], "queries": queries},
        summary=f"{len(queries)} queries of {split}",
    )


def _queries(
    rng: np.random.Generator, present: dict[Composition, list[list[float]]]
) -> list[dict[str, Any]]:
    queries = [_query("present", one, boxes) for one, boxes in present.items()]
    asked = set(present)
    for one in present:
        swaps = [swap for swap in attribute_swaps(one) if swap not in asked]
        swap = swaps[rng.integers(len(swaps))]
        asked.add(swap)
        (differs,) = (name for name in _ATTRIBUTES if getattr(one, name) != getattr(swap, name))
        queries.append({**_query("near_miss", swap), "differs": differs})
    far = [one for one in _ALL if all(_distance(one, other) > 1 for other in present)]
    queries += [_query("absent", far[i]) for i in rng.permutation(len(far))[: len(present)]]
    return queries


def _query(kind: str, one: Composition, boxes: list[list[float]] | None = None) -> dict[str, Any]:
    return {"text": region_caption(one), "kind": kind, "bboxes": boxes or []}


def _distance(one: Composition, other: Composition) -> int:
    return sum(getattr(one, name) != getattr(other, name) for name in _ATTRIBUTES)
