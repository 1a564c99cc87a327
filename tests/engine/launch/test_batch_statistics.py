"""Running statistics of plain batch norm, as two or three processes average them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage
from torch import Tensor, nn

from fgclip_det.engine.hooks.atomic_checkpoint_hook import AtomicCheckpointHook
from fgclip_det.engine.launch import batch_statistics
from fgclip_det.engine.launch.batch_statistics import average_batch_statistics


def _model(mean: float) -> nn.Sequential:
    layers = [nn.BatchNorm2d(2), nn.SyncBatchNorm(2), nn.BatchNorm1d(2, track_running_stats=False)]
    model = nn.Sequential(*layers)
    for layer in layers[:2]:
        layer.running_mean.fill_(mean)
        layer.running_var.fill_(2 * mean)
    return model


def _in_processes(monkeypatch: pytest.MonkeyPatch, others: list[float]) -> None:
    """Makes collectives meet processes that have `others` in their running means."""
    monkeypatch.setattr(batch_statistics, "get_world_size", lambda: 1 + len(others))

    def all_reduce(mine: Tensor, op: str) -> None:
        assert op == "mean"
        for one in others:
            mine += torch.tensor([one, one, 2 * one, 2 * one], dtype=mine.dtype)
        mine /= 1 + len(others)

    monkeypatch.setattr(batch_statistics, "all_reduce", all_reduce)


def test_the_mean_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    _in_processes(monkeypatch, [3.0])
    model = _model(1.0)
    average_batch_statistics(model)
    assert model[0].running_mean.tolist() == [2.0, 2.0]
    assert model[0].running_var.tolist() == [4.0, 4.0]
    # Its statistics are of all processes already.
    assert model[1].running_mean.tolist() == [1.0, 1.0]


def test_what_is_equal_stays_so_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    value = torch.tensor(0.1).item()
    _in_processes(monkeypatch, [value, value])
    model = _model(value)
    average_batch_statistics(model)
    assert model[0].running_mean.tolist() == [value, value]


def test_averaged_copies_of_the_model_have_the_mean_too(monkeypatch: pytest.MonkeyPatch) -> None:
    _in_processes(monkeypatch, [3.0])
    ema = EMAHook()
    ema.ema_model = ExponentialMovingAverage(_model(1.0))
    runner = SimpleNamespace(model=_model(1.0), hooks=[ema])
    AtomicCheckpointHook().before_val_epoch(runner)
    for model in (runner.model, ema.ema_model.module):
        assert model[0].running_mean.tolist() == [2.0, 2.0]


def test_nothing_is_sent_alone_or_without_such_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    average_batch_statistics(_model(1.0))
    monkeypatch.setattr(batch_statistics, "get_world_size", lambda: 2)
    average_batch_statistics(nn.Linear(1, 1))  # there is no group: a collective would raise
