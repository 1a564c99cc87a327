import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from fgclip_det.encoders import (
    FGCLIP,
    FGCLIP2,
    FGCLIP2Config,
    load_encoder,
    pretrained,
)
from fgclip_det.hub import repositories
from tests.messages import says
from tests.tiny_encoders import tiny_fgclip2, tiny_tokenizer


@pytest.fixture
def directory(tmp_path):
    tiny_fgclip2().save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def edit_weights(directory, edit):
    path = directory / pretrained.WEIGHTS_NAME
    weights = load_file(path)
    edit(weights)
    save_file(weights, path)


def edit_config(directory, edit):
    path = directory / pretrained.CONFIG_NAME
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))


def test_round_trip(directory):
    model = FGCLIP2.from_pretrained(directory)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.config == FGCLIP2Config.tiny()
    stored = load_file(directory / pretrained.WEIGHTS_NAME)
    assert all(value.equal(stored[key]) for key, value in model.state_dict().items())


def test_half_precision_weights_load_as_float32(directory):
    model = FGCLIP2.from_pretrained(directory)
    model.save_pretrained(directory, torch.bfloat16)
    weight = FGCLIP2.from_pretrained(directory).state_dict()["boxtext_head.weight"]
    assert weight.dtype == torch.float32
    assert weight.equal(model.boxtext_head.weight.bfloat16().float())


def test_the_published_names_and_config_load(golden_dir, directory):
    published = load_file(golden_dir / "fgclip2_tiny" / pretrained.WEIGHTS_NAME)
    deep = FGCLIP2.from_pretrained(golden_dir / "fgclip2_tiny")
    assert set(deep.state_dict()) == set(published)
    config = deep.config
    assert (config.vision.grid, config.vision.patch_size) == ((5, 5), 8)
    assert (config.text.keep_len, config.text.longtext_len) == (20, 196)


def test_shards(directory):
    whole = FGCLIP2.from_pretrained(directory)
    weights = load_file(directory / pretrained.WEIGHTS_NAME)
    keys = sorted(weights)
    weight_map = {}
    for number, part in enumerate((keys[:10], keys[10:]), start=1):
        name = f"model-0000{number}-of-00002.safetensors"
        save_file({key: weights[key] for key in part}, directory / name)
        weight_map |= dict.fromkeys(part, name)
    (directory / pretrained.WEIGHTS_NAME).unlink()
    index = directory / pretrained.INDEX_NAME
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert FGCLIP2.from_pretrained(directory).fingerprint == whole.fingerprint
    (directory / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match="lacks the shard 'model-00002"):
        FGCLIP2.from_pretrained(directory)


def test_every_fault_is_listed(directory):
    def edit(weights):
        del weights["logit_bias"], weights["dense_feature_head.probe"]
        weights["stray.weight"] = torch.zeros(1)
        weights["longtext_head.weight"] = torch.zeros(2, 2)

    edit_weights(directory, edit)
    with pytest.raises(ValueError) as raised:
        FGCLIP2.from_pretrained(directory)
    for words in (
        "missing logit_bias",
        "missing dense_feature_head.probe",
        "unexpected stray.weight",
        "longtext_head.weight is (2, 2), expected (32, 24)",
    ):
        assert words in str(raised.value)


def test_truncated_weights(directory):
    path = directory / pretrained.WEIGHTS_NAME
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated"):
        FGCLIP2.from_pretrained(directory)


@pytest.mark.parametrize(
    ("edit", "parts"),
    [
        (lambda c: c.update(model_type="bert"), ("'bert'", "model_type 'fgclip2'")),
        (lambda c: c.update(model_type="clip"), ("'clip'", "model_type 'fgclip2'")),
        (lambda c: c.pop("vision_config"), ("vision_config",)),
        (lambda c: c["vision_config"].update(num_patches=15), ("num_patches 15", "square")),
        (
            lambda c: c["text_config"].update(projection_size=9),
            ("32 (hidden_size", "9 (projection_size"),
        ),
        (lambda c: c["vision_config"].update(hidden_act="swish9"), ("hidden_act 'swish9'",)),
        (lambda c: c["text_config"].update(keep_len="x"), ("keep_len", "'x'")),
    ],
)
def test_bad_config(directory, edit, parts):
    edit_config(directory, edit)
    with pytest.raises(ValueError, match=says("config.json", *parts)):
        FGCLIP2.from_pretrained(directory)


def test_an_absent_projection_size_is_the_width_of_the_tower(golden_dir, tmp_path):
    shutil.copytree(golden_dir / "fgclip2_tiny", tmp_path / "encoder")
    edit_config(tmp_path / "encoder", lambda c: c["text_config"].pop("projection_size"))
    assert FGCLIP2.from_pretrained(tmp_path / "encoder").projection_dim == 32


def test_each_generation_is_loaded_by_its_own_class(directory, encoder_dir):
    assert type(load_encoder(encoder_dir)) is FGCLIP
    assert type(load_encoder(directory)) is FGCLIP2
    with pytest.raises(ValueError, match=says("config.json", "'fgclip2'", "FGCLIP2")):
        FGCLIP.from_pretrained(directory)
    with pytest.raises(ValueError, match=says("config.json", "'clip'", "FG-CLIP 2")):
        FGCLIP2.from_pretrained(encoder_dir)


def test_hub_id_reads_the_downloaded_directory(directory, monkeypatch):
    asked = []

    def fetch(name, revision, kind, files):
        asked.append(name)
        assert not any(pattern.endswith((".py", ".bin", ".pt")) for pattern in files)
        return directory

    monkeypatch.setattr(repositories, "fetch", fetch)
    model = load_encoder("qihoo360/fg-clip2-base")
    assert asked == ["qihoo360/fg-clip2-base"]
    assert model.fingerprint == FGCLIP2.from_pretrained(directory).fingerprint


def test_pixel_statistics_are_the_checkpoints(directory):
    assert FGCLIP2.from_pretrained(directory).image_mean == (0.5, 0.5, 0.5)
    path = directory / "preprocessor_config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "image_mean": [0.1, 0.2, 0.3]}))
    assert FGCLIP2.from_pretrained(directory).image_mean == (0.1, 0.2, 0.3)


def test_the_stored_tokenizer_is_taken_as_it_is(directory):
    tiny_fgclip2(speaks=True).save_pretrained(directory)
    path = directory / "tokenizer_config.json"
    values = json.loads(path.read_text())
    # The class of the published checkpoints, which has another pipeline than the stored one.
    path.write_text(json.dumps({**values, "tokenizer_class": "GemmaTokenizer"}))
    tokenizer = FGCLIP2.from_pretrained(directory).tokenizer
    expected = tiny_tokenizer()(["a red mug"])["input_ids"]
    assert tokenizer(["a red mug"])["input_ids"] == expected


def test_an_end_token_precedes_the_padding_and_survives_a_cut(directory):
    words = ["<pad>", "<eos>", "<unk>", "a", "red", "mug"]
    stored = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    stored.pre_tokenizer = Whitespace()
    stored.post_processor = TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    stored.save(str(directory / "tokenizer.json"))
    options = {"pad_token": {"content": "<pad>"}, "add_eos_token": True}
    (directory / "tokenizer_config.json").write_text(json.dumps(options))
    model = FGCLIP2.from_pretrained(directory)
    with pytest.warns(UserWarning, match=says("1 caption", "64 tokens")):
        row, cut = model.tokenize(["A red Mug", "mug " * 99]).tolist()
    assert row == [3, 4, 5, 1] + [0] * 60
    assert cut == [5] * 63 + [1]


def test_broken_tokenizers_are_named(directory):
    assert FGCLIP2.from_pretrained(directory)._tokenizer is None
    tiny_tokenizer().save_pretrained(directory)
    (directory / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ValueError, match="names no pad_token"):
        FGCLIP2.from_pretrained(directory)
    (directory / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="cannot be read"):
        FGCLIP2.from_pretrained(directory)
