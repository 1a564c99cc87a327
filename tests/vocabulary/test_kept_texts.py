"""Texts that are encoded once."""

from __future__ import annotations

import pytest
import torch

from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from fgclip_det.vocabulary.kept_texts import KeptTexts
from tests.tiny_encoders import tiny_fgclip

PLAIN = ("{}",)


@pytest.fixture
def encoder():
    return tiny_fgclip(speaks=True)


@pytest.fixture
def encoded(monkeypatch) -> list[str]:
    """The texts that were encoded, in order."""
    texts: list[str] = []
    real = TextEmbeddings.encode.__func__

    def encode(cls, vocabulary, *args, **kwargs):
        texts.extend(prompt for own in vocabulary.prompts for prompt in own)
        return real(cls, vocabulary, *args, **kwargs)

    monkeypatch.setattr(TextEmbeddings, "encode", classmethod(encode))
    return texts


def test_each_text_is_encoded_once(encoder, encoded) -> None:
    texts = KeptTexts(encoder)
    first = texts.encode(["red circle", "blue star"], PLAIN, "short")
    both = texts.encode(["green star", "blue star", "red circle"], PLAIN, "short")
    assert encoded == ["red circle", "blue star", "green star"]
    assert torch.equal(both[1:], first.flip(0))
    assert torch.equal(texts.encode(["blue star"], PLAIN, "short"), first[1:])
    assert len(encoded) == 3
    alone = KeptTexts(encoder).encode(["green star"], PLAIN, "short")
    torch.testing.assert_close(both[:1], alone)


def test_sentences_lengths_and_weights_count(encoder, encoded) -> None:
    texts = KeptTexts(encoder)
    plain = texts.encode(["red circle"], PLAIN, "short")
    for templates, length in ((("a photo of a {}.",), "short"), (PLAIN, "long")):
        assert not torch.equal(texts.encode(["red circle"], templates, length), plain)
    encoder.load_state_dict(tiny_fgclip(speaks=True, seed=1).state_dict())
    assert not torch.equal(texts.encode(["red circle"], PLAIN, "short"), plain)
    assert len(encoded) == 4


def test_the_oldest_go(encoder, encoded) -> None:
    texts = KeptTexts(encoder, most=3)
    many = [f"circle {number}" for number in range(5)]
    assert texts.encode(many, PLAIN, "short").shape == (5, 20) and len(texts) == 3
    texts.encode(["red circle"], PLAIN, "short")
    assert len(texts) == 3
    encoded.clear()
    texts.encode([*many[:3], "red circle"], PLAIN, "short")
    assert encoded == many[:1]


def test_a_vocabulary_is_as_if_it_were_encoded_alone(encoder, encoded) -> None:
    texts = KeptTexts(encoder)
    # Two names that are called otherwise and say the same, and one of several prompts.
    prompts = (("red circle", "a ring"), ("red circle",), ("red circle", "a ring"), ("blue star",))
    vocabulary = Vocabulary(("0", "1", "a name", "b"), prompts, ("{}", "a photo of a {}."))
    texts.embeddings(vocabulary.subset(["1", "b"]), "short")
    made = texts.embeddings(vocabulary, "short")
    assert encoded == ["red circle", "blue star", "red circle", "a ring"]
    alone = TextEmbeddings.encode(vocabulary, encoder, steady=True)
    assert made.hash == alone.hash and torch.equal(made.embeddings, alone.embeddings)
    assert torch.equal(made.embeddings[0], made.embeddings[2])


def test_no_texts(encoder, encoded) -> None:
    assert KeptTexts(encoder).encode([], PLAIN, "short").shape == (0, 20) and not encoded


def test_what_is_kept_holds_no_other_rows(encoder) -> None:
    texts = KeptTexts(encoder, most=1)
    texts.encode(["red circle", "blue star"], PLAIN, "short")
    assert [row.untyped_storage().nbytes() for row in texts._kept.values()] == [20 * 4]


def test_another_thread_makes_room_meanwhile(encoder, monkeypatch) -> None:
    many = [f"circle {number}" for number in range(6)]
    expected = KeptTexts(encoder).encode(many, PLAIN, "short")
    texts = KeptTexts(encoder, most=3)
    texts.encode(many[:2], PLAIN, "short")
    real = TextEmbeddings.encode.__func__

    def encode(cls, *args, **kwargs):
        # As others do whose texts are new.
        texts._kept.clear()
        return real(cls, *args, **kwargs)

    monkeypatch.setattr(TextEmbeddings, "encode", classmethod(encode))
    assert torch.equal(texts.encode(many[1:4], PLAIN, "short"), expected[1:4])
