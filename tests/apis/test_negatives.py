"""Names that compete unseen."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fgclip_det.apis.negatives import BuiltinNegatives
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from tests.messages import says
from tests.tiny_encoders import tiny_fgclip2


@pytest.fixture(scope="module")
def encoder():
    return tiny_fgclip2(speaks=True)


def asked(encoder, texts) -> TextEmbeddings:
    vocabulary = Vocabulary.parse(texts)
    return TextEmbeddings.encode(vocabulary, encoder, encoder.region_text_length)


def negatives(encoder, folder: Path, *names, bound: float = 1.0) -> BuiltinNegatives:
    return BuiltinNegatives(encoder, [list(names)], bound, folder)


@pytest.mark.parametrize(
    "said", ["the Red-Circles", "a red circle", "red_circle_(shape)", "RED CIRCLE", "red circle."]
)
def test_the_same_words_are_left_out(encoder, tmp_path: Path, said: str) -> None:
    made = negatives(encoder, tmp_path, said, "blue square")
    assert made.beside(asked(encoder, ["red circle"])).names == ("red circle", "blue square")


def test_synonyms_of_either_are_left_out(encoder, tmp_path: Path) -> None:
    made = BuiltinNegatives(encoder, [[["blue square", "green star"], "dog"]], 1.0, tmp_path)
    assert made.beside(asked(encoder, ["green stars"])).names == ("green stars", "dog")
    own = asked(encoder, {"red circle": ["a blue square"]})
    assert made.beside(own).names == ("red circle", "dog")


def test_alike_texts_are_left_out(encoder, tmp_path: Path) -> None:
    names = ["blue square", "green star", "dotted circle"]
    own = asked(encoder, ["red circle"])
    cosines = (asked(encoder, names).embeddings @ own.embeddings.T)[:, 0]
    low, middle, high = cosines.argsort().tolist()
    bound = float((cosines[middle] + cosines[high]) / 2)
    made = negatives(encoder, tmp_path, *names, bound=bound)
    kept = [names[place] for place in sorted((low, middle))]
    assert made.beside(own).names == ("red circle", *kept)
    none = negatives(encoder, tmp_path, *names, bound=-1.0)
    assert none.beside(own) is own


def test_an_encoder_to_which_all_is_alike_leaves_some(encoder, tmp_path: Path) -> None:
    names = [f"blue square {number}" for number in range(40)]
    own = asked(encoder, ["red circle"])
    found = negatives(encoder, tmp_path, *names, bound=-1.0).beside(own)
    assert len(found) == 1 + 40 - 5
    cosines = (asked(encoder, names).embeddings @ own.embeddings.T)[:, 0]
    assert {names[place] for place in cosines.topk(5).indices} == {*names} - {*found.names}


def test_made_once_for_a_vocabulary_and_once_on_disk(encoder, tmp_path: Path, monkeypatch) -> None:
    made = negatives(encoder, tmp_path, "blue square", "green star")
    own = asked(encoder, ["red circle"])
    first = made.beside(own)
    assert made.beside(own) is first
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    again = negatives(encoder, tmp_path, "blue square", "green star")
    monkeypatch.setattr(type(encoder), "encode_text", lambda *_, **__: pytest.fail("encoded"))
    assert torch.equal(again.beside(own).embeddings, first.embeddings)


def test_keeps_a_few(encoder, tmp_path: Path) -> None:
    made = negatives(encoder, tmp_path, "blue square")
    for _ in range(30):
        made.beside(asked(encoder, ["red circle"]))
    assert len(made._kept) <= 8


def test_a_cache_that_cannot_be_written(encoder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    made = negatives(encoder, tmp_path / "file", "blue square")
    with pytest.warns(UserWarning, match=says(tmp_path / "file", "each time")):
        found = made.beside(asked(encoder, ["red circle"]))
    assert found.names == ("red circle", "blue square")


def test_the_vocabularies_of_the_package(encoder, tmp_path: Path) -> None:
    names = BuiltinNegatives(encoder, cache_dir=tmp_path).vocabulary.names
    assert len({*names}) == len(names) > 1200
    assert {"person", "bus", "aerosol_can"} <= {*names}


def test_another_encoder_is_refused(encoder, tmp_path: Path) -> None:
    own = dataclasses.replace(asked(encoder, ["red circle"]), encoder_fingerprint="0" * 16)
    with pytest.raises(ValueError, match="encoder"):
        negatives(encoder, tmp_path, "blue square").beside(own)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_cosine": 2}, ("max_cosine", "2")),
        ({"max_cosine": "high"}, ("max_cosine", "high")),
        ({"vocabularies": []}, ("no vocabularies",)),
        ({"bound": 1}, ("bound", "vocabularies=[...]")),
        ("coco", ("coco", "vocabularies=[...]")),
    ],
)
def test_settings_that_are_none(encoder, settings, words: tuple) -> None:
    test_cfg = {"negatives": settings}
    detector = SimpleNamespace(encoder=encoder, text_cache_dir=None, test_cfg=test_cfg)
    with pytest.raises(ValueError, match=says(*words)):
        BuiltinNegatives.of(detector)


def test_nothing_asks_for_them(encoder) -> None:
    for test_cfg in (None, {}, {"negatives": None}):
        assert BuiltinNegatives.of(SimpleNamespace(encoder=encoder, test_cfg=test_cfg)) is None
