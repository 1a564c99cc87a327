import pytest

from fgclip_det.vocabulary import Vocabulary
from fgclip_det.vocabulary.parsing import clean_name
from fgclip_det.vocabulary.templates import TEMPLATE_SETS, fill_template, resolve_templates


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [("cat", "a photo of a cat."), ("Apple", "a photo of an Apple."), ("{x}", "a photo of a {x}.")],
)
def test_articles_follow_the_name(prompt, sentence):
    assert fill_template("a photo of {article} {}.", prompt) == sentence


def test_names_of_sets_and_sentences():
    assert resolve_templates(None) == ("{}",)
    assert resolve_templates("photo") == TEMPLATE_SETS["photo"]
    assert resolve_templates("the {} here") == ("the {} here",)
    with pytest.raises(ValueError, match="'photograph'"):
        resolve_templates("photograph")


@pytest.mark.parametrize("templates", [["{} and {}"], ["a photo"], [3], 3, {"a": "{}"}])
def test_bad_templates_are_refused(templates):
    with pytest.raises(ValueError, match=r"must (hold|be)"):
        resolve_templates(templates)


def test_no_template_is_the_name_itself():
    assert resolve_templates([]) == ("{}",)
    assert Vocabulary.parse("mug").sentences() == [["mug"]]


def test_each_prompt_goes_into_each_template():
    vocabulary = Vocabulary.parse([["couch", "sofa"]], templates=["a {}", "the {}"])
    assert vocabulary.sentences() == [["a couch", "the couch", "a sofa", "the sofa"]]


def test_category_names_become_words():
    assert clean_name("Bow_(weapon)/arrow") == "bow (weapon) or arrow"
