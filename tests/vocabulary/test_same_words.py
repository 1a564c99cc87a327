"""When two names say the same."""

from __future__ import annotations

import pytest

from fgclip_det.vocabulary.same_words import Said, same_words


@pytest.mark.parametrize(
    "said", ["the Red-Circles", "a red circle", "red_circle_(shape)", "RED CIRCLE", "red circle."]
)
def test_articles_case_plurals_and_remarks_do_not_count(said: str) -> None:
    assert same_words(said) == same_words("red circle")


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("a cross", "crosses"),
        ("box", "boxes"),
        ("bench", "benches"),
        ("brush", "brushes"),
        ("cup", "cups"),
    ],
)
def test_plurals_in_es(one: str, many: str) -> None:
    assert same_words(one) == same_words(many)


@pytest.mark.parametrize("other", ["circle red", "red circle 2", "dark red circle", "red"])
def test_other_words_are_others(other: str) -> None:
    assert same_words(other) != same_words("red circle")


@pytest.mark.parametrize("odd", ["s", "(...)", "_", "日本"])
def test_what_has_no_letters_is_itself(odd: str) -> None:
    assert same_words(odd) == odd


def test_remarks_tell_names_apart_where_both_have_one() -> None:
    animals = Said(["Mouse (animal)", "a dog"])
    assert "mouse" in animals and "rat" not in animals and "the dogs" in animals
    assert "mouse_(animals)" in animals and "mouse_(computer_equipment)" not in animals
    assert "mouse (animal)" in Said(["mouse", "mouse (toy)"])
    assert "mouse" not in Said([]) and "" not in Said(["mouse"])
