"""Families of encoders that are not ours, found by the names that they were registered under."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fgclip_det.encoders import (
    FGCLIP,
    FGCLIPConfig,
    RegionEncoder,
    build_encoder,
    load_encoder,
    loading,
    register_encoder,
)
from fgclip_det.encoders.pretrained import CONFIG_NAME
from tests.messages import says
from tests.tiny_encoders import tiny_fgclip


@pytest.fixture(autouse=True)
def families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_FAMILIES", {})


def own_family(name: str = "OwnClip", model_types: tuple[str, ...] = ("own_clip",)) -> type[FGCLIP]:
    """FG-CLIP with twice its embeddings, under another name."""

    class Own(FGCLIP):
        def __init__(self, *parts, factor: float = 2.0) -> None:
            super().__init__(*(parts or (FGCLIPConfig.tiny(),)))
            self.factor = factor

        @classmethod
        def from_pretrained(cls, name_or_path, revision=None):
            path = Path(name_or_path, CONFIG_NAME)
            values = json.loads(path.read_text())
            path.write_text(json.dumps({**values, "model_type": "clip"}))
            plain = FGCLIP.from_pretrained(name_or_path)
            model = cls(plain.config, plain.tokenizer)
            model.load_state_dict(plain.state_dict())
            return model.eval()

        def encode_dense(self, *arguments, **keywords):
            return self.factor * super().encode_dense(*arguments, **keywords)

    Own.__name__ = Own.__qualname__ = name
    Own.model_types = model_types
    return Own


def test_a_checkpoint_finds_its_family(tmp_path: Path) -> None:
    plain = tiny_fgclip(speaks=True)
    plain.save_pretrained(tmp_path)
    path = tmp_path / CONFIG_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "own_clip"}))
    assert type(load_encoder(tmp_path)) is FGCLIP
    family = register_encoder(own_family())
    found = build_encoder(str(tmp_path))
    assert type(found) is family
    pixels, boxes = torch.rand(3, 40, 50) * 255, torch.tensor([[3.0, 4.0, 30.0, 31.0]])
    ((got,), (expected,)) = (
        RegionEncoder(one)([pixels], [boxes], normalize=False)[0] for one in (found, plain)
    )
    torch.testing.assert_close(got, 2 * expected)


def test_a_config_builds_it() -> None:
    register_encoder(own_family())
    built = build_encoder({"type": "OwnClip", "factor": 3.0})
    assert type(built).__name__ == "OwnClip"
    assert built.factor == 3.0
    assert not built.training
    with pytest.raises(ValueError, match=says("'OtherClip'", "register_encoder")):
        build_encoder({"type": "OtherClip"})


def test_what_is_no_family_is_refused() -> None:
    for wrong in (torch.nn.Linear, 3, own_family(model_types=())):
        with pytest.raises(ValueError, match=says("DualEncoder", "model_types")):
            register_encoder(wrong)


@pytest.mark.parametrize(
    ("name", "model_types"),
    [("FGCLIP2", ("own",)), ("Own", ("clip",)), ("Own", ("siglip2",)), ("Other", ("own_clip",))],
)
def test_names_that_are_taken(name: str, model_types: tuple[str, ...]) -> None:
    family = register_encoder(own_family())
    assert register_encoder(family) is family
    with pytest.raises(ValueError, match=says("taken")):
        register_encoder(own_family(name, model_types))
