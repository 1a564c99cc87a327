"""Two processes that hold a half of the weights each, against two that hold all of them."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from fgclip_det.encoders import FGCLIP, FGCLIP2
from fgclip_det.engine.sharding.fully_sharded_model import FullyShardedModel
from tests.engine.sharding.training import STEPS
from tests.tiny_encoders import tiny_fgclip, tiny_fgclip2

ROOT = Path(__file__).resolve().parents[3]
LAST = f"iter_{STEPS}.pth"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    tiny_fgclip(speaks=True).save_pretrained(folder / "encoder")
    tiny_fgclip2(speaks=True).save_pretrained(folder / "encoder2")
    hot = tiny_fgclip(speaks=True)
    nn.init.constant_(hot.logit_scale, 9.0)
    hot.save_pretrained(folder / "encoder_hot")
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.engine.sharding.training", str(rank), str(folder)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "LOCAL_RANK": str(rank), "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)[-4000:]
    return folder


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """Weights and the optimizer's state."""
    checkpoint = torch.load(path, weights_only=False)
    states = checkpoint["optimizer"]["state"]
    found = {f"{i}.{key}": value for i in states for key, value in states[i].items()}
    return {**checkpoint["state_dict"], **found}


def _assert_near(found: dict, expected: dict) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert type(found[name]) is type(value)
        assert found[name].shape == value.shape, name
        difference = (found[name].float() - value.float()).norm()
        # Gradients are differences of larger numbers; the optimizer's state, numbered, is of them.
        share = 1e-5 if name[0].isdigit() else 1e-6
        assert difference <= share * value.float().norm() + 3e-8, (name, difference)


@pytest.mark.slow
def test_sharded_training_is_that_of_whole_copies(runs: Path) -> None:
    start = FGCLIP.from_pretrained(runs / "encoder").state_dict()
    end = _tensors(runs / "sharded" / LAST)
    assert any((end[f"encoder.{k}"] - start[k]).abs().max() > 1e-4 for k in start)
    _assert_near(end, _tensors(runs / "copied" / LAST))


@pytest.mark.slow
@pytest.mark.parametrize("wrapper", ["sharded", "copied"])
def test_checkpoint_of_either_is_gone_on_from_by_the_other(runs: Path, wrapper: str) -> None:
    resumed = _tensors(runs / f"{wrapper}_resumed" / LAST)
    assert not (runs / f"{wrapper}_resumed" / "iter_1.pth").exists()
    _assert_near(resumed, _tensors(runs / "copied" / LAST))


@pytest.mark.slow
def test_sharded_encoder_is_written_whole(runs: Path) -> None:
    written = FGCLIP.from_pretrained(runs / "sharded" / "encoder").state_dict()
    saved = torch.load(runs / "sharded" / LAST, weights_only=False)["state_dict"]
    for name, value in written.items():
        assert torch.equal(value, saved[f"encoder.{name}"]), name


@pytest.mark.slow
def test_second_generation_is_sharded_too(runs: Path) -> None:
    found = _tensors(runs / "sharded_second" / LAST)
    _assert_near(found, _tensors(runs / "copied_second" / LAST))
    assert found["encoder.logit_scale_hardneg"].dim() == 0
    FGCLIP2.from_pretrained(runs / "sharded_second" / "encoder")


@pytest.mark.slow
def test_scales_of_a_sharded_model_are_kept_at_100(runs: Path) -> None:
    saved = torch.load(runs / "hot" / LAST, weights_only=False)["state_dict"]
    assert saved["encoder.logit_scale"] <= math.log(100) + 1e-6


@pytest.mark.slow
def test_sharded_adapters_are_those_of_whole_copies(runs: Path) -> None:
    found, expected = (_tensors(runs / f"{name}_adapters" / LAST) for name in ("sharded", "copied"))
    assert any("lora_A" in name for name in expected)
    assert not [name for name in expected if "_proj." in name and "lora_" not in name]
    _assert_near(found, expected)
    merged = [
        FGCLIP.from_pretrained(runs / f"{name}_adapters" / "encoder").state_dict()
        for name in ("sharded", "copied")
    ]
    _assert_near(*merged)


@pytest.mark.slow
def test_gradients_that_wait_for_more_batches_are_resumed(runs: Path) -> None:
    between = torch.load(runs / "accumulated" / f"iter_{STEPS - 1}.pth", weights_only=False)
    assert set(between["accumulated_gradients"]) == set(between["state_dict"])
    resumed = _tensors(runs / "accumulated_resumed" / LAST)
    _assert_near(resumed, _tensors(runs / "accumulated" / LAST))


class _Model(BaseModel):
    def forward(self, inputs, data_samples=None, mode="tensor"):
        return inputs


def test_model_without_blocks_is_refused() -> None:
    model = _Model()
    model.layer = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="finds no block of an encoder in _Model"):
        FullyShardedModel(model)


def test_one_process_is_refused() -> None:
    model = _Model()
    model.encoder = tiny_fgclip()
    with pytest.raises(ValueError, match="start with a launcher"):
        FullyShardedModel(model)
