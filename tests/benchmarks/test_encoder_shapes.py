"""The bundled encoder on a few pictures of Shapes."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.datasets.shapes.generator import generate


def test_each_kind_has_its_rows(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    generate(tmp_path, {"val": 10, "pretrain_val": 8}, seed=0)
    out, encoder = tmp_path / "shapes.md", str(BUNDLED / "encoder")
    assert benchmark.main([str(tmp_path), encoder, "--out", str(out)]) == 0
    lines = out.read_text("utf-8").splitlines()[4:]
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    values = {row[0]: float(row[1]) for row in rows}
    assert len(values) == 28 and min(values.values()) >= 0
    assert values["long captions (8 pictures, 8 captions), i2t_r1"] > 70
    boxes = {name: value for name, value in values.items() if name.startswith("boxes")}
    assert min(boxes.values()) > 70 and any(name.startswith("one object") for name in values)
    # A box is named by what it holds, a whole picture but for its shapes.
    for kind, least in (("its box", 70), ("one object", 0)):
        own = {n.split(", ")[1]: v for n, v in values.items() if n.startswith(f"{kind} (")}
        assert own["colour"] == own["pattern"] == 100 and own["shape"] == own["top1"] >= least
    recall, alone = benchmark.without_shapes(tmp_path)
    assert recall == 1 and alone == 8 / 32
    assert capsys.readouterr().out.count("| ") > 12
    assert benchmark.main([str(tmp_path / "nowhere"), encoder]) == 2
    assert "pretrain_val.jsonl" in capsys.readouterr().err
