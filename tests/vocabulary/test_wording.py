from __future__ import annotations

import pytest

from fgclip_det.vocabulary import Vocabulary
from fgclip_det.vocabulary.wording import check_wording, worded


def test_names_without_an_article_are_put_into_the_sentence():
    asked = Vocabulary.parse({"cup": ["cup", "a mug", "The beaker", "orange cup"], "a": ["a"]})
    found = worded(asked, "a {}")
    assert found.names == asked.names
    assert found.prompts == (("a cup", "a mug", "The beaker", "an orange cup"), ("an a",))


def test_words_that_begin_like_an_article_are_none():
    assert worded(Vocabulary.parse(["anvil", "theatre"]), "a {}").prompts == (
        ("an anvil",),
        ("a theatre",),
    )


@pytest.mark.parametrize(
    ("asked", "wording"),
    [
        (Vocabulary.parse(["cup"]), None),
        (Vocabulary.parse(["a cup", "the mug", "an orange"]), "a {}"),
        (Vocabulary.parse(["cup"], templates=["a photo of a {}"]), "a {}"),
    ],
    ids=["no wording", "all have articles", "sentences of their own"],
)
def test_what_needs_no_wording_stays_the_same(asked, wording):
    assert worded(asked, wording) is asked


def test_only_an_article_is_mended_before_a_vowel():
    assert worded(Vocabulary.parse(["owl"]), "photo of {}").prompts == (("photo of owl",),)
    assert worded(Vocabulary.parse(["owl"]), "A {} at night").prompts == (("An owl at night",),)


@pytest.mark.parametrize("wording", ["a", "{} {}", 3, ["a {}"]])
def test_a_wording_that_is_no_sentence_is_refused(wording):
    with pytest.raises(ValueError, match="wording of negatives"):
        check_wording(wording)
