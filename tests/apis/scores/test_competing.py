"""What competes with what a detector is asked for, by its settings and by the user's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from fgclip_det.apis.scores.competing import Negatives, competition_of
from fgclip_det.models import RegionTextHead
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from fgclip_det.vocabulary.attributes import Attributes
from fgclip_det.vocabulary.competition import Competition
from tests.messages import says
from tests.tiny_encoders import tiny_fgclip2


@pytest.fixture(scope="module")
def encoder():
    return tiny_fgclip2(speaks=True)


class OwnHead(RegionTextHead):
    """Scores of its own, of which nobody knows who fits better."""

    def score(self, *_args, **_kwargs):
        raise NotImplementedError


class OwnJudge(OwnHead):
    """And one that knows."""

    def judge(self, *_args, **_kwargs):
        raise NotImplementedError


def detector(encoder, test_cfg, head=None) -> SimpleNamespace:
    return SimpleNamespace(
        encoder=encoder,
        text_cache_dir=None,
        test_cfg=test_cfg,
        region_classifier=head or RegionTextHead(),
    )


def asked(encoder, texts) -> TextEmbeddings:
    vocabulary = Vocabulary.parse(texts)
    return TextEmbeddings.encode(vocabulary, encoder, encoder.region_text_length)


def competition(encoder, *names, **settings) -> Competition:
    return Competition(encoder, [list(names)] if names else [], 1.0, **settings)


@pytest.mark.parametrize("test_cfg", [None, {}, {"negatives": {}}])
def test_the_package_competes_where_nothing_is_said(encoder, test_cfg) -> None:
    found = competition_of(detector(encoder, test_cfg))
    assert found.settings == Competition(encoder).settings and len(found.bank) > 1200
    assert found.attributes is not None


def test_settings_are_those_of_the_config(encoder) -> None:
    settings = {"vocabularies": [["red", "blue"]], "max_cosine": 0.5, "attributes": None}
    found = competition_of(detector(encoder, {"negatives": settings}))
    assert found.bank.names == ("red", "blue") and found.attributes is None
    assert found.max_cosine == 0.5


def test_none_competes_where_the_config_says_so_or_nobody_could_judge(encoder) -> None:
    assert competition_of(detector(encoder, {"negatives": None})) is None
    assert competition_of(detector(encoder, {}, OwnHead())) is None
    assert competition_of(detector(encoder, {}, object())) is None
    assert competition_of(detector(encoder, {}, OwnJudge())) is not None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_cosine": 2}, ("max_cosine", "2")),
        ({"max_cosine": "high"}, ("max_cosine", "high")),
        ({"attributes": "none.json"}, ("none.json",)),
        ({"bound": 1}, ("bound", "vocabularies=[...]")),
        ("coco", ("coco", "vocabularies=[...]")),
    ],
)
def test_settings_that_are_none(encoder, settings, words: tuple) -> None:
    with pytest.raises(ValueError, match=says(*words)):
        competition_of(detector(encoder, {"negatives": settings}))


def test_nothing_competes_with_what_stands_alone(encoder) -> None:
    own = asked(encoder, ["red mug", "blue mug"])
    found = Negatives().beside(own)
    assert found.texts is own and found.count == 2
    assert found.competitors is None and found.contradictory is None


def test_ones_own_come_behind_and_have_no_competitors(encoder) -> None:
    own = asked(encoder, ["a red mug", "a plate"])
    negatives = Negatives(competition(encoder, "dog"), asked(encoder, ["a fork", "red mug"]))
    found = negatives.beside(own)
    # "red mug" says what is asked for.
    assert found.texts.names == ("a red mug", "a plate", "a fork")
    assert found.names == ("a red mug", "a plate") and found.count == 2
    alone = Negatives(negatives.competition).beside(own)
    assert found.competitors is alone.competitors
    assert found.competitors.exchanges[:, 0].unique().tolist() == [0]


def test_prompts_that_contradict(encoder) -> None:
    lists = Attributes({"color": ("red", "blue")}, contradictions=(("a jug", "a pot"),))
    own = asked(encoder, {"one": ["a red mug"], "two": ["a blue mug"], "a jug": ["a jug"]})
    found = Negatives(competition(encoder, "dog", attributes=lists)).beside(own)
    assert found.contradictory.tolist() == [[0, 1]]
    own = asked(encoder, ["a pot", "a red mug", "a jug"])
    found = Negatives(competition(encoder, "dog", attributes=lists)).beside(own)
    assert found.contradictory.tolist() == [[0, 2]]
    found = Negatives(competition(encoder, "dog", attributes=None)).beside(own)
    assert found.contradictory.shape == (0, 2)


def test_made_once_for_the_same_and_a_few_are_kept(encoder) -> None:
    negatives = Negatives(competition(encoder, "dog"), asked(encoder, ["cat"]))
    own = asked(encoder, ["red mug"])
    assert negatives.beside(own) is negatives.beside(own)
    for _ in range(30):
        negatives.beside(asked(encoder, ["red mug"]))
    assert len(negatives._kept) <= 8


def test_settings_tell_one_from_another(encoder) -> None:
    one, other = competition(encoder, "dog"), competition(encoder, "cat")
    own = asked(encoder, ["cat"])
    told = [
        str(Negatives(*given).settings)
        for given in ((), (one,), (other,), (one, own), (one, asked(encoder, ["dog"])))
    ]
    assert len({*told}) == 5
    assert str(Negatives(one, asked(encoder, ["cat"])).settings) == told[3]
