"""Shapes in FG-OVD's subsets: the same boxes, with negatives of rising ease.

A caption tells size, colour, pattern and shape. As in the real files, the negatives of a box have
one, two or three of these swapped (hard, medium, easy), or a certain one, or they are captions of
other objects (trivial). Files bear the official names.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, replace
from typing import Any

import numpy as np

from fgclip_det.datasets.prepare.prepared_files import PreparedFile
from fgclip_det.datasets.shapes.captions import NUM_NEGATIVES, SIZES, Description, describe
from fgclip_det.datasets.shapes.render import COLORS, PATTERNS, SHAPES, Composition

ATTRIBUTES = {"size": SIZES, "color": tuple(COLORS), "pattern": PATTERNS, "shape": SHAPES}
SUBSETS = ("1_attributes", "2_attributes", "3_attributes", "shuffle_negatives", "color", "pattern")
# Tells the random streams of the splits from each other and from those of the pictures.
_STREAMS = {"val": 5, "pretrain_val": 6, "train": 7}

Draw = Callable[[np.random.Generator, Description], list[str]]
Allowed = Callable[[Composition], bool]


def swaps(described: Description, attributes: Iterable[str]) -> list[Description]:
    """All descriptions that differ in each of some of `ATTRIBUTES`, and in no other."""
    chosen = tuple(attributes)
    others = [
        [value for value in ATTRIBUTES[name] if value != getattr(described, name)]
        for name in chosen
    ]
    return [
        replace(described, **dict(zip(chosen, values, strict=True)))
        for values in itertools.product(*others)
    ]


def _swapped(choices: Iterable[Iterable[str]], allowed: Allowed) -> Draw:
    """Negatives with the attributes of one of the choices swapped."""
    choices = [tuple(attributes) for attributes in choices]

    def draw(rng: np.random.Generator, described: Description) -> list[str]:
        found = [
            swap
            for attributes in choices
            for swap in swaps(described, attributes)
            if allowed(swap.composition)
        ]
        return [found[i].caption for i in rng.permutation(len(found))[:NUM_NEGATIVES]]

    return draw


def _of_other_boxes(boxes: Sequence[Description]) -> Draw:
    """Negatives that are captions of other boxes of the file, of another colour, pattern and shape.

    Two objects of the real files hardly ever have as much in common as two of Shapes. Sizes are
    free: were they to differ too, a rare one would give a wrong caption away.
    """

    def draw(rng: np.random.Generator, described: Description) -> list[str]:
        own = astuple(described.composition)
        captions: dict[str, None] = {}
        for index in rng.permutation(len(boxes)):
            words = astuple(boxes[index].composition)
            if all(a != b for a, b in zip(own, words, strict=True)):
                captions[boxes[index].caption] = None
        return list(captions)[:NUM_NEGATIVES]

    return draw


def subsets(
    coco: dict[str, Any],
    split: str,
    seed: int = 0,
    names: Sequence[str] = SUBSETS,
    allowed: Allowed = lambda composition: True,
) -> dict[str, dict[str, Any]]:
    """FG-OVD files of a split.

    Args:
        coco: COCO annotations of the split, as `shapes.generate` writes them.
        split: Its name: the folder of its pictures, put before each ``file_name``.
        seed: Of the negatives.
        names: Of `SUBSETS`.
        allowed: Which compositions may be swapped in.

    Returns:
        By subset its content. Every caption of every annotation is a category.
    """
    known = {category["id"]: category["name"] for category in coco["categories"]}
    owned = [
        (
            one,
            # Of the sides as they stand in the file: corners would be rounded again.
            describe(Composition(*known[one["category_id"]].split()), max(one["bbox"][2:])),
        )
        for one in coco["annotations"]
    ]
    draws: dict[str, Draw] = {
        **{
            f"{number}_attributes": _swapped(itertools.combinations(ATTRIBUTES, number), allowed)
            for number in (1, 2, 3)
        },
        "shuffle_negatives": _of_other_boxes([described for _, described in owned]),
        "color": _swapped([("color",)], allowed),
        "pattern": _swapped([("pattern",)], allowed),
    }
    images = [{**image, "file_name": f"{split}/{image['file_name']}"} for image in coco["images"]]
    return {
        name: {
            "images": images,
            **_annotations(owned, draws[name], [seed, _STREAMS[split], SUBSETS.index(name)]),
        }
        for name in names
    }


def _annotations(
    owned: list[tuple[dict[str, Any], Description]], draw: Draw, seeds: list[int]
) -> dict[str, Any]:
    rng = np.random.default_rng(seeds)
    annotations: list[dict[str, Any]] = []
    categories: list[dict[str, Any]] = []
    for annotation, described in owned:
        first = len(categories) + 1
        captions = [described.caption, *draw(rng, described)]
        categories += [{"id": first + i, "name": text} for i, text in enumerate(captions)]
        annotations.append(
            {
                **{key: annotation[key] for key in ("id", "image_id", "bbox", "area")},
                "category_id": first,
                "neg_category_ids": list(range(first + 1, first + len(captions))),
            }
        )
    return {"annotations": annotations, "categories": categories}


def fg_ovd_files(
    coco: dict[str, Any], split: str, is_base: Allowed, seed: int = 0
) -> tuple[str, list[PreparedFile]]:
    """The files that are made of a split, and the folder that they belong to.

    * ``val``: ``<subset>.json``, the benchmark.
    * ``pretrain_val``: ``validation/<subset>.json``, for the text-only row.
    * ``train``: ``train_1_attributes.json``, to train on. No composition but base ones is swapped
      in, so that a detector meets no novel one, not even as a wrong caption.

    Args:
        coco: See `subsets`.
        split: One of these three.
        is_base: Whether a detector is trained on a composition.
        seed: Of the negatives.
    """
    if split == "train":
        made = subsets(coco, split, seed, ("1_attributes",), is_base)
    else:
        made = subsets(coco, split, seed)
    prefix = "train_" if split == "train" else ""
    files = [
        PreparedFile(f"{prefix}{name}.json", lists=content, summary=f"{split} as FG-OVD's {name}")
        for name, content in made.items()
    ]
    return "validation" if split == "pretrain_val" else "", files
