"""What comes through the standard input."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fgclip_det.apis.inputs.picture_lists import find_images, named_images, to_pixels


def _pipe(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_a_picture_is_told_by_its_bytes(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.full((5, 7, 3), 255, np.uint8)).save(stream, kind)
    _pipe(monkeypatch, stream.getvalue())
    named = named_images(["-"])
    assert named == {"-": "stdin"}
    assert to_pixels(next(iter(named))).shape == (5, 7, 3)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
def test_a_list_of_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str) -> None:
    for name in ("BM.png", "P6 1.png"):
        (tmp_path / name).write_bytes(b"?")
    monkeypatch.chdir(tmp_path)
    _pipe(monkeypatch, f"BM.png{end}P6 1.png{end}".encode())
    assert find_images("-") == [Path("BM.png"), Path("P6 1.png")]


def test_nothing_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    _pipe(monkeypatch, b"\n \n")
    with pytest.raises(ValueError, match="nothing came through the standard input"):
        find_images("-")
