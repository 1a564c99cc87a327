"""The tool as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.runner.checkpoint import get_state_dict

from fgclip_det.encoders import FGCLIP
from fgclip_det.pretrain import FGCLIPPretrainer
from tests.tiny_encoders import tiny_fgclip


@pytest.fixture
def trained(tmp_path: Path) -> FGCLIPPretrainer:
    """A pretrainer with adapters that add something, its config and its checkpoint on disk."""
    tiny_fgclip(speaks=True).save_pretrained(tmp_path / "base")
    settings = dict(
        type="FGCLIPPretrainer",
        encoder=str(tmp_path / "base"),
        adapters=dict(type="lora", rank=2),
    )
    (tmp_path / "config.py").write_text(
        'custom_imports = dict(imports=["fgclip_det.pretrain"], allow_failed_imports=False)\n'
        f'default_scope = "mmdet"\nmodel = {settings}\n',
        encoding="utf-8",
    )
    model = FGCLIPPretrainer(settings["encoder"], adapters=settings["adapters"])
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.03
    torch.save({"state_dict": get_state_dict(model)}, tmp_path / "last.pth")
    return model


def test_writes_what_the_adapted_encoder_gives(main, trained, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert main([str(tmp_path / name) for name in ("config.py", "last.pth", "out")]) == 0
    merged = FGCLIP.from_pretrained(out)
    assert capsys.readouterr().out == f"encoder written to {out}\n"
    images = torch.randn(2, 3, 64, 64)
    expected = trained.encoder.encode_dense(images)
    torch.testing.assert_close(merged.encode_dense(images), expected, atol=1e-5, rtol=0)
    assert (expected - tiny_fgclip().encode_dense(images)).abs().max() > 1e-2


def test_mistakes_are_one_line(main, trained, tmp_path: Path, capsys) -> None:
    config, checkpoint, out = (tmp_path / name for name in ("config.py", "last.pth", "out"))

    def fails(*arguments: object) -> str:
        assert main([*map(str, arguments)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        assert not out.exists()
        return error

    tiny_fgclip(speaks=True, seed=1).save_pretrained(tmp_path / "other")
    other = f"model.encoder={tmp_path / 'other'}"
    assert "belong to the encoder" in fails(config, checkpoint, out, "--cfg-options", other)
    assert "does not fit" in fails(
        config, checkpoint, out, "--cfg-options", "model.adapters.rank=3"
    )
    torch.save({"weights": 1}, tmp_path / "odd.pth")
    assert "is of the wrong kind" in fails(config, tmp_path / "odd.pth", out)
    assert "none.pth" in fails(config, tmp_path / "none.pth", out)
