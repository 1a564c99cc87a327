"""Shapes in FG-OVD's subsets: the same boxes, with negatives of rising ease.

As in the real files, the negatives of a box are captions with one, two or three attributes swapped
(hard, medium, easy), captions of other boxes (trivial), or captions with a certain attribute
swapped. Files bear the official names.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fgclip_det.datasets.prepared_files import PreparedFile
from fgclip_det.datasets.shapes_captions import NUM_NEGATIVES, region_caption
from fgclip_det.datasets.shapes_render import COLORS, PATTERNS, SHAPES, Composition

_VALUES = {"color": tuple(COLORS), "pattern": PATTERNS, "shape": SHAPES}
SUBSETS = ("1_attributes", "2_attributes", "3_attributes", "shuffle_negatives", "color", "pattern")
# Tells the random streams of the splits from each other and from those of the pictures.
_STREAMS = {"val": 5, "pretrain_val": 6, "train": 7}

Draw = Callable[[np.random.Generator, Composition], list[str]]
Allowed = Callable[[Composition], bool]


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


def _swapped(choices: Iterable[Iterable[str]], allowed: Allowed) -> Draw:
    """Negatives with the attributes of one of the choices swapped."""
    choices = [tuple(attributes) for attributes in choices]

    def draw(rng: np.random.Generator, composition: Composition) -> list[str]:
        found = [
            swap
            for attributes in choices
            for swap in swaps(composition, attributes)
            if allowed(swap)
        ]
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
        (annotation, Composition(*known[annotation["category_id"]].split()))
        for annotation in coco["annotations"]
    ]
    draws: dict[str, Draw] = {
        **{
            f"{number}_attributes": _swapped(itertools.combinations(_VALUES, number), allowed)
            for number in (1, 2, 3)
        },
        "shuffle_negatives": _of_other_boxes([region_caption(c) for _, c in owned]),
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
