"""Checkpoints of detectors in every state that a disk can give them: one line, and no waiting."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from fgclip_det.compat import load_checkpoint_file
from tests.messages import says


def _refused(path: Path) -> str:
    with pytest.raises(ValueError) as caught:
        load_checkpoint_file(path)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 700
    return message


def _saved(path: Path, value: Any, **options) -> Path:
    torch.save(value, path, **options)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(tmp_path: Path, suffix: str, value: float) -> None:
    weights = {"a.weight": torch.ones(3), "b.bias": torch.tensor([1.0, value])}
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        for content in ({"state_dict": weights, "meta": {}}, {"model": weights}, weights):
            assert says(f"w{suffix}'", "'b.bias'", "1 times").search(
                _refused(_saved(path, content))
            )
    else:
        safetensors.torch.save_file(weights, path)
        assert says(f"w{suffix}'", "'b.bias'", "1 times").search(_refused(path))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link to nothing"])
def test_no_checkpoint_is_waited_for(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    {
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": path.mkdir,
        "link to nothing": lambda: path.symlink_to("none"),
    }[kind]()
    assert says(f"w{suffix}'", "cannot be read").search(_refused(path))


def test_an_archive_that_unpacks_to_more_is_not_unpacked(tmp_path: Path) -> None:
    stored = _saved(tmp_path / "stored.pth", {"state_dict": {"a": torch.zeros(10**6)}})
    load_checkpoint_file(stored)
    packed = tmp_path / "packed.pth"
    with zipfile.ZipFile(stored) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    assert says("packed.pth'", "unpack", packed.stat().st_size).search(_refused(packed))


def test_a_tensor_of_more_than_was_stored_is_refused(tmp_path: Path) -> None:
    # An expanded tensor repeats what it has, and is what its shape says when it is loaded.
    path = _saved(tmp_path / "w.pth", {"state_dict": {"a": torch.zeros(1).expand(10**12)}})
    assert load_checkpoint_file(path)["state_dict"]["a"].shape == (10**12,)
    stored = {"state_dict": {"a": torch.zeros(321)}}
    with zipfile.ZipFile(_saved(path, stored)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for key, value in entries.items():
            archive.writestr(key, _larger(value) if key.endswith("data.pkl") else value)
    assert "w.pth'" in _refused(path)
    legacy = _saved(tmp_path / "old.pth", stored, _use_new_zipfile_serialization=False)
    legacy.write_bytes(_larger(legacy.read_bytes()))
    assert "old.pth'" in _refused(legacy)


def _larger(content: bytes) -> bytes:
    """The last 321 is the shape; the number of stored elements stands before it."""
    place = content.rindex(b"M\x41\x01", 0, content.rindex(b"K\x01"))
    return content[:place] + b"J\x00\x00\x00\x10" + content[place + 3 :]


def _self_nested() -> list:
    nested: list = []
    nested.append(nested)
    return nested


def _deep_tuple(depth: int) -> bytes:
    return b"\x80\x02" + b")" + b"\x85" * depth + b"."


def test_content_that_holds_itself_or_is_deep(tmp_path: Path) -> None:
    weights = {"a": torch.ones(1)}
    loaded = load_checkpoint_file(
        _saved(tmp_path / "w.pth", {"state_dict": weights, "meta": {"x": _self_nested()}})
    )
    assert loaded["state_dict"].keys() == {"a"}
    itself: dict[str, Any] = {**weights}
    itself["state_dict"] = itself
    load_checkpoint_file(_saved(tmp_path / "itself.pth", itself))
    content = io.BytesIO()
    torch.save({"state_dict": weights}, content)
    deep = tmp_path / "deep.pth"
    with zipfile.ZipFile(content) as old, zipfile.ZipFile(deep, "w") as new:
        for entry in old.infolist():
            is_pickle = entry.filename.endswith("data.pkl")
            new.writestr(entry, _deep_tuple(20_000) if is_pickle else old.read(entry))
    assert says("deep.pth'", "deep").search(_refused(deep))


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {}},
        {"state_dict": {1: torch.ones(1)}},
        {"state_dict": {("a",): torch.ones(1), "b": torch.ones(1)}},
        {"state_dict": [torch.ones(1)]},
        {"\x1b[31m" * 99: 1},
        {"state_dict": None},
        _self_nested(),
        torch.ones(1),
        None,
        3,
    ],
    ids=str,
)
def test_content_of_other_kinds(tmp_path: Path, content: Any) -> None:
    assert "w.pth'" in _refused(_saved(tmp_path / "w.pth", content))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        b"PK\x05\x06" + b"\xff" * 18,
        b"\x80",
        b"\x80\x02.",
        b"\0" * 999,
        pickle.dumps({"state_dict": 1})[:-3],
        b"\x80\x02cos\nsystem\n.",
        b"\x80\x02c\x1b[31m\nb\n.",
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_bytes_of_other_kinds(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    assert f"w{suffix}'" in _refused(path)


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-of-this-name/w.pth", "a\0b", "\x1b[2J.pth"])
def test_names_of_no_checkpoint(name: str) -> None:
    with pytest.raises(ValueError) as caught:
        load_checkpoint_file(name)
    assert str(caught.value).isprintable()
