import copy

import pytest
import torch
from mmdet.registry import OPTIM_WRAPPERS
from torch import nn

from fgclip_det.engine import AutocastOptimWrapper

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def _wrapper(dtype="float16", lr=0.1, **settings):
    torch.manual_seed(0)
    model = nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    built = AutocastOptimWrapper(optimizer, dtype=dtype, **settings)
    if torch.cuda.is_available():
        model.cuda()
    return model, built


def _step(model, wrapper, factor=1.0):
    inputs = torch.linspace(-1, 1, 8, device=model.weight.device).view(2, 4)
    with wrapper.optim_context(model):
        outputs = model(inputs)
    wrapper.update_params((outputs.float() ** 2).mean() * factor)
    return outputs.dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_is_in_the_dtype_and_weights_follow_float32(dtype):
    model, wrapper = _wrapper(dtype, clip_grad=dict(max_norm=1.0))
    exact, reference = _wrapper("bfloat16")
    reference.cast_dtype = None
    for _ in range(5):
        assert _step(model, wrapper) == DTYPES[dtype]
        device = exact.weight.device.type
        loss = (exact(torch.linspace(-1, 1, 8, device=device).view(2, 4)) ** 2).mean()
        reference.update_params(loss)
    assert model.weight.dtype == torch.float32
    torch.testing.assert_close(model.weight, exact.weight, atol=0.05, rtol=0)
    assert wrapper.loss_scaler.is_enabled() == (dtype == "float16")


def test_an_overflow_skips_the_update_and_halves_the_scale():
    model, wrapper = _wrapper()
    before = model.weight.detach().clone()
    _step(model, wrapper, factor=1e38)
    assert torch.equal(model.weight, before)
    assert wrapper.loss_scaler.get_scale() == 2.0**15
    _step(model, wrapper)
    assert not torch.equal(model.weight, before)


def test_the_scale_is_resumed():
    model, wrapper = _wrapper(loss_scale=dict(init_scale=64.0, growth_interval=3))
    _step(model, wrapper)
    _step(model, wrapper)
    state = copy.deepcopy({"model": model.state_dict(), "optimizer": wrapper.state_dict()})
    other, resumed = _wrapper(loss_scale=dict(init_scale=64.0, growth_interval=3))
    other.load_state_dict(state["model"])
    resumed.load_state_dict(state["optimizer"])
    # One more good step is the third in a row: the scale grows only if the two were counted.
    _step(model, wrapper), _step(other, resumed)
    assert wrapper.loss_scaler.get_scale() == resumed.loss_scaler.get_scale() == 128.0
    assert torch.equal(model.weight, other.weight)


@pytest.mark.parametrize(("saved", "then"), [("bfloat16", "float16"), ("float16", "bfloat16")])
def test_going_on_in_another_precision(saved, then):
    model, wrapper = _wrapper(saved)
    _step(model, wrapper)
    other, resumed = _wrapper(then)
    resumed.load_state_dict(wrapper.state_dict())
    assert _step(other, resumed) == DTYPES[then]
    assert int(resumed.optimizer.state[other.weight]["step"]) == 2


def test_accumulated_batches_are_one_update():
    model, wrapper = _wrapper(accumulative_counts=2)
    before = model.weight.detach().clone()
    _step(model, wrapper)
    assert torch.equal(model.weight, before)
    _step(model, wrapper)
    assert not torch.equal(model.weight, before)


def test_it_is_what_configs_name():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    built = OPTIM_WRAPPERS.build(
        dict(type="AutocastOptimWrapper", optimizer=optimizer, loss_scale=512)
    )
    assert built.cast_dtype == (torch.float16 if torch.cuda.is_available() else torch.bfloat16)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(dtype="float8"), "dtype must be one of"),
        (dict(loss_scale="static"), "loss_scale must be"),
        (dict(loss_scale=True), "loss_scale must be"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        _wrapper(**settings)
