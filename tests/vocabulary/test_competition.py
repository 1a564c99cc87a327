"""Competitors of names: a bank of others, and their own exchanges."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from fgclip_det.vocabulary.attributes import Attributes
from fgclip_det.vocabulary.competition import Competition, Competitors
from tests.messages import says
from tests.tiny_encoders import tiny_fgclip, tiny_fgclip2

LISTS = Attributes({"color": ("red", "blue", "green"), "shape": ("circle", "star")})


@pytest.fixture(scope="module")
def encoder():
    return tiny_fgclip2(speaks=True)


def ask(encoder, *texts, templates=None, prompts=None) -> TextEmbeddings:
    vocabulary = Vocabulary.parse(prompts or [*texts], templates)
    return TextEmbeddings.encode(vocabulary, encoder, encoder.region_text_length)


def bank(encoder, *names, bound: float = 1.0, **settings) -> Competition:
    vocabularies = [list(names)] if names else []
    return Competition(encoder, vocabularies, bound, **{"attributes": None, **settings})


def rivals(found: Competitors, name: int = 0) -> list[str]:
    """The texts that compete with a name."""
    out = {row for number, row in found.excluded.tolist() if number == name}
    rows = [row for row in range(found.bank_size) if row not in out]
    rows += [row for number, row in found.exchanges.tolist() if number == name]
    return [found.texts[row] for row in rows]


@pytest.mark.parametrize("said", ["the Red-Circles", "red_circle_(shape)", "RED CIRCLE"])
def test_the_same_words_do_not_compete(encoder, said: str) -> None:
    found = bank(encoder, said, "blue square").against(ask(encoder, "red circle"))
    assert rivals(found) == ["blue square"]
    assert found.texts == (said, "blue square") and found.bank_size == len(found) == 2


def test_synonyms_of_either_do_not_compete(encoder) -> None:
    made = Competition(encoder, [[["blue square", "green star"], "dog"]], 1.0, None)
    assert rivals(made.against(ask(encoder, "green stars"))) == ["dog"]
    own = ask(encoder, prompts={"7": ["a thing", "a blue square"]})
    assert rivals(made.against(own)) == ["dog"]


def test_a_bank_of_several_has_each_name_once(encoder) -> None:
    made = Competition(encoder, [["dog", "a cat"], {"Dogs": "puppy", "mug": "cup"}], 1.0, None)
    assert made.bank.names == ("dog", "a cat", "mug")
    assert made.bank.prompts == (("dog",), ("a cat",), ("cup",))


def test_each_name_has_its_own(encoder) -> None:
    names = ["red circle", "blue square", "green star"]
    found = bank(encoder, *names).against(ask(encoder, "blue squares", "cat", "a red circle"))
    assert found.excluded.tolist() == [[0, 1], [2, 0]]
    assert rivals(found, 0) == ["red circle", "green star"] and rivals(found, 1) == names


@pytest.mark.parametrize("block", [1, 1024])
def test_alike_texts_do_not_compete(encoder, monkeypatch, block: int) -> None:
    monkeypatch.setattr("fgclip_det.vocabulary.competition._BLOCK", block)
    names = ["blue square", "green star", "dotted circle"]
    own = ask(encoder, "red circle", "black cross")
    cosines = own.embeddings @ ask(encoder, *names).embeddings.T
    bound = float(cosines.flatten().sort().values[2:4].mean())
    found = bank(encoder, *names, bound=bound).against(own)
    assert found.excluded.tolist() == (cosines > bound).nonzero().tolist()
    assert len(found.excluded) == 3


def test_an_encoder_to_which_all_is_alike_leaves_some(encoder) -> None:
    names = [f"blue square {number}" for number in range(40)]
    own = ask(encoder, "red circle", "green star")
    found = bank(encoder, *names, bound=-1.0).against(own)
    nearest = (own.embeddings @ ask(encoder, *names).embeddings.T).topk(5, dim=1).indices
    pairs = [[name, row] for name in range(2) for row in sorted(nearest[name].tolist())]
    assert found.excluded.tolist() == pairs
    # Of a small one nothing is left.
    assert rivals(bank(encoder, "blue square", bound=-1.0).against(own)) == []


def test_exchanges_compete_with_their_name_alone(encoder) -> None:
    made = bank(encoder, attributes=LISTS)
    found = made.against(ask(encoder, "a red circle", "a cat", "a blue circle"))
    assert found.bank_size == 0 and found.excluded.shape == (0, 2)
    assert rivals(found, 0) == ["a blue circle", "a red star", "a green circle"]
    assert rivals(found, 1) == []
    assert rivals(found, 2) == ["a red circle", "a blue star", "a green circle"]
    # Phrases that names share stand once.
    assert len(found) == len({*found.texts}) == 5
    assert found.exchanges[:, 0].tolist() == sorted(found.exchanges[:, 0].tolist())
    assert found.encoder_fingerprint == encoder.fingerprint


def test_exchanges_are_put_into_the_sentences_of_what_is_asked(encoder) -> None:
    templates = ["a photo of the {}."]
    own = ask(encoder, prompts={"7": ["red circle", "a round thing"]}, templates=templates)
    found = bank(encoder, attributes=LISTS).against(own)
    expected = ask(encoder, *found.texts, templates=templates)
    assert found.texts == ("blue circle", "red star", "green circle")
    torch.testing.assert_close(found.embeddings, expected.embeddings)
    assert not torch.allclose(found.embeddings, ask(encoder, *found.texts).embeddings, atol=1e-3)


def test_an_exchange_that_the_name_says_too_does_not_compete(encoder) -> None:
    own = ask(encoder, prompts={"signal": ["red circle", "the blue circles"]})
    found = bank(encoder, attributes=LISTS).against(own)
    assert rivals(found) == ["red star", "green circle"]


def test_an_exchange_stands_for_the_same_name_of_the_bank(encoder) -> None:
    made = bank(encoder, "blue circles", "dog", "red circle", attributes=LISTS)
    found = made.against(ask(encoder, "a red circle", "cat"))
    assert rivals(found, 0) == ["dog", "a blue circle", "a red star", "a green circle"]
    # For others that name stays.
    assert rivals(found, 1) == ["blue circles", "dog", "red circle"]


def test_an_exchange_beyond_what_is_read_does_not_compete() -> None:
    encoder = tiny_fgclip(speaks=True)
    long = "green star " * 60 + "with a red cross"
    with pytest.warns(UserWarning, match="cut"):
        own = TextEmbeddings.encode(
            Vocabulary((long, "a red cross"), ((long,), ("a red cross",))), encoder
        )
        lists = Attributes({"color": ("red", "blue")})
        found = Competition(encoder, (), 1.0, lists).against(own)
    assert rivals(found, 0) == [] and rivals(found, 1) == ["a blue cross"]


def test_other_names_change_nothing(encoder) -> None:
    names = ["a red circle", "green star", *(f"a blue thing {n}" for n in range(300))]
    settings = {"bound": 0.9, "attributes": LISTS}
    bank_names = ["blue square", "dog", "green stars", "cat"]
    alone = bank(encoder, *bank_names, **settings).against(ask(encoder, names[0]))
    among = bank(encoder, *bank_names, **settings).against(ask(encoder, *reversed(names)))
    assert len(among) <= 4 + 24 * len(names)
    part = among.subset([len(names) - 1])
    assert part.texts == alone.texts and torch.equal(part.excluded, alone.excluded)
    assert torch.equal(part.exchanges, alone.exchanges)
    torch.testing.assert_close(part.embeddings, alone.embeddings, atol=1e-6, rtol=0)


def test_a_subset_has_the_rivals_that_its_names_had(encoder) -> None:
    made = bank(encoder, "blue star", "dog", "cat", attributes=LISTS)
    found = made.against(ask(encoder, "red circle", "cat", "dogs", "red star", "lamp"))
    for chosen in ([3, 0], torch.tensor([4, 1]), [2], []):
        part = found.subset(chosen)
        rows = [int(row) for row in chosen]
        assert [rivals(part, new) for new in range(len(rows))] == [rivals(found, r) for r in rows]
        assert part.exchanges[:, 0].tolist() == sorted(part.exchanges[:, 0].tolist())
        assert len(part.texts) == len(part.embeddings)
        assert len(part) == 3 + len({row for _, row in part.exchanges.tolist()})


def test_found_once_and_encoded_once(encoder, monkeypatch) -> None:
    made = bank(encoder, "dog", attributes=LISTS)
    own, other = ask(encoder, "red circle"), ask(encoder, "red circle", "cat")
    first = made.against(own)
    assert made.against(own) is first
    monkeypatch.setattr(type(encoder), "encode_text", lambda *_, **__: pytest.fail("encoded"))
    assert torch.equal(made.against(other).embeddings, first.embeddings)


def test_keeps_a_few(encoder, monkeypatch) -> None:
    made = bank(encoder, "dog", attributes=LISTS)
    for _ in range(20):
        made.against(ask(encoder, "red circle"))
    assert len(made._kept) == 8
    monkeypatch.setattr("fgclip_det.vocabulary.competition._MOST_ROWS", 12)
    last = ask(encoder, "red circle")
    made.against(last)
    assert len(made._kept) == 3 and id(last) in made._kept
    monkeypatch.setattr("fgclip_det.vocabulary.competition._MOST_ROWS", 1)
    made.against(own := ask(encoder, "red circle"))
    assert [*made._kept] == [id(own)]


def test_the_bank_is_kept_on_disk(encoder, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "new" / "texts"
    own = ask(encoder, "red circle")
    first = bank(encoder, "dog", cache_dir=folder).against(own)
    assert len(list(folder.glob("*.safetensors"))) == 1
    monkeypatch.setattr(type(encoder), "encode_text", lambda *_, **__: pytest.fail("encoded"))
    again = bank(encoder, "dog", cache_dir=folder).against(own)
    assert torch.equal(again.embeddings, first.embeddings)


def test_a_cache_that_cannot_be_written(encoder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    made = bank(encoder, "dog", cache_dir=tmp_path / "file")
    with pytest.warns(UserWarning, match=says(tmp_path / "file", "each time")):
        assert rivals(made.against(ask(encoder, "red circle"))) == ["dog"]


def test_weights_that_changed_are_noticed() -> None:
    encoder = tiny_fgclip2(speaks=True)
    made = bank(encoder, "dog", attributes=LISTS)
    first = made.against(ask(encoder, "red circle"))
    encoder.load_state_dict(tiny_fgclip2(speaks=True, seed=1).state_dict())
    second = made.against(ask(encoder, "red circle"))
    assert first.texts == second.texts and first.encoder_fingerprint != second.encoder_fingerprint
    assert (first.embeddings - second.embeddings).abs().amax(dim=1).min() > 1e-3


def test_neither_bank_nor_exchanges(encoder) -> None:
    found = Competition(encoder, (), attributes=None).against(ask(encoder, "red circle"))
    assert len(found) == found.bank_size == 0 and found.embeddings.shape == (0, 32)
    assert found.excluded.shape == found.exchanges.shape == (0, 2)
    assert found.to("cpu").subset([0]).embeddings.shape == (0, 32)
    none = bank(encoder, "dog", attributes=LISTS, max_exchanges=0)
    assert rivals(none.against(ask(encoder, "red circle"))) == ["dog"]


def test_all_goes_to_the_device_of_what_is_asked(encoder) -> None:
    found = bank(encoder, "red circle", attributes=LISTS).against(ask(encoder, "red circle"))
    moved = found.to("meta")
    tensors = (moved.embeddings, moved.excluded, moved.exchanges)
    assert {one.device.type for one in tensors} == {"meta"} and moved.texts == found.texts


def test_what_ships(encoder, tmp_path: Path) -> None:
    made = Competition(encoder, cache_dir=tmp_path)
    assert len({*made.bank.names}) == len(made.bank) > 1200
    found = made.against(ask(encoder, "a red striped umbrella", "mug"))
    assert found.bank_size == len(made.bank)
    assert {"person", "bus", "aerosol_can"} <= {*rivals(found, 1)}
    assert "mug" not in rivals(found, 1)
    # At most 24, of both lists in turn.
    own = [found.texts[row] for name, row in found.exchanges.tolist() if name == 0]
    assert len(own) == 24 and sum("striped" not in text for text in own) == 9


def test_settings_tell_what_decides(encoder, tmp_path: Path) -> None:
    made = bank(encoder, "dog", attributes=LISTS)
    changed = [
        bank(encoder, "cat", attributes=LISTS),
        bank(encoder, "dog", attributes=None),
        bank(encoder, "dog", attributes=LISTS, bound=0.5),
        bank(encoder, "dog", attributes=LISTS, max_exchanges=3),
        bank(encoder, attributes=LISTS),
    ]
    told = [json.dumps(one.settings, sort_keys=True) for one in (made, *changed)]
    assert len({*told}) == 6
    path = tmp_path / "lists.json"
    path.write_text(json.dumps({"lists": LISTS.lists, "extends": False}))
    assert bank(encoder, "dog", attributes=path).settings == made.settings
    assert bank(encoder, "dog", attributes="packaged").attributes.hash == Attributes.load().hash


def test_another_encoder_is_refused(encoder) -> None:
    own = dataclasses.replace(ask(encoder, "red circle"), encoder_fingerprint="0" * 16)
    with pytest.raises(ValueError, match=says("0" * 16, encoder.fingerprint)):
        bank(encoder, "dog").against(own)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(encoder, value: float) -> None:
    own = ask(encoder, "red circle", "cat")
    own.embeddings[1, 3] = value
    with pytest.raises(ValueError, match=says("NaN", "embeddings")):
        bank(encoder, "dog").against(own)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_cosine": 2}, ("max_cosine", "2")),
        ({"max_cosine": float("nan")}, ("max_cosine", "nan")),
        ({"max_cosine": True}, ("max_cosine", "True")),
        ({"max_exchanges": -1}, ("max_exchanges", "-1")),
        ({"max_exchanges": 2.5}, ("max_exchanges", "2.5")),
        ({"vocabularies": ["none.txt"]}, ("none.txt",)),
        ({"attributes": "none.json"}, ("none.json",)),
    ],
)
def test_settings_that_are_refused(encoder, settings: dict, words: tuple) -> None:
    with pytest.raises(ValueError, match=says(*words)):
        Competition(encoder, **settings)


def test_names_are_judged_in_the_wording_however_they_are_typed(encoder) -> None:
    made = bank(encoder, "dog", "a cat", attributes=LISTS, wording="a {}")
    assert made.settings["wording"] == "a {}"
    assert made.bank.prompts == (("a dog",), ("a cat",))
    bare, full = ask(encoder, "red circle", "a mug"), ask(encoder, "a red circle", "a mug")
    found, same = made.against(bare), made.against(full)
    assert len(found.names) == 2 and torch.equal(found.names, same.names)
    torch.testing.assert_close(found.names, full.embeddings, rtol=0, atol=2e-7)
    assert found.texts == same.texts and "a blue circle" in found.texts
    assert torch.equal(found.embeddings, same.embeddings)
    part = found.subset([1])
    torch.testing.assert_close(part.names, found.names[1:])
    assert "wording" not in bank(encoder, "dog").settings


def test_the_wording_of_a_name_is_the_mean_of_its_prompts(encoder) -> None:
    made = bank(encoder, "dog", wording="a {}")
    bare = ask(encoder, prompts={"1": ["mug", "a cup"], "2": ["red star"]})
    full = ask(encoder, prompts={"1": ["a mug", "a cup"], "2": ["a red star"]})
    names = made.against(bare).names
    torch.testing.assert_close(names, full.embeddings, rtol=0, atol=2e-7)
    with pytest.raises(ValueError, match="wording of negatives"):
        bank(encoder, "dog", wording="a")


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ("a ring", ["ring box", "cyan star"]),
        ("a cyan ring", ["striped ring", "ring box", "cyan star"]),
        ("rings", ["ring box", "cyan star"]),
        ("a box", ["cyan striped ring", "striped ring", "cyan star"]),
    ],
)
def test_kinds_of_what_is_asked_for_do_not_compete(encoder, asked: str, left: list[str]) -> None:
    made = bank(encoder, "cyan striped ring", "striped ring", "ring box", "cyan star")
    assert rivals(made.against(ask(encoder, asked))) == left
