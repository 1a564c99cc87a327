"""Which names of a bank say the same as a name, and which say it with a property added."""

from __future__ import annotations

import pytest

from fgclip_det.vocabulary import Vocabulary
from fgclip_det.vocabulary.attributes import Attributes
from fgclip_det.vocabulary.bank_words import BankWords
from fgclip_det.vocabulary.same_words import same_words

LISTS = Attributes({"color": ("red", "light blue", "green"), "material": ("wooden", "paper")})
NAMES = ("red ring", "light blue wooden ring", "ring", "hot dog", "dog", "ring box", "paper plate")


@pytest.mark.parametrize(
    ("asked", "kinds"),
    [
        ("a ring", ["red ring", "light blue wooden ring"]),
        ("Rings", ["red ring", "light blue wooden ring"]),
        ("a wooden ring", ["light blue wooden ring"]),
        ("blue ring", ["light blue wooden ring"]),
        # What is light in weight may be of any colour.
        ("a light ring", []),
        ("a red ring", []),
        # Neither is a property that some dog or ring has.
        ("dog", []),
        ("box", []),
        ("plates", ["paper plate"]),
        ("a green ring", []),
        ("red", []),
    ],
)
def test_kinds_add_attributes_and_nothing_else(asked: str, kinds: list[str]) -> None:
    words = BankWords(Vocabulary.parse([*NAMES]), LISTS)
    assert [NAMES[row] for row in words.kinds({same_words(asked)})] == kinds
    assert BankWords(Vocabulary.parse([*NAMES]), None).kinds({same_words(asked)}) == []
    assert BankWords(None, LISTS).kinds({same_words(asked)}) == []


def test_what_a_name_says_itself_is_no_kind_of_it() -> None:
    words = BankWords(Vocabulary.parse([*NAMES]), LISTS)
    said = {same_words("ring"), same_words("a red ring")}
    assert [NAMES[row] for row in words.kinds(said)] == ["light blue wooden ring"]


def test_prompts_that_the_bank_has_in_other_words() -> None:
    words = BankWords(Vocabulary.parse(["a red ring", "an old dog"]), None)
    asked = Vocabulary.parse({"1": ["the Red Rings", "a cat"], "2": ["old dogs"]})
    found = words.said_as_here(asked)
    assert found.names == asked.names
    assert found.prompts == (("a red ring", "a cat"), ("an old dog",))
    known = Vocabulary.parse(["a red ring", "a cat"])
    assert words.said_as_here(known) is known
    assert words.rows_of_texts() == {"a red ring": 0, "an old dog": 1}
