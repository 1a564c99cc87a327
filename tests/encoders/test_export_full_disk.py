"""An encoder is exported whole or not at all, and its texts' embeddings likewise."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from fgclip_det.encoders import load_encoder
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from tests.tiny_encoders import tiny_fgclip, tiny_fgclip2


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("make", [tiny_fgclip, tiny_fgclip2])
def test_an_encoder_on_a_disk_that_fills_up(tmp_path: Path, make, room_for, fill_disk) -> None:
    old, new = make(seed=1, speaks=True, patch_size=14), make(seed=2, speaks=True)
    old.save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("kept")
    before = _content(tmp_path)
    largest = max(map(len, before.values()))
    for size in [*range(0, 3000, 300), *range(3000, largest, largest // 15)]:
        with pytest.raises(OSError), room_for(size):
            new.save_pretrained(tmp_path)
        assert _content(tmp_path) == before
    for files in itertools.count():
        fill_disk(files)
        try:
            new.save_pretrained(tmp_path)
        except OSError:
            assert _content(tmp_path) == before
        else:
            break
    assert files >= len(before) - 1
    assert load_encoder(tmp_path).fingerprint == new.fingerprint
    assert (tmp_path / "README.md").read_text() == "kept"


def test_text_embeddings_on_a_disk_that_fills_up(tmp_path: Path, room_for, fill_disk) -> None:
    path = tmp_path / "t.safetensors"
    old, new = (
        TextEmbeddings(Vocabulary.parse(names), torch.randn(2, 100), "0" * 16)
        for names in ("a. b", "c. d")
    )
    old.save(path)
    for size in range(0, path.stat().st_size, 50):
        with pytest.raises(OSError), room_for(size):
            new.save(path)
        assert TextEmbeddings.load(path).hash == old.hash
        assert list(tmp_path.iterdir()) == [path]
    fill_disk(0)
    with pytest.raises(OSError):
        new.save(path)
    fill_disk(1)
    assert TextEmbeddings.load(path).hash == old.hash
    new.save(path)
    assert TextEmbeddings.load(path).hash == new.hash
    assert list(tmp_path.iterdir()) == [path]
