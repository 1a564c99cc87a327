import hashlib
import json

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file

from fgclip_det.io import bars_are_shown, without_bars
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from tests.messages import says


class Encoder:
    """Gives each text a direction of its own and counts the texts it was asked for."""

    projection_dim = 8

    def __init__(self, fingerprint: str = "0123456789abcdef") -> None:
        self.fingerprint = fingerprint
        self.asked: list[str] = []

    def encode_text(self, texts, text_length="short", normalize=False):
        self.asked += texts
        rows = []
        for text in texts:
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
            rows.append(torch.randn(8, generator=torch.Generator().manual_seed(seed)))
        features = torch.stack(rows)
        return F.normalize(features, dim=-1) if normalize else features


@pytest.fixture
def encoder():
    return Encoder()


@pytest.fixture
def embeddings(encoder):
    vocabulary = Vocabulary.parse(
        {"mug": ["a mug", "a cup"], "fork": ["a fork"]},
        groups={"base": ["mug"], "novel": ["fork"]},
    )
    return TextEmbeddings.encode(vocabulary, encoder)


def test_prompts_are_averaged_as_directions(encoder, embeddings):
    mug, cup, fork = encoder.encode_text(["a mug", "a cup", "a fork"], normalize=True)
    expected = torch.stack([F.normalize(mug + cup, dim=0), fork])
    torch.testing.assert_close(embeddings.embeddings, expected)
    torch.testing.assert_close(embeddings.embeddings.norm(dim=1), torch.ones(2))
    assert (len(embeddings), embeddings.dim) == (2, 8)


def test_the_bar_of_what_takes_long_is_shown_unless_bars_are_not(encoder, monkeypatch, capsys):
    monkeypatch.setattr("fgclip_det.vocabulary.text_embeddings._BAR_AFTER", 0.0)
    vocabulary = Vocabulary.parse(["mug", "cup"])
    TextEmbeddings.encode(vocabulary, encoder)
    assert "texts" in capsys.readouterr().err
    with without_bars():
        TextEmbeddings.encode(vocabulary, encoder)
        with without_bars(False):
            assert not bars_are_shown()
    assert capsys.readouterr().err == "" and bars_are_shown()


def test_equal_texts_are_encoded_once(encoder):
    vocabulary = Vocabulary.parse({"mug": ["a mug", "a cup"], "cup": ["a cup"]})
    TextEmbeddings.encode(vocabulary, encoder)
    assert sorted(encoder.asked) == ["a cup", "a mug"]


def test_order_and_batches_change_nothing(encoder):
    names = [f"thing {'x' * (i % 7)} {i}" for i in range(30)]
    forward = TextEmbeddings.encode(Vocabulary.parse(names), encoder, batch_size=4)
    backward = TextEmbeddings.encode(Vocabulary.parse(names[::-1]), encoder, batch_size=256)
    torch.testing.assert_close(forward.embeddings, backward.embeddings.flip(0))


def test_save_and_load(embeddings, tmp_path):
    path = tmp_path / "texts.safetensors"
    embeddings.save(path)
    loaded = TextEmbeddings.load(path)
    assert loaded.vocabulary == embeddings.vocabulary
    assert loaded.encoder_fingerprint == embeddings.encoder_fingerprint
    assert (loaded.text_length, loaded.hash) == ("short", embeddings.hash)
    assert torch.equal(loaded.embeddings, embeddings.embeddings)
    assert [p.name for p in tmp_path.iterdir()] == ["texts.safetensors"]


def test_cache_is_used_and_mended(encoder, tmp_path):
    vocabulary = Vocabulary.parse("mug. fork")
    first = TextEmbeddings.encode(vocabulary, encoder, cache_dir=tmp_path / "cache")
    encoder.asked.clear()
    again = TextEmbeddings.encode(vocabulary, encoder, cache_dir=tmp_path / "cache")
    assert not encoder.asked
    assert torch.equal(again.embeddings, first.embeddings)
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(b"broken")
    TextEmbeddings.encode(vocabulary, encoder, cache_dir=tmp_path / "cache")
    assert encoder.asked
    assert TextEmbeddings.load(file).hash == first.hash


def test_another_encoder_does_not_get_this_ones_cache(encoder, tmp_path):
    vocabulary = Vocabulary.parse("mug")
    TextEmbeddings.encode(vocabulary, encoder, cache_dir=tmp_path)
    other = Encoder("fedcba9876543210")
    TextEmbeddings.encode(vocabulary, other, cache_dir=tmp_path)
    assert other.asked == ["mug"]


def test_other_encoder_is_refused(embeddings):
    embeddings.check_encoder("0123456789abcdef")
    with pytest.raises(
        ValueError,
        match=says("0123456789abcdef", "fedcba9876543210", "encode the vocabulary again"),
    ):
        embeddings.check_encoder(Encoder("fedcba9876543210"))


def test_bad_files_are_named(embeddings, tmp_path):
    with pytest.raises(ValueError, match=says("absent.safetensors", "check the path")):
        TextEmbeddings.load(tmp_path / "absent.safetensors")
    path = tmp_path / "texts.safetensors"
    embeddings.save(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="truncated"):
        TextEmbeddings.load(path)
    save_file({"embeddings": torch.zeros(1, 2)}, path)
    with pytest.raises(
        ValueError, match=says("texts.safetensors", "TextEmbeddings.encode(...).save(path)")
    ):
        TextEmbeddings.load(path)


def test_altered_numbers_are_found(embeddings, tmp_path):
    path = tmp_path / "texts.safetensors"
    embeddings.save(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="altered"):
        TextEmbeddings.load(path)


def _rewrite_labels(path, **changes):
    """Replace labels of a file and leave its numbers; None drops one."""
    with safe_open(path, framework="pt") as file:
        labels, numbers = file.metadata(), file.get_tensor("embeddings")
    labels = {key: value for key, value in {**labels, **changes}.items() if value is not None}
    save_file({"embeddings": numbers}, path, metadata=labels)


ALTERED_LABELS = [
    {"vocabulary": "{"},
    {"vocabulary": None},
    {"vocabulary": '["mug", "knife"]'},
    {"vocabulary": '["mug"]'},
    {"hash": None},
    {"text_length": None},
    {"encoder_fingerprint": "fedcba9876543210"},
]


@pytest.mark.parametrize("changes", ALTERED_LABELS)
def test_altered_labels_are_found(embeddings, tmp_path, changes):
    path = tmp_path / "texts.safetensors"
    embeddings.save(path)
    _rewrite_labels(path)
    assert TextEmbeddings.load(path).hash == embeddings.hash
    _rewrite_labels(path, **changes)
    with pytest.raises(ValueError, match=r"texts\.safetensors' was altered"):
        TextEmbeddings.load(path)


@pytest.mark.parametrize("changes", ALTERED_LABELS)
def test_cache_with_altered_labels_is_remade(encoder, tmp_path, changes):
    vocabulary = Vocabulary.parse("mug. fork")
    first = TextEmbeddings.encode(vocabulary, encoder, cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    _rewrite_labels(file, **changes)
    encoder.asked.clear()
    again = TextEmbeddings.encode(vocabulary, encoder, cache_dir=tmp_path)
    assert sorted(encoder.asked) == ["fork", "mug"]
    assert again.hash == first.hash


def test_numbers_of_another_shape_are_refused(embeddings, tmp_path):
    path = tmp_path / "texts.safetensors"
    embeddings.save(path)
    with safe_open(path, framework="pt") as file:
        labels, numbers = file.metadata(), file.get_tensor("embeddings")
    for wrong in (numbers.flatten(), numbers[:1], torch.tensor(1.0)):
        save_file({"embeddings": wrong.clone()}, path, metadata=labels)
        with pytest.raises(ValueError, match="altered"):
            TextEmbeddings.load(path)


def test_everything_survives_the_file(encoder, tmp_path):
    vocabulary = Vocabulary.parse(
        {"кружка": ["a mug", "a cup"], "fork": ["a fork"]},
        templates="photos",
        groups={"novel": ["fork"]},
    )
    made = TextEmbeddings.encode(vocabulary, encoder, text_length="long")
    # The folder is made.
    path = tmp_path / "new" / "texts.safetensors"
    made.save(path)
    loaded = TextEmbeddings.load(path)
    for label in ("names", "prompts", "templates", "groups", "text_length", "dim", "hash"):
        assert getattr(loaded, label) == getattr(made, label), label
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["vocabulary"]) == vocabulary.to_dict()


def test_each_text_length_has_its_own_cache(encoder, tmp_path):
    vocabulary = Vocabulary.parse("mug")
    for text_length in ("short", "long"):
        encoder.asked.clear()
        TextEmbeddings.encode(vocabulary, encoder, text_length, cache_dir=tmp_path)
        assert encoder.asked == ["mug"]


def test_cache_hits_go_to_the_device_of_the_encoder(encoder, tmp_path):
    vocabulary = Vocabulary.parse("mug")
    TextEmbeddings.encode(vocabulary, encoder, cache_dir=tmp_path)
    encoder.device = torch.device("meta")
    found = TextEmbeddings.encode(vocabulary, encoder, cache_dir=tmp_path)
    assert found.embeddings.device.type == "meta"


def test_templates_are_averaged_by_hand():
    directions = {"a x": [3.0, 0.0], "the x": [0.0, 0.5]}

    class Plane(Encoder):
        def encode_text(self, texts, text_length="short", normalize=False):
            rows = torch.tensor([directions[text] for text in texts])
            return F.normalize(rows, dim=-1) if normalize else rows

    vocabulary = Vocabulary.parse("x", templates=["a {}", "the {}"])
    made = TextEmbeddings.encode(vocabulary, Plane())
    # The lengths 3 and 0.5 do not weigh: the mean of the two axes is the diagonal.
    torch.testing.assert_close(made.embeddings, torch.tensor([[0.5**0.5, 0.5**0.5]]))


def test_embeddings_compare_by_identity(embeddings):
    assert embeddings == embeddings
    assert embeddings != embeddings.to("cpu")
    assert len({embeddings, embeddings.to("cpu")}) == 2


def test_groups_win_over_the_default_names(encoder):
    vocabulary = Vocabulary.parse("mug. fork. plate", groups={"base": ["fork"]})
    made = TextEmbeddings.encode(vocabulary, encoder)
    assert made.is_base(["mug", "plate"]).tolist() == [False, True, False]


def test_is_base(encoder, embeddings):
    assert embeddings.is_base().tolist() == [True, False]
    free = TextEmbeddings.encode(Vocabulary.parse("a Mug. the fork. spoon"), encoder)
    assert free.is_base(["mug", "a spoon"]).tolist() == [True, False, True]
    assert free.is_base().tolist() == [False, False, False]
    by_prompt = TextEmbeddings.encode(Vocabulary.parse({"it": ["a mug"]}), encoder)
    assert by_prompt.is_base(["mug"]).tolist() == [True]


def test_find(encoder, embeddings):
    words = Vocabulary.parse({"a Fork": ["it"], "it": ["a thing", "the mug"], "cup": ["cup"]})
    asked = TextEmbeddings.encode(words, encoder)
    assert asked.find(["mug", "plate", "fork", "fork"]).tolist() == [2, 0, -1]
    assert asked.find([]).tolist() == [-1, -1, -1]
    # Groups tell nothing here.
    assert embeddings.find(["fork"]).tolist() == [-1, 0]


def test_subset_keeps_rows_with_names(embeddings):
    novel = embeddings.subset("novel")
    assert novel.names == ("fork",)
    assert torch.equal(novel.embeddings, embeddings.embeddings[1:])
    assert embeddings.to("cpu").names == embeddings.names


def test_negatives_come_behind_and_do_not_repeat(encoder):
    asked = TextEmbeddings.encode(Vocabulary.parse("a mug. a fork"), encoder)
    others = TextEmbeddings.encode(Vocabulary.parse({"Fork": ["x"], "plate": ["a plate"]}), encoder)
    joined = asked.with_negatives(others)
    assert joined.names == ("a mug", "a fork", "plate")
    torch.testing.assert_close(joined.embeddings[:2], asked.embeddings)
    torch.testing.assert_close(joined.embeddings[2], others.embeddings[1])
    foreign = TextEmbeddings.encode(Vocabulary.parse("cup"), Encoder("fedcba9876543210"))
    with pytest.raises(
        ValueError,
        match=says("fedcba9876543210", "0123456789abcdef", "encode the vocabulary again"),
    ):
        asked.with_negatives(foreign)


def test_negatives_that_say_the_same_in_other_words_are_left_out(encoder):
    asked = TextEmbeddings.encode(Vocabulary.parse("red-striped mugs. mouse (animal)"), encoder)
    others = ["a Red striped mug", "red striped mug_(cup)", "mouse", "mouse (device)", "red mug"]
    joined = asked.with_negatives(TextEmbeddings.encode(Vocabulary.parse(others), encoder))
    assert joined.names[2:] == ("mouse (device)", "red mug")


def test_negatives_leave_the_groups_as_they_are(encoder):
    groups = {"novel": ["mug"], "base": ["fork"]}
    asked = TextEmbeddings.encode(Vocabulary.parse("mug. fork", groups=groups), encoder)
    plain = TextEmbeddings.encode(Vocabulary.parse("plate"), encoder)
    assert asked.with_negatives(plain).is_base(["mug", "plate"]).tolist() == [False, True, False]
    grouped = Vocabulary.parse("plate. cup", groups={"base": ["cup"], "novel": ["plate"]})
    joined = asked.with_negatives(TextEmbeddings.encode(grouped, encoder))
    assert joined.is_base().tolist() == [False, True, False, True]
