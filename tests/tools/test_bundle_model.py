"""What tools/bundle_model.py refuses; tests/tools/test_train_and_test.py bundles for real."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.tools.conftest import load_tool

ROOT = Path(__file__).resolve().parents[2]


def test_weights_that_are_no_tensors_are_refused(tmp_path: Path, capsys) -> None:
    path, out = tmp_path / "x.pth", tmp_path / "out"
    torch.save({"state_dict": {"a": None}}, path)
    config = ROOT / "configs" / "shapes" / "ovdet_tiny.py"
    assert load_tool("bundle_model").main([str(config), str(path), "--out", str(out)]) == 2
    assert "holds weights that are no tensors" in capsys.readouterr().err
    assert not out.exists()
