"""Vocabularies and text embeddings in every state that a disk can give them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fgclip_det.io import read_tensor_header
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from fgclip_det.vocabulary.vocabulary import LONGEST_TEXT
from tests.messages import says

HALF = "\ud800"
# As a name of bytes that are no UTF-8 comes from a command line.
STRAY = "caf\udce9"


def _refused(spec: object, **options) -> str:
    with pytest.raises(ValueError) as caught:
        Vocabulary.parse(spec, **options)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 600
    return message


@pytest.mark.parametrize("text", [HALF, STRAY, f"a {HALF}\x1b[31m mug"])
def test_half_a_surrogate_pair_is_refused_wherever_it_stands(text: str) -> None:
    for spec in ([text], f"a mug. {text}", {"mug": [text]}, {text: ["mug"]}, [["mug", text]]):
        assert says("surrogate").search(_refused(spec))
    assert says("surrogate").search(_refused(["mug"], templates=[f"{text} {{}}"]))
    groups = {"base": [text]}
    assert "group" in _refused(["mug"], groups=groups)


@pytest.mark.parametrize(
    "name", ["a\0b", "a\x1b[31mb", "a\u2028b", "🂡 mug", "\u202eabc", "a\u0301"]
)
def test_odd_names_are_carried_through(name: str, tmp_path: Path) -> None:
    vocabulary = Vocabulary.parse([name])
    assert vocabulary.names == (" ".join(name.split()) if name != "a\x1b[31mb" else name,)
    vocabulary.to_json(tmp_path / "v.json")
    assert Vocabulary.parse(tmp_path / "v.json") == vocabulary
    made = TextEmbeddings(vocabulary, torch.ones(1, 3), "0" * 16)
    made.save(tmp_path / "t.safetensors")
    loaded = TextEmbeddings.load(tmp_path / "t.safetensors")
    assert loaded.names == vocabulary.names and loaded.hash == made.hash


FILES = {
    "half a pair.json": b'["\\ud800"]',
    "twice.json": b'{"mug": ["a mug"], "cup": ["a cup"], "mug": ["a red mug"]}',
    "deep.json": b"[" * 100_000,
    "number.json": b"3",
    "numbers.json": b"[1, 2]",
    "gigantic.json": b"[1" + b"0" * 400 + b"]",
    "infinite.json": b'{"names": ["a"], "templates": [1e400]}',
    "groups.json": b'{"names": ["a"], "groups": [["a"]]}',
    "control.json": b'{"names": "\\u001b[2J"}',
    "empty.txt": b"",
    "zeros.txt": b"\0" * 50,
    "utf-16.txt": "a mug\na cup\n".encode("utf-16"),
    "utf-16 without a mark.txt": "a mug\na cup\n".encode("utf-16-le"),
    "latin.txt": "café\n".encode("latin-1"),
    "one line.txt": b"a" * (LONGEST_TEXT + 1),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_vocabulary(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    assert len(_refused(tmp_path / name)) > 20


def test_a_vocabulary_of_one_line_without_end(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.touch()
    os.truncate(path, 100_000_000)  # a hole, which takes no room
    assert says("names.txt'", "64 MB").search(_refused(path))


@pytest.mark.parametrize("name", ["names.txt", "names.json", "pipe/names.txt", "a\0b.txt"])
def test_no_vocabulary_is_waited_for(tmp_path: Path, name: str) -> None:
    if "/" not in name and "\0" not in name:
        os.mkfifo(tmp_path / name)
    assert "cannot be read" in _refused(str(tmp_path / name))


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_line_ends_and_marks(tmp_path: Path, ends: str, encoding: str) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(ends.join(["a mug", "# note", "a cup | a red cup", ""]).encode(encoding))
    assert Vocabulary.parse(path).prompts == (("a mug",), ("a red cup",))


def test_many_unknown_names_stand_in_a_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names = [f"name {number:03}" for number in range(900)]
    with pytest.raises(ValueError) as caught:
        Vocabulary.parse("a mug").subset(names)
    (path,) = tmp_path.iterdir()
    assert path.read_text().splitlines() == [repr(name) for name in names]
    assert says("'name 004'", "895 more", str(path)).search(str(caught.value))
    assert "name 005" not in str(caught.value)


@pytest.fixture
def embeddings(tmp_path: Path) -> Path:
    vocabulary = Vocabulary.parse("a mug. a cup")
    TextEmbeddings(vocabulary, torch.eye(2, 5), "0" * 16).save(tmp_path / "t.safetensors")
    return tmp_path / "t.safetensors"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_embeddings_that_are_no_numbers_are_named(embeddings: Path, tmp_path, value) -> None:
    made = TextEmbeddings(Vocabulary.parse("a mug. a cup"), torch.full((2, 5), value), "0" * 16)
    with pytest.raises(ValueError, match=says("'embeddings'", "10 times")):
        made.save(tmp_path / "new" / "t.safetensors")
    assert not (tmp_path / "new").exists()
    labels = {**read_tensor_header(embeddings).labels, "hash": made.hash}
    save_file({"embeddings": made.embeddings}, embeddings, metadata=labels)
    with pytest.raises(ValueError, match=says("t.safetensors'", "'embeddings'", "10 times")):
        TextEmbeddings.load(embeddings)


@pytest.mark.parametrize(
    "change",
    [
        {"vocabulary": '"names.txt"'},
        {"vocabulary": '["a mug", "a cup"]'},
        {"vocabulary": '{"names": "names.txt"}'},
        {"vocabulary": '{"names": 3}'},
        {"vocabulary": "{}"},
        {"vocabulary": "[" * 100_000},
        {"vocabulary": '{"names": {"a mug": ["a"], "\\ud800": ["b"]}}'},
        {"hash": ""},
        {"text_length": "long"},
        {"encoder_fingerprint": "1" * 16},
    ],
    ids=lambda change: json.dumps(change)[:40],
)
def test_altered_labels_are_refused(embeddings: Path, monkeypatch, tmp_path, change: dict) -> None:
    monkeypatch.chdir(tmp_path)
    Path("names.txt").write_text("a mug\na cup\n")
    labels = {**read_tensor_header(embeddings).labels, **change}
    save_file(load_file(embeddings), embeddings, metadata=labels)
    with pytest.raises(ValueError, match=says("t.safetensors'", "altered")):
        TextEmbeddings.load(embeddings)


@pytest.mark.parametrize(
    "tensor", [torch.tensor(1.0), torch.ones(2), torch.ones(3, 5), torch.ones(2, 5).int()]
)
def test_altered_embeddings_are_refused(embeddings: Path, tensor: torch.Tensor) -> None:
    labels = read_tensor_header(embeddings).labels
    for tensors in ({"embeddings": tensor}, {"other": tensor}):
        save_file(tensors, embeddings, metadata=labels)
        with pytest.raises(ValueError, match=says("t.safetensors'", "altered")):
            TextEmbeddings.load(embeddings)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "nothing"])
def test_no_embeddings_are_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "t.safetensors"
    make = {"pipe": lambda: os.mkfifo(path), "folder": path.mkdir, "nothing": lambda: None}
    make.get(kind, lambda: path.symlink_to("/dev/zero"))()
    with pytest.raises(ValueError, match=says("t.safetensors'", "cannot be read")):
        TextEmbeddings.load(path)
