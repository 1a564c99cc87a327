"""The table of parity with the authors' evaluation, on its smallest data set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def folder(golden_dir: Path, tmp_path: Path) -> Path:
    """Both encoders with Urban-1K alone."""
    if not (golden_dir / "evaluation").is_dir():
        pytest.skip("the golden tensors have no evaluation/")
    for name in ("fgclip_tiny", "fgclip2_tiny", "evaluation/tokenizers", "evaluation/urban-1k"):
        shutil.copytree(golden_dir / name, tmp_path / name)
    return tmp_path


def test_equal_and_different(
    benchmark: ModuleType, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    out = folder / "parity.md"
    assert benchmark.main([str(folder), "--out", str(out)]) == 0
    rows = [line for line in out.read_text(encoding="utf-8").splitlines() if "urban" in line]
    assert rows == [
        f"| urban-1k | {generation} | 4 | 0e+00 | 0 | 0e+00 |"
        for generation in ("fgclip", "fgclip2")
    ]
    path = folder / "evaluation" / "urban-1k" / "expected.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["fgclip2"]["as_published"]["i2t_r1"] += 0.1
    values["fgclip"]["as_published"]["i2t_r1"] += 0.2
    values["fgclip"]["tie_dependent"] = {"as_published": {"i2t_r1": [0.1, 0.9]}}
    path.write_text(json.dumps(values), encoding="utf-8")
    capsys.readouterr()
    assert benchmark.main([str(folder)]) == 1
    page = capsys.readouterr().out
    assert "| urban-1k | fgclip | 4 | 2e-01 | 1 | 0e+00 |" in page
    assert "| urban-1k | fgclip2 | 4 | 1e-01 | 0 | 1e-01 |" in page


def test_a_folder_without_data_sets(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert benchmark.main([str(tmp_path)]) == 2
    assert "has no evaluation/" in capsys.readouterr().err
