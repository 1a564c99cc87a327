import numpy as np

from fgclip_det.datasets.shapes.captions import (
    attribute_swaps,
    hard_negatives,
    long_caption,
    short_caption,
)
from fgclip_det.datasets.shapes.generator import compositions, render
from fgclip_det.datasets.shapes.render import Composition, PlacedObject, Scene


def test_swaps_change_one_attribute_each():
    classes = set(compositions())
    for composition in classes:
        swaps = attribute_swaps(composition)
        assert len(set(swaps)) == 15 and set(swaps) <= classes
        for swap in swaps:
            words = zip(composition.name.split(), swap.name.split(), strict=True)
            assert sum(a != b for a, b in words) == 1


def test_hard_negatives_are_ten_captions_and_deterministic():
    composition = Composition("red", "striped", "circle")
    negatives = hard_negatives(np.random.default_rng(5), composition)
    assert negatives == hard_negatives(np.random.default_rng(5), composition)
    assert len(set(negatives)) == 10
    assert "a red striped circle" not in negatives


def test_short_caption_names_every_object():
    classes = compositions()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        picks = [classes[i] for i in rng.permutation(192)[: 1 + seed % 4]]
        caption = short_caption(rng, render(rng, picks))
        assert all(f"a {c.name}" in caption for c in picks)


def test_long_caption_is_long_but_not_too_long():
    classes = compositions()
    for seed in range(80):
        rng = np.random.default_rng(seed)
        picks = [classes[i] for i in rng.permutation(192)[: 1 + seed % 4]]
        caption = long_caption(rng, render(rng, picks))
        assert 60 <= len(caption.split()) <= 150
        assert all(f" {c.name} is at the " in caption for c in picks)


def test_long_caption_tells_positions_sizes_and_relations():
    circle = PlacedObject(Composition("red", "striped", "circle"), (2.0, 4.0, 62.0, 64.0))
    star = PlacedObject(Composition("blue", "plain", "star"), (96.0, 40.0, 124.0, 68.0))
    scene = Scene(np.zeros((128, 128, 3), np.uint8), (circle, star), "light grey", 1)
    captions = {long_caption(np.random.default_rng(seed), scene) for seed in range(8)}
    assert len(captions) == 2
    for caption in captions:
        assert caption.startswith("There are two shapes on a light grey background.")
        assert "A large red striped circle is at the top left." in caption
        assert "A small blue plain star is at the middle right." in caption
        assert (
            "The red striped circle is left of the blue plain star." in caption
            or "The blue plain star is right of the red striped circle." in caption
        )
