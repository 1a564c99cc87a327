"""Shapes in FG-OVD's subsets: the same boxes, with negatives of rising ease.

As in the real files, the negatives of a box are captions with one, two or three attributes swapped
(hard, medium, easy), captions of other boxes (trivial), or captions with a certain attribute
swapped. Files bear the official names.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fgclip_det.datasets.shapes_captions import NUM_NEGATIVES, region_caption
from fgclip_det.datasets.shapes_render import COLORS, PATTERNS, SHAPES, Composition

_VALUES = {"color": tuple(COLORS), "pattern": PATTERNS, "shape": SHAPES}
# Tells this random stream from those of the pictures.
_STREAM = 5

Draw = Callable[[np.random.Generator, Composition], list[str]]


def swaps(composition: Composition, attributes: Iterable[str]) -> list[Composition]:
    """All compositions that differ in each of some attributes, and in no other."""
    chosen = tuple(attributes)
    others = [
        [value for value in _VALUES[name] if value != getattr(composition, name)] for name in chosen
    ]
    return [
        replace(composition, **dict(zip(chosen, values, strict=True)))
        for values in itertools.product(*others)
    ]


def _swapped(number: int) -> Draw:
    """Negatives with so many attributes swapped."""

    def draw(rng: np.random.Generator, composition: Composition) -> list[str]:
        found = [
            swap
            for attributes in itertools.combinations(_VALUES, number)
            for swap in swaps(composition, attributes)
        ]
        return [region_caption(found[i]) for i in rng.permutation(len(found))[:NUM_NEGATIVES]]

    return draw


def _one_attribute(name: str) -> Draw:
    """Negatives with this attribute swapped, as many as it has other values."""

    def draw(rng: np.random.Generator, composition: Composition) -> list[str]:
        found = swaps(composition, (name,))
        return [region_caption(found[i]) for i in rng.permutation(len(found))[:NUM_NEGATIVES]]

    return draw


def _of_other_boxes(captions: list[str]) -> Draw:
    """Negatives that are captions of other boxes of the file."""

    def draw(rng: np.random.Generator, composition: Composition) -> list[str]:
        own = region_caption(composition)
        order = (captions[i] for i in rng.permutation(len(captions)))
        others = dict.fromkeys(caption for caption in order if caption != own)
        return list(others)[:NUM_NEGATIVES]

    return draw


def subsets(coco: dict[str, Any], folder: str, seed: int = 0) -> dict[str, dict[str, Any]]:
    """FG-OVD files of a split.

    Args:
        coco: COCO annotations of the split, as `shapes.generate` writes them.
        folder: Of its pictures, put before each ``file_name``.
        seed: Of the negatives.

    Returns:
        By subset (``1_attributes``, ``2_attributes``, ``3_attributes``, ``shuffle_negatives``,
        ``color``, ``pattern``) its content. Every caption of every annotation is a category.
    """
    names = {category["id"]: category["name"] for category in coco["categories"]}
    owned = [
        (annotation, Composition(*names[annotation["category_id"]].split()))
        for annotation in coco["annotations"]
    ]
    draws: dict[str, Draw] = {
        **{f"{number}_attributes": _swapped(number) for number in (1, 2, 3)},
        "shuffle_negatives": _of_other_boxes([region_caption(c) for _, c in owned]),
        "color": _one_attribute("color"),
        "pattern": _one_attribute("pattern"),
    }
    images = [{**image, "file_name": f"{folder}/{image['file_name']}"} for image in coco["images"]]
    return {
        subset: {"images": images, **_annotations(owned, draw, [seed, _STREAM, index])}
        for index, (subset, draw) in enumerate(draws.items())
    }


def _annotations(
    owned: list[tuple[dict[str, Any], Composition]], draw: Draw, seeds: list[int]
) -> dict[str, Any]:
    rng = np.random.default_rng(seeds)
    annotations: list[dict[str, Any]] = []
    categories: list[dict[str, Any]] = []
    for annotation, composition in owned:
        first = len(categories) + 1
        captions = [region_caption(composition), *draw(rng, composition)]
        categories += [{"id": first + i, "name": text} for i, text in enumerate(captions)]
        annotations.append(
            {
                **{key: annotation[key] for key in ("id", "image_id", "bbox", "area")},
                "category_id": first,
                "neg_category_ids": list(range(first + 1, first + len(captions))),
            }
        )
    return {"annotations": annotations, "categories": categories}


def write_subsets(root: str | Path, split: str = "val", seed: int = 0) -> list[Path]:
    """Write ``fg_ovd/<subset>.json`` below the folder of Shapes, from ``annotations/<split>.json``.

    Args:
        root: Folder that `shapes.generate` wrote.
        split: "val"; another split's files are ``fg_ovd/<split>_<subset>.json``.
        seed: Of the negatives.

    Returns:
        The paths written.

    Raises:
        OSError: The annotations are missing, or a file cannot be written.
    """
    root = Path(root)
    coco = json.loads((root / "annotations" / f"{split}.json").read_text(encoding="utf-8"))
    folder = root / "fg_ovd"
    folder.mkdir(exist_ok=True)
    prefix = "" if split == "val" else f"{split}_"
    paths = []
    for subset, content in subsets(coco, split, seed).items():
        path = folder / f"{prefix}{subset}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(content), encoding="utf-8")
        partial.replace(path)
        paths.append(path)
    return paths
