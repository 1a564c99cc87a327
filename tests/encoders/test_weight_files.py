"""Weights, their index and the tokenizer's files in every state that a disk can give them."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fgclip_det.encoders import FGCLIP2, load_encoder, pretrained
from tests.messages import says
from tests.tiny_encoders import tiny_fgclip, tiny_fgclip2, tiny_tokenizer

KEY = "visual_projection.weight"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    tiny_fgclip(speaks=True).save_pretrained(folder)
    return folder


@pytest.fixture
def directory(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "encoder"))


def _refused(directory: Path) -> str:
    with pytest.raises(ValueError) as caught:
        load_encoder(directory)
    message = str(caught.value)
    assert len(message) < 900 and message.isprintable()
    return message


def _edit_weights(directory: Path, edit: Callable[[dict], Any]) -> None:
    weights = load_file(directory / pretrained.WEIGHTS_NAME)
    edit(weights)
    save_file(weights, directory / pretrained.WEIGHTS_NAME)


@pytest.mark.parametrize("tiny", [tiny_fgclip, tiny_fgclip2])
def test_no_number_is_drawn_for_weights_that_are_read(tmp_path: Path, tiny: Callable) -> None:
    saved = tiny()
    saved.save_pretrained(tmp_path)
    before = torch.get_rng_state()
    read = load_encoder(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert read.fingerprint == saved.fingerprint
    # All that a model holds is in its file: nothing else is filled in.
    assert {name for name, _ in read.named_buffers()} <= set(read.state_dict())


@pytest.mark.parametrize("labels", [None, {}, {"format": "pt"}])
def test_weights_are_read_with_labels_or_without(directory: Path, labels: dict | None) -> None:
    path = directory / pretrained.WEIGHTS_NAME
    before, content = load_encoder(directory).fingerprint, path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    told = json.dumps({**header, "__metadata__": labels}).encode()
    path.write_bytes(struct.pack("<Q", len(told)) + told + content[8 + length :])
    assert load_encoder(directory).fingerprint == before


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("key", [KEY, "logit_scale", "text_model.final_layer_norm.bias"])
def test_a_weight_that_is_no_number_is_named(directory, value, dtype, key: str) -> None:
    load_encoder(directory).save_pretrained(directory, dtype)
    _edit_weights(directory, lambda weights: weights[key].view(-1)[-1:].fill_(value))
    assert says("encoder'", key, "NaN", "1 times").search(_refused(directory))


def test_a_number_beyond_float32_is_named(directory: Path) -> None:
    def edit(weights: dict) -> None:
        weights[KEY] = weights[KEY].double()
        weights[KEY][0, 0] = 1e300

    _edit_weights(directory, edit)
    assert says("encoder'", KEY).search(_refused(directory))


def test_a_weight_of_fg_clip_2_that_is_no_number_is_named(tmp_path: Path) -> None:
    tiny_fgclip2().save_pretrained(tmp_path)
    _edit_weights(tmp_path, lambda weights: weights["logit_bias"].fill_(float("nan")))
    with pytest.raises(ValueError, match=says("logit_bias", "NaN")):
        FGCLIP2.from_pretrained(tmp_path)


def test_many_faults_are_counted_and_stand_in_a_file(directory: Path, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    whole = len(load_encoder(directory).state_dict())
    kept = load_file(directory / pretrained.WEIGHTS_NAME)
    kept = {key: value for key, value in kept.items() if "embedding" in key}
    save_file(kept, directory / pretrained.WEIGHTS_NAME)
    message = _refused(directory)
    (path,) = tmp_path.glob("fgclip_det-*.txt")
    listed = path.read_text().splitlines()
    assert len(listed) == whole - len(kept)
    assert listed[0] in message and listed[4] in message and listed[5] not in message
    assert says(f"{len(listed) - 5} more", str(path)).search(message)


def _header(text: str | bytes, length: int | None = None, rest: bytes = b"") -> bytes:
    content = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(content) if length is None else length) + content + rest


HEADERS = {
    "nothing": b"",
    "no header": b"\1\0\0\0\0\0\0\0",
    "a length beyond the file": _header("{}", 10**6),
    "a length beyond all": _header("{}", 2**63),
    "an empty header": _header("", 0),
    "a list": _header("[]"),
    "a text": _header('"x"'),
    "deep": _header('{"a":' * 100_000),
    "a tensor that is a list": _header('{"a": []}'),
    "a tensor of nothing": _header('{"a": {}}'),
    "a negative side": _header('{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}'),
    "a gigantic side": _header(
        f'{{"a": {{"dtype": "F32", "shape": [1{"0" * 400}], "data_offsets": [0, 4]}}}}'
    ),
    "sides of too much": _header(
        '{"a": {"dtype": "F32", "shape": [1000000, 1000000], "data_offsets": [0, 4]}}', rest=b"1234"
    ),
    "bytes beyond the file": _header(
        '{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}', rest=b"1234"
    ),
    "bytes backwards": _header(
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}', rest=b"1234"
    ),
    "an unknown dtype": _header(
        '{"a": {"dtype": "\\u001b[31m", "shape": [1], "data_offsets": [0, 4]}}', rest=b"1234"
    ),
    "labels that are numbers": _header('{"__metadata__": {"a": 1}}'),
    "a name of half a pair": _header('{"\\ud800": 1}'),
    "another file": b"\x80\x04" + b"x" * 5000,
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_headers_of_weights(directory: Path, content: bytes) -> None:
    (directory / pretrained.WEIGHTS_NAME).write_bytes(content)
    message = _refused(directory)
    assert pretrained.WEIGHTS_NAME in message or "weights in" in message


def test_a_header_without_end(directory: Path) -> None:
    path = directory / pretrained.WEIGHTS_NAME
    path.write_bytes(_header("", 100_000_000))
    os.truncate(path, 200_000_000)  # a hole, which takes no room
    assert says("model.safetensors'", "100 MB").search(_refused(directory))


OTHER_KINDS = ["pipe", "device", "folder", "link to nothing", "link to itself"]
READ = [
    pretrained.CONFIG_NAME,
    pretrained.WEIGHTS_NAME,
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
]


def _replace_by(path: Path, kind: str) -> None:
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        targets = {"device": "/dev/zero", "link to nothing": "none", "link to itself": path.name}
        path.symlink_to(targets[kind])


@pytest.mark.parametrize("kind", OTHER_KINDS)
@pytest.mark.parametrize("name", READ)
def test_no_file_of_an_encoder_is_waited_for(directory: Path, name: str, kind: str) -> None:
    _replace_by(directory / name, kind)
    assert f"{name}'" in _refused(directory)


@pytest.mark.parametrize("kind", OTHER_KINDS)
@pytest.mark.parametrize("name", [pretrained.INDEX_NAME, "shard.safetensors"])
def test_no_shard_is_waited_for(directory: Path, name: str, kind: str) -> None:
    (directory / pretrained.WEIGHTS_NAME).rename(directory / "shard.safetensors")
    _write_index(directory, {KEY: "shard.safetensors"})
    _replace_by(directory / name, kind)
    assert name in _refused(directory)


def _write_index(directory: Path, weight_map: Any) -> None:
    (directory / pretrained.INDEX_NAME).write_text(json.dumps({"weight_map": weight_map}))


INDICES = {
    "empty": "",
    "a list": "[]",
    "null": "null",
    "no map": "{}",
    "map of none": '{"weight_map": null}',
    "map of number": '{"weight_map": 3}',
    "map of list": '{"weight_map": [["a", "shard.safetensors"]]}',
    "map of nothing": '{"weight_map": {}}',
    "number": '{"weight_map": {"a": 1}}',
    "none": '{"weight_map": {"a": null}}',
    "bool": '{"weight_map": {"a": true}}',
    "list": '{"weight_map": {"a": ["shard.safetensors"]}}',
    "object": '{"weight_map": {"a": {}}}',
    "above": '{"weight_map": {"a": "../shard.safetensors"}}',
    "absolute": '{"weight_map": {"a": "/dev/zero"}}',
    "in a folder": '{"weight_map": {"a": "sub/shard.safetensors"}}',
    "back": '{"weight_map": {"a": "..\\\\shard.safetensors"}}',
    "nameless": '{"weight_map": {"a": ""}}',
    "itself": '{"weight_map": {"a": "."}}',
    "its folder": '{"weight_map": {"a": ".."}}',
    "zero": '{"weight_map": {"a": "shard\\u0000.safetensors"}}',
    "control": '{"weight_map": {"a": "\\u001b[2J"}}',
    "long": f'{{"weight_map": {{"a": "{"x" * 5000}"}}}}',
    "missing": '{"weight_map": {"a": "none.safetensors"}}',
    "no such key": '{"weight_map": {"a": "shard.safetensors"}}',
    "key twice": '{"weight_map": {"a": "shard.safetensors", "a": "shard.safetensors"}}',
    "deep": '{"weight_map": ' * 100_000,
}


@pytest.mark.parametrize("text", INDICES.values(), ids=INDICES)
def test_index_files_of_other_shapes(directory: Path, text: str) -> None:
    (directory / pretrained.WEIGHTS_NAME).rename(directory / "shard.safetensors")
    (directory / pretrained.INDEX_NAME).write_text(text)
    message = _refused(directory)
    assert str(directory) in message and ("index" in message or "shard" in message)


def test_each_tensor_is_that_of_its_own_shard(directory: Path) -> None:
    expected = load_encoder(directory).fingerprint
    weights = load_file(directory / pretrained.WEIGHTS_NAME)
    other = {key: torch.zeros_like(value) for key, value in weights.items()}
    (directory / pretrained.WEIGHTS_NAME).rename(directory / "a.safetensors")
    save_file(other, directory / "z.safetensors")
    _write_index(directory, dict.fromkeys(weights, "a.safetensors"))
    assert load_encoder(directory).fingerprint == expected
    keys = sorted(weights)
    _write_index(directory, dict.fromkeys(keys, "a.safetensors") | {keys[0]: "z.safetensors"})
    assert load_encoder(directory).fingerprint != expected


@pytest.mark.parametrize("name", READ[3:])
def test_tokenizer_files_without_end(directory: Path, name: str) -> None:
    (directory / name).touch()
    os.truncate(directory / name, 10**9)  # a hole, which takes no room
    assert says(f"{name}'", "1000 MB").search(_refused(directory))


TOKENIZERS = {
    "empty": "",
    "null": "null",
    "a list": "[]",
    "no model": "{}",
    "deep": '{"model":' * 1_000_000,
    "another model": '{"model": {"type": "\\u001b[31m"}}',
    "no merges": '{"model": {"type": "BPE", "vocab": {"a": 0}}}',
    "ids that are texts": '{"model": {"type": "BPE", "vocab": {"a": "b"}, "merges": []}}',
    "negative ids": '{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}',
}


@pytest.mark.parametrize("content", TOKENIZERS.values(), ids=TOKENIZERS)
@pytest.mark.parametrize("make", [tiny_fgclip, tiny_fgclip2])
def test_tokenizer_files_of_other_shapes(tmp_path: Path, make, content: str) -> None:
    make(speaks=True).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)
    assert "tokenizer" in _refused(tmp_path)


@pytest.mark.parametrize("make", [tiny_fgclip, tiny_fgclip2])
def test_a_tokenizer_of_more_tokens_than_the_model_is_refused(tmp_path: Path, make) -> None:
    make().save_pretrained(tmp_path)
    load_encoder(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    last = len(tiny_tokenizer()) - 1
    assert says(last, "vocab_size 128", str(tmp_path) + "'").search(_refused(tmp_path))


@pytest.mark.parametrize(
    "name", ["x" * 5000, "a/" + "b" * 5000, "~nobody-of-this-name/x", "a\0b", "\x1b[2J", "", "."]
)
def test_names_of_no_encoder(name: str) -> None:
    with pytest.raises(ValueError) as caught:
        load_encoder(name)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


def test_shapes_of_weights_that_are_completed(tmp_path: Path) -> None:
    for make, number in ((tiny_fgclip, 1), (tiny_fgclip2, 2)):
        folder = tmp_path / str(number)
        make().save_pretrained(folder)
        weights = load_file(folder / pretrained.WEIGHTS_NAME)
        kept = {k: v for k, v in weights.items() if "_ori" not in k and "_res" not in k}
        for drop in ("text_filip", "logit_scale_", "dense_feature", "boxtext", "longtext"):
            kept = {k: v for k, v in kept.items() if not k.startswith(drop)}
        key = "text_model.embeddings.position_embedding.weight"
        for shape in ((), (5,), (1, 1, 1), (0, 3), (1, 3)):
            save_file({**kept, key: torch.zeros(shape)}, folder / pretrained.WEIGHTS_NAME)
            assert key in _refused(folder)
