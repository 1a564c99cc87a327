"""Low-rank adapters: they begin as nothing, belong to one encoder, and can be merged into it."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch

from fgclip_det.encoders import DualEncoder, load_encoder
from fgclip_det.encoders.adapters import BASE_FINGERPRINT, add_lora
from tests.tiny_encoders import tiny_fgclip, tiny_fgclip2

IMAGES = torch.randn(2, 3, 64, 80, generator=torch.Generator().manual_seed(0))
BOXES = [torch.tensor([[4.0, 4.0, 40.0, 44.0]]), torch.tensor([[0.0, 0.0, 64.0, 20.0]] * 2)]
both = pytest.mark.parametrize("make", [tiny_fgclip, tiny_fgclip2])


def _adapted(make: Callable, **settings) -> DualEncoder:
    encoder = make(speaks=True)
    add_lora(encoder, encoder.fingerprint, **{"rank": 4, **settings})
    return encoder


def _moved(encoder: DualEncoder) -> DualEncoder:
    """With adapters that add something."""
    generator = torch.Generator().manual_seed(1)
    for parameter in encoder.parameters():
        if parameter.requires_grad:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return encoder


def _features(encoder: DualEncoder) -> torch.Tensor:
    texts = ["red circle", "a blue star"]
    with torch.no_grad():
        parts = [encoder.encode_image(IMAGES), encoder.encode_regions(IMAGES, BOXES)]
        return torch.cat([*parts, *(encoder.encode_text(texts, n) for n in ("short", "long"))])


@both
def test_they_begin_as_nothing_and_are_all_that_is_trained(make: Callable) -> None:
    encoder = _adapted(make)
    assert torch.equal(_features(encoder), _features(make(speaks=True)))
    trained = {name for name, p in encoder.named_parameters() if p.requires_grad}
    # Two towers of two blocks, six layers each, a pair of matrices for each.
    assert len(trained) == 2 * 2 * 6 * 2 and all(".lora_" in name for name in trained)
    assert set(encoder.state_dict()) == {*trained, BASE_FINGERPRINT}


@both
def test_merged_is_adapted(make: Callable, tmp_path) -> None:
    encoder = _moved(_adapted(make, alpha=6, trained=("logit_scale",)))
    adapted = _features(encoder)
    assert (adapted - _features(make(speaks=True))).abs().max() > 1e-2
    encoder.save_pretrained(tmp_path)
    merged = load_encoder(tmp_path)
    torch.testing.assert_close(_features(merged), adapted, atol=1e-5, rtol=0)
    assert torch.equal(merged.logit_scale, encoder.logit_scale)
    assert merged.logit_scale != make().logit_scale
    for name in ("text_model.embeddings.token_embedding.weight",):
        assert torch.equal(merged.state_dict()[name], make(speaks=True).state_dict()[name])


@both
def test_state_is_of_one_encoder(make: Callable) -> None:
    encoder = _moved(_adapted(make))
    state = encoder.state_dict()
    second = _adapted(make)
    second.load_state_dict(state, strict=True)
    assert torch.equal(_features(second), _features(encoder))
    other = make(speaks=True, seed=1)
    add_lora(other, other.fingerprint, rank=4)
    with pytest.raises(ValueError, match=f"belong to the encoder {make(speaks=True).fingerprint}"):
        other.load_state_dict(state)
    with pytest.raises(ValueError, match="the checkpoint holds no adapters"):
        second.load_state_dict(make(speaks=True).state_dict())
    with pytest.raises(RuntimeError, match="size mismatch"):
        _adapted(make, rank=2).load_state_dict(state)


def test_targets_are_of_blocks_alone() -> None:
    encoder = _adapted(tiny_fgclip2, targets=("fc1", "out_proj"))
    layers = {name.partition(".lora_")[0] for name in encoder.state_dict() if ".lora_" in name}
    assert len(layers) == 2 * 2 * 2
    assert all(".encoder.layers." in name for name in layers)
    assert all(name.endswith(("mlp.fc1", "self_attn.out_proj")) for name in layers)


def test_named_parameters_are_trained_too() -> None:
    encoder = _adapted(tiny_fgclip, trained=("visual_projection.", "logit_scale"))
    trained = {name for name, p in encoder.named_parameters() if p.requires_grad}
    named = {name for name in trained if ".lora_" not in name}
    scales = {"logit_scale", "logit_scale_finegraind", "logit_scale_hardneg"}
    assert named == {"visual_projection.weight", *scales}
    assert named < set(encoder.state_dict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(rank=0), "adapters.rank is 0"),
        (dict(rank=True), "adapters.rank is True"),
        (dict(alpha=float("nan")), "adapters.alpha is nan"),
        (dict(dropout=1.0), "adapters.dropout is 1.0"),
        (dict(targets=()), r"adapters.targets is \(\)"),
        (dict(targets="fc1"), "adapters.targets is 'fc1'"),
        (dict(targets=("head",)), r"adapters.targets is \('head',\)"),
        (dict(trained=("logit_skale",)), "no parameter of the encoder begins with 'logit_skale'"),
        (dict(trained="logit_scale"), "adapters.trained is the string"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _adapted(tiny_fgclip, **settings)


def test_second_adapters_are_refused() -> None:
    encoder = _adapted(tiny_fgclip)
    with pytest.raises(ValueError, match="has adapters already"):
        add_lora(encoder, "0" * 16)


def test_missing_peft_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r'pip install "fgclip_det\[lora\]"'):
        _adapted(tiny_fgclip)
