import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fgclip_det.encoders import FGCLIP, FGCLIPConfig, pretrained
from fgclip_det.hub import repositories
from tests.messages import says
from tests.tiny_encoders import tiny_fgclip


@pytest.fixture
def directory(tmp_path):
    tiny_fgclip().save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def _edit_weights(directory, edit):
    path = directory / pretrained.WEIGHTS_NAME
    weights = load_file(path)
    edit(weights)
    save_file(weights, path)


def test_round_trip(directory):
    model = FGCLIP.from_pretrained(directory)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert model.logit_scale.dtype == torch.float32
    assert model.config == FGCLIPConfig.tiny()


def test_half_precision_weights_load_as_float32(directory):
    model = FGCLIP.from_pretrained(directory)
    model.save_pretrained(directory, torch.float16)
    loaded = FGCLIP.from_pretrained(directory)
    weight = "visual_projection.weight"
    assert loaded.state_dict()[weight].dtype == torch.float32
    torch.testing.assert_close(
        loaded.state_dict()[weight], model.state_dict()[weight].half().float()
    )


def test_shards(directory):
    whole = FGCLIP.from_pretrained(directory)
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
    assert FGCLIP.from_pretrained(directory).fingerprint == whole.fingerprint
    (directory / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match="lacks the shard 'model-00002"):
        FGCLIP.from_pretrained(directory)


def test_index_may_not_point_outside(directory):
    (directory / pretrained.WEIGHTS_NAME).rename(directory.parent / pretrained.WEIGHTS_NAME)
    index = directory / pretrained.INDEX_NAME
    index.write_text(json.dumps({"weight_map": {"logit_scale": "../model.safetensors"}}))
    with pytest.raises(ValueError, match="outside its own directory"):
        FGCLIP.from_pretrained(directory)


def test_every_fault_is_listed(directory):
    def edit(weights):
        del weights["logit_scale"], weights["visual_projection.weight"]
        weights["stray.weight"] = torch.zeros(1)
        weights["text_projection.weight"] = torch.zeros(2, 2)

    _edit_weights(directory, edit)
    with pytest.raises(ValueError) as raised:
        FGCLIP.from_pretrained(directory)
    for words in (
        "missing logit_scale",
        "missing visual_projection.weight",
        "unexpected stray.weight",
        "text_projection.weight is (2, 2), expected (20, 24)",
    ):
        assert words in str(raised.value)


def test_derived_buffers_are_passed_over(directory):
    def edit(weights):
        weights["text_model.embeddings.position_ids"] = torch.arange(77)[None]

    _edit_weights(directory, edit)
    FGCLIP.from_pretrained(directory)


def test_truncated_weights(directory):
    path = directory / pretrained.WEIGHTS_NAME
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated"):
        FGCLIP.from_pretrained(directory)


def test_pickled_weights_are_not_touched(directory):
    (directory / pretrained.WEIGHTS_NAME).rename(directory / "pytorch_model.bin")
    with pytest.raises(ValueError, match="convert pickled weights"):
        FGCLIP.from_pretrained(directory)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no complete JSON"),
        ("[]", "not a JSON object"),
        ('{"model_type": "bert"}', "'bert' has no 'vision_config'"),
        (
            '{"vision_config": {"hidden_act": "swish9"}, "text_config": {}}',
            "unknown hidden_act 'swish9'",
        ),
    ],
)
def test_bad_config(directory, text, message):
    (directory / pretrained.CONFIG_NAME).write_text(text)
    with pytest.raises(ValueError, match=message):
        FGCLIP.from_pretrained(directory)


def test_names_that_are_nothing(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=says("absent'", "directory", "hub id")):
        FGCLIP.from_pretrained(tmp_path / "absent")
    file = tmp_path / "file.pth"
    file.touch()
    with pytest.raises(ValueError, match="is a file"):
        FGCLIP.from_pretrained(file)
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        FGCLIP.from_pretrained(tmp_path)

    def offline(*args, **kwargs):
        raise OSError("no route to the hub")

    monkeypatch.setattr(repositories.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(repositories.HfApi, "model_info", offline)
    with pytest.raises(
        ValueError, match=says("'qihoo360/absent'", "no route to the hub", "give its directory")
    ):
        FGCLIP.from_pretrained("qihoo360/absent")


def test_hub_id_reads_the_downloaded_directory(directory, monkeypatch):
    asked = {}

    def fetch(name, revision, kind, files):
        asked.update(name=name, patterns=files)
        return directory

    monkeypatch.setattr(repositories, "fetch", fetch)
    model = FGCLIP.from_pretrained("qihoo360/fg-clip-base")
    assert asked["name"] == "qihoo360/fg-clip-base"
    assert not any(pattern.endswith((".py", ".bin", ".pt")) for pattern in asked["patterns"])
    assert model.fingerprint == FGCLIP.from_pretrained(directory).fingerprint


def test_legacy_end_token_id(directory):
    path = directory / pretrained.CONFIG_NAME
    values = json.loads(path.read_text())
    values["text_config"]["eos_token_id"] = 2
    path.write_text(json.dumps(values))
    assert FGCLIP.from_pretrained(directory).config.text.eos_token_id == 127


def test_failed_write_leaves_the_old_files(directory, monkeypatch):
    def fail(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    monkeypatch.setattr(pretrained, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        tiny_fgclip().save_pretrained(directory)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_missing_end_token_id_is_named(directory):
    path = directory / pretrained.CONFIG_NAME
    values = json.loads(path.read_text())
    values["text_config"]["eos_token_id"] = None
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=says("config.json", "eos_token_id", "None")):
        FGCLIP.from_pretrained(directory)
