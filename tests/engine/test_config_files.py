"""Configs are programs, and only what looks like one is read as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgclip_det.apis.detector_loading import load_detector
from fgclip_det.engine import read_config


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", '{"_base_": "program.py"}'),
        ("config.yaml", "_base_: program.py\n"),
        ("object.yaml", "model: !!python/object/apply:os.mkdir [made]\n"),
        ("config.yml", "_base_: program.py\n"),
        ("config", "made = 1\n"),
    ],
)
def test_what_looks_like_data_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text('import os\nos.mkdir("made")\n')
    (tmp_path / name).write_text(text)
    for read in (read_config, lambda path: load_detector(path, "weights.pth", None)):
        with pytest.raises(ValueError, match=r"no Python file: give one that ends in \.py"):
            read(str(tmp_path / name))
    assert not (tmp_path / "made").exists()


def test_an_error_in_a_config_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("model = 1 / 0\n")
    with pytest.raises(ValueError, match="ZeroDivisionError"):
        read_config(str(tmp_path / "config.py"))


@pytest.mark.parametrize("model", ["[1]", "5", "dict(type=[])", "dict()"])
def test_a_model_that_is_none_is_named(tmp_path: Path, model: str) -> None:
    (tmp_path / "config.py").write_text(f"model = {model}\n")
    with pytest.raises(ValueError, match="give the config of an OpenVocabTwoStageDetector"):
        load_detector(str(tmp_path / "config.py"), "weights.pth", None)
