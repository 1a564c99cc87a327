"""Words of Shapes: class names, captions of regions and pictures, and hard negatives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from fgclip_det.datasets.shapes.render import (
    COLORS,
    IMAGE_SIZE,
    PATTERNS,
    SHAPES,
    Composition,
    PlacedObject,
    Scene,
)

NUM_NEGATIVES = 10
SIZES = ("small", "medium", "large")
_COUNTS = ("no", "one", "two", "three", "four")


def region_caption(composition: Composition) -> str:
    """Caption of one object, such as ``"a red striped circle"``."""
    return f"a {composition.name}"


@dataclass(frozen=True)
class Description:
    """The content of a detailed caption of an object: one of `SIZES`, and its composition."""

    size: str
    color: str
    pattern: str
    shape: str

    @property
    def composition(self) -> Composition:
        """Its class."""
        return Composition(self.color, self.pattern, self.shape)

    @property
    def caption(self) -> str:
        """Such as ``"a small red striped circle"``."""
        return f"a {self.size} {self.composition.name}"


def describe(composition: Composition, side: float) -> Description:
    """Description of an object.

    Args:
        composition: What it is.
        side: The longer one of its box, in pixels: small below 35, large from 48 on.
    """
    return Description(_size(side), composition.color, composition.pattern, composition.shape)


def attribute_swaps(composition: Composition) -> list[Composition]:
    """The 15 compositions that differ from this one in exactly one attribute."""
    return [
        *(replace(composition, color=c) for c in COLORS if c != composition.color),
        *(replace(composition, pattern=p) for p in PATTERNS if p != composition.pattern),
        *(replace(composition, shape=s) for s in SHAPES if s != composition.shape),
    ]


def hard_negatives(rng: np.random.Generator, composition: Composition) -> list[str]:
    """10 of the 15 one-attribute swaps as captions, in random order."""
    swaps = attribute_swaps(composition)
    return [region_caption(swaps[i]) for i in rng.permutation(len(swaps))[:NUM_NEGATIVES]]


def _enumeration(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def short_caption(rng: np.random.Generator, scene: Scene) -> str:
    """One sentence that names all the objects, in random order."""
    order = rng.permutation(len(scene.objects))
    listed = _enumeration([region_caption(scene.objects[i].composition) for i in order])
    count = len(scene.objects)
    noun = "shape" if count == 1 else "shapes"
    forms = (
        listed,
        f"a picture of {listed}",
        f"{listed} on a {scene.background} background",
        f"{_COUNTS[count]} {noun}: {listed}",
    )
    return forms[rng.choice(4, p=(0.4, 0.2, 0.2, 0.2))]


def _centre(item: PlacedObject) -> tuple[float, float]:
    return (item.box[0] + item.box[2]) / 2, (item.box[1] + item.box[3]) / 2


def _position(item: PlacedObject) -> str:
    x, y = _centre(item)
    third = IMAGE_SIZE / 3
    column = ("left", "centre", "right")[min(int(x / third), 2)]
    row = ("top", "middle", "bottom")[min(int(y / third), 2)]
    return f"{row} {column}"


def _side(item: PlacedObject) -> float:
    return max(item.box[2] - item.box[0], item.box[3] - item.box[1])


def _size(side: float) -> str:
    return SIZES[(side >= 35) + (side >= 48)]


def _relation(a: PlacedObject, b: PlacedObject) -> str:
    """Position of a, seen from b, along the axis on which they lie further apart."""
    (ax, ay), (bx, by) = _centre(a), _centre(b)
    if abs(ax - bx) >= abs(ay - by):
        return "left of" if ax < bx else "right of"
    return "above" if ay < by else "below"


def _detail(item: PlacedObject) -> str:
    composition = item.composition
    surface = (
        "has one plain tone without any pattern"
        if composition.pattern == "plain"
        else f"is {composition.pattern} in two tones"
    )
    return f"The {composition.color} {composition.shape} {surface}."


def long_caption(rng: np.random.Generator, scene: Scene) -> str:
    """Several sentences (60 to 150 words): count, positions, sizes, patterns, relations."""
    items = [scene.objects[i] for i in rng.permutation(len(scene.objects))]
    count = len(items)
    verb, noun = ("is", "shape") if count == 1 else ("are", "shapes")
    sentences = [
        f"There {verb} {_COUNTS[count]} {noun} on a {scene.background} background.",
        *(
            f"A {_size(_side(item))} {item.composition.name} is at the {_position(item)}."
            for item in items
        ),
        *(
            f"The {a.composition.name} is {_relation(a, b)} the {b.composition.name}."
            for a, b in pairwise(items)
        ),
    ]
    lines = scene.num_lines
    closing = [
        *(_detail(item) for item in items),
        f"Apart from the {noun}, the picture shows "
        f"{_COUNTS[lines]} thin {'line' if lines == 1 else 'lines'}.",
        "The background is muted and carries a soft texture with a little noise.",
        f"All edges of the {noun} are smooth, and nothing else can be seen in the picture.",
        f"The {noun} {verb} complete and {'does' if count == 1 else 'do'} not touch the border.",
    ]
    for sentence in closing:
        # Few objects need more sentences to be a long caption; many need fewer to fit 248 tokens.
        if sum(len(s.split()) for s in sentences) >= 62:
            break
        sentences.append(sentence)
    return " ".join(sentences)
