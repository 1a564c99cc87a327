"""The tool as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgclip_det.apis.detector_loading import BUNDLED
from fgclip_det.vocabulary import RegionBank

BUNDLED_MODEL = ["--model", "bundled", "--device", "cpu"]


def test_writes_a_bank(main, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "new" / "bank.safetensors"
    pictures = str(BUNDLED / "images")
    assert main([pictures, "--out", str(out), "--number", "5", *BUNDLED_MODEL]) == 0
    assert capsys.readouterr().out == f"5 regions; written to {out}\n"
    assert len(RegionBank.load(out)) == 5
    assert main([pictures, "--out", str(out), "--number", "5000", *BUNDLED_MODEL]) == 0
    said = capsys.readouterr()
    count = len(RegionBank.load(out))
    assert f"note: the pictures have {count} regions, fewer than the 5000" in said.err
    assert said.out == f"{count} regions; written to {out}\n"


def test_mistakes_are_one_line(main, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "bank.safetensors"
    (tmp_path / "empty").mkdir()

    def fails(*arguments: object) -> str:
        assert main([*map(str, arguments)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        assert not out.exists()
        return error

    picture = BUNDLED / "images"
    assert "holds no picture" in fails(tmp_path / "empty", "--out", out, *BUNDLED_MODEL)
    assert "no picture at" in fails(tmp_path / "none", "--out", out, *BUNDLED_MODEL)
    assert "number is 0" in fails(picture, "--out", out, "--number", 0, *BUNDLED_MODEL)
    assert "--weights belongs to --model" in fails(picture, "--out", out, "--weights", "x.pth")
    assert "is a folder" in fails(picture, "--out", tmp_path, *BUNDLED_MODEL)
    assert "no .safetensors file" in fails(picture, "--out", tmp_path / "a.png", *BUNDLED_MODEL)
    assert "preset" in fails(picture, "--out", out, "--preset", "none")
