"""The encoder is written by one process, and all hear of it where that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import nn

from fgclip_det.encoders import FGCLIP
from fgclip_det.engine.hooks import export_encoder_hook
from tests.tiny_encoders import tiny_fgclip


def test_the_first_process_writes_and_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Module()
    model.encoder = tiny_fgclip(speaks=True)
    runner = SimpleNamespace(
        model=model, work_dir=str(tmp_path), logger=logging.getLogger("mmengine")
    )
    works: list[Callable[[], object]] = []
    monkeypatch.setattr(export_encoder_hook, "on_first_process", works.append)
    export_encoder_hook.ExportEncoderHook().after_train(runner)
    assert not (tmp_path / "encoder").exists()
    (work,) = works
    assert work() is None
    assert FGCLIP.from_pretrained(tmp_path / "encoder").fingerprint == model.encoder.fingerprint
