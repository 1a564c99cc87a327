"""Adapters as a config of a pretrainer names them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.runner.checkpoint import get_state_dict, load_state_dict

from fgclip_det.engine import AutocastOptimWrapper
from fgclip_det.pretrain import FGCLIPPretrainer
from tests.tiny_encoders import NAMES, tiny_fgclip

LORA = dict(type="lora", rank=4)


@pytest.fixture
def encoder(tmp_path: Path) -> str:
    tiny_fgclip(speaks=True).save_pretrained(tmp_path / "encoder")
    return str(tmp_path / "encoder")


def _batch() -> dict:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=generator)
    return dict(
        image=list(pictures),
        short_caption=NAMES[:3],
        long_caption=NAMES[3:],
        boxes=[torch.tensor([[4.0, 4.0, 40.0, 44.0]])] * 3,
        region_captions=[[name] for name in NAMES[:3]],
        hard_captions=[[[name, *NAMES[3:]]] for name in NAMES[:3]],
    )


def _train(model: FGCLIPPretrainer, kind: type[OptimWrapper], steps: int) -> list[dict]:
    trained = [p for p in model.parameters() if p.requires_grad]
    wrapper = kind(torch.optim.AdamW(trained, lr=3e-3))
    return [model.train_step(_batch(), wrapper) for _ in range(steps)]


def test_training_moves_adapters_alone(encoder: str) -> None:
    model = FGCLIPPretrainer(encoder, adapters=LORA)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    log = _train(model, OptimWrapper, 8)
    assert log[-1]["loss"] < log[0]["loss"]
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {name for name in before if ".lora_" in name}


def test_checkpoint_holds_adapters_and_is_of_one_encoder(encoder: str, tmp_path: Path) -> None:
    model = FGCLIPPretrainer(encoder, adapters=LORA)
    _train(model, OptimWrapper, 2)
    # As MMEngine saves and reads checkpoints.
    state = get_state_dict(model)
    assert {name for name in state if ".lora_" not in name} == {"encoder.adapter_base"}
    second = FGCLIPPretrainer(encoder, adapters=LORA)
    load_state_dict(second, state, strict=True)
    found, expected = (dict(one.named_parameters()) for one in (second, model))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    tiny_fgclip(speaks=True, seed=1).save_pretrained(tmp_path / "other")
    other = FGCLIPPretrainer(str(tmp_path / "other"), adapters=LORA)
    with pytest.raises(ValueError, match="belong to the encoder"):
        load_state_dict(other, state, strict=True)


@pytest.mark.parametrize("adapters", [None, LORA])
def test_bfloat16_autocast_keeps_weights_and_losses_float32(encoder: str, adapters) -> None:
    model = FGCLIPPretrainer(encoder, adapters=adapters, recompute_activations=True)
    inside = {}
    block = model.encoder.vision_model.blocks[0]
    block.mlp.fc1.register_forward_hook(lambda m, i, out: inside.update(dtype=out.dtype))
    wrapper = AutocastOptimWrapper(
        torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3), "bfloat16"
    )
    with wrapper.optim_context(model):
        losses = model(**_batch())
    assert inside["dtype"] == torch.bfloat16
    assert {value.dtype for value in losses.values()} == {torch.float32}
    assert len({float(value.detach()) for key, value in losses.items() if "loss" in key}) == 4
    wrapper.update_params(sum(value for key, value in losses.items() if "loss" in key))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    states = wrapper.optimizer.state.values()
    assert {value.dtype for state in states for value in state.values()} == {torch.float32}
    exact = FGCLIPPretrainer(encoder, adapters=adapters)(**_batch())
    for key, value in exact.items():
        if "loss" in key:
            torch.testing.assert_close(losses[key], value, atol=0.05, rtol=0.02)


@pytest.mark.parametrize(
    ("adapters", "message"),
    [
        (dict(rank=4), "adapters.type is None"),
        (dict(type="prefix"), "adapters.type is 'prefix': give one of lora"),
        (dict(type="lora", r=4), "adapters has 'r': it takes rank, alpha"),
        (dict(type="lora", base_fingerprint="0"), "adapters has 'base_fingerprint'"),
        (dict(type="lora", trained=("logit_scale", "text_filip")), "names 'text_filip', which no"),
    ],
)
def test_unknown_adapters_are_refused(encoder: str, adapters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FGCLIPPretrainer(encoder, weight_long=0.0, weight_short=0.0, adapters=adapters)


def test_an_adapted_layer_may_be_trained_too(encoder: str) -> None:
    name = "vision_model.encoder.layers.0.mlp.fc1.bias"
    model = FGCLIPPretrainer(encoder, adapters=dict(type="lora", rank=2, trained=(name,)))
    trained = {name for name, p in model.encoder.named_parameters() if p.requires_grad}
    assert {one for one in trained if "lora_" not in one} == {
        name.replace("fc1.", "fc1.base_layer.")
    }
