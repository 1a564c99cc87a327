"""Phrases with one attribute exchanged, and phrases that contradict one another."""

from __future__ import annotations

import itertools
import random

import pytest

from fgclip_det.datasets.shapes.captions import attribute_swaps, region_caption
from fgclip_det.datasets.shapes.render import COLORS, PATTERNS, SHAPES, Composition
from fgclip_det.fg_ovd.confusions import ATTRIBUTES
from fgclip_det.vocabulary.attributes import Attributes

FEW = Attributes({"color": ("red", "blue", "orange"), "pattern": ("plain", "striped")})


@pytest.fixture(scope="module")
def packaged() -> Attributes:
    return Attributes.load()


@pytest.mark.parametrize(
    ("phrase", "others"),
    [
        ("a red striped mug", ["a blue striped mug", "a red plain mug", "an orange striped mug"]),
        ("An Orange mug", ["A Red mug", "A Blue mug"]),
        ("a orange mug", ["a red mug", "a blue mug"]),
        ("RED MUG", ["BLUE MUG", "ORANGE MUG"]),
        ("red_mug", ["blue_mug", "orange_mug"]),
        ("mug (red)", ["mug (blue)", "mug (orange)"]),
        ("red striped", ["blue striped", "red plain", "orange striped"]),
        ("red", ["blue", "orange"]),
        ("a red, blue mug", ["an orange, blue mug", "a red, orange mug"]),
        ("a mug without handle", ["a mug with handle"]),
        ("a mug with a handle", []),
        ("a red-haired man", []),
        ("a coloured mug", []),
        ("reds", []),
        ("", []),
        ("...", []),
    ],
)
def test_one_attribute_is_another(phrase: str, others: list[str]) -> None:
    assert FEW.exchanges(phrase) == others


def test_the_longest_words_count(packaged: Attributes) -> None:
    for phrase in ("a light blue mug", "a light-blue mug", "a Light  Blue mug"):
        found = [text.lower() for text in packaged.exchanges(phrase)]
        assert "a dark blue mug" in found and "a red mug" in found
        # Light blue is blue, and nothing is left of the old words.
        assert "a blue mug" not in found and not any("light blue" in text for text in found)


def test_kinds_and_spellings_are_no_exchanges(packaged: Attributes) -> None:
    red = packaged.exchanges("a red sofa")
    assert not {"a light red sofa", "a dark red sofa", "a red sofa"} & {*red} and len(red) == 26
    assert "a grey sofa" not in packaged.exchanges("a gray sofa")
    assert "a gray sofa" not in packaged.exchanges("a red sofa")
    fabric, velvet = packaged.exchanges("fabric sofa"), packaged.exchanges("velvet sofa")
    assert "velvet sofa" not in fabric and "leather sofa" in fabric
    assert "fabric sofa" not in velvet and "wool sofa" in velvet
    assert "a metal chair" in packaged.exchanges("a wooden chair")


@pytest.mark.parametrize(
    ("phrase", "has"),
    [
        ("orange", None),
        ("an orange", None),
        ("a slice of orange", None),
        ("a glass with a straw", None),
        ("a piece of paper", None),
        ("wine glass", None),
        ("a glass jar", "a metal jar"),
        ("a jar made of glass", "a jar made of metal"),
        ("a door made of light grey wood", "a door made of light grey glass"),
        ("a man in orange", "a man in pink"),
        ("a glass and metal phone", "a wood and metal phone"),
        ("a purple and white paper label", "a purple and white metal label"),
        ("a white logo made of metal", "a white logo made of wood"),
    ],
)
def test_what_a_phrase_is_about_is_left_alone(packaged: Attributes, phrase, has) -> None:
    found = packaged.exchanges(phrase)
    assert has in found if has else found == []


def test_enumerated_values_stay_apart(packaged: Attributes) -> None:
    found = packaged.exchanges("a grey, black, and red phone")
    assert "a white, black, and red phone" in found
    assert not any(text.count("black") > 1 or text.count(" red") > 1 for text in found)
    # What is not one enumeration may have one colour.
    assert "a red phone with red keys" in packaged.exchanges("a black phone with red keys")


def test_at_most_some_and_each_attribute_in_turn(packaged: Attributes) -> None:
    phrase = "a red striped glass mug"
    every, some = packaged.exchanges(phrase), packaged.exchanges(phrase, 7)
    assert some == every[:7] and len(set(every)) == len(every) > 40
    assert sum("red" not in text for text in some) == 3
    assert sum("striped" not in text for text in some) == 2
    assert sum("glass" not in text for text in some) == 2
    assert packaged.exchanges(phrase, 0) == []


def test_a_phrase_of_attributes_alone_takes_bounded_time(packaged: Attributes) -> None:
    assert len(packaged.exchanges("red blue " * 1000, 24)) == 24
    assert packaged.contradictory(["red blue " * 1000]) == []
    assert len(packaged.exchanges("red cat " * 100)) == 32 * 26


def test_the_lists_are_those_that_fg_ovd_confuses(packaged: Attributes) -> None:
    for name, values in packaged.lists.items():
        assert {*values} == ATTRIBUTES[name] and len({*values}) == len(values)


def test_the_bundled_world_exchanges_what_its_negatives_do() -> None:
    lists = Attributes.load("fgclip_det/assets/shapes/attributes.json").lists
    assert lists == {"color": tuple(COLORS), "pattern": PATTERNS, "shape": SHAPES}
    attributes = Attributes.load("fgclip_det/assets/shapes/attributes.json")
    for parts in (("red", "striped", "circle"), ("black", "plain", "ring")):
        shape = Composition(*parts)
        swaps = {region_caption(other) for other in attribute_swaps(shape)}
        found = attributes.exchanges(region_caption(shape))
        assert {*found} == swaps and len(found) == 15


@pytest.mark.parametrize(
    ("one", "other", "wrong"),
    [
        ("a red mug", "blue mugs", True),
        ("A Red Mug", "an orange mug", True),
        ("a gray mug", "a dark grey mug", False),
        ("a light grey mug", "a dark gray mug", True),
        ("a mug with a handle", "mug without handle", True),
        ("a red mug", "a red mug", False),
        ("a red mug", "the Red mugs", False),
        ("a red mug", "a striped mug", False),
        ("a red mug", "a blue plate", False),
        ("a red striped mug", "a blue plain mug", False),
        ("an orange", "a blue", False),
        ("a velvet sofa", "a fabric sofa", False),
        ("a velvet sofa", "a leather sofa", True),
        ("a mug", "a red mug", False),
        ("red", "blue", True),
        ("", "", False),
    ],
)
def test_what_contradicts(packaged: Attributes, one: str, other: str, wrong: bool) -> None:
    assert packaged.contradict(one, other) is packaged.contradict(other, one) is wrong


def test_listed_phrases_contradict() -> None:
    groups = (("open umbrella", "closed umbrella", "folded umbrella"), ("cat", "dog"))
    attributes = Attributes({}, groups)
    phrases = ["a cat", "closed umbrellas", "the dog", "An open umbrella", "dogs", "umbrella"]
    assert attributes.contradictory(phrases) == [(0, 2), (0, 4), (1, 3)]


def test_pairs_of_many_are_those_of_each_two(packaged: Attributes) -> None:
    draw = random.Random(0)
    words = ["red", "dark red", "blue", "striped", "plain", "glass", "with", "without", "mug"]
    phrases = [" ".join(draw.choices(words, k=2)) for _ in range(60)]
    expected = [
        (i, j)
        for i, j in itertools.combinations(range(60), 2)
        if packaged.contradict(phrases[i], phrases[j])
    ]
    assert packaged.contradictory(phrases) == expected and len(expected) > 20


def test_the_hash_tells_them_apart(packaged: Attributes) -> None:
    assert packaged.hash == Attributes.load().hash != FEW.hash
    assert FEW.hash != Attributes(FEW.lists, (("cat", "dog"),)).hash
