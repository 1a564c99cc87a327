"""FG-CLIP's own evaluation as the validation of a training."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor

from fgclip_det.encoders import load_encoder
from fgclip_det.engine import ExportEncoderHook, ResumableRunner
from fgclip_det.evaluation.encoder import EncoderEvaluationLoop, evaluate_encoder


class Tuned(BaseModel):
    """An encoder whose picture projection a training moves."""

    def __init__(self, directory: str) -> None:
        super().__init__()
        self.encoder = load_encoder(directory)
        self.encoder.visual_projection.weight.requires_grad_(True)

    def forward(self, number: Tensor, mode: str = "loss") -> dict[str, Tensor]:
        noise = torch.arange(20.0)[:, None] - 9.5
        return {"loss": (self.encoder.visual_projection.weight * noise).sum()}


@pytest.fixture
def config(golden_sets: Path, encoder_dir: str, tmp_path: Path) -> dict[str, Any]:
    protocol = dict(protocol="urban-1k", root=str(golden_sets / "urban-1k"))
    return dict(
        model=Tuned(encoder_dir),
        work_dir=str(tmp_path),
        train_dataloader=dict(
            batch_size=1,
            num_workers=0,
            sampler=dict(type="InfiniteSampler", shuffle=False),
            dataset=[dict(number=torch.zeros(1))] * 4,
        ),
        train_cfg=dict(type="IterBasedTrainLoop", max_iters=4, val_interval=2),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=1.0)),
        val_cfg=dict(type="EncoderEvaluationLoop", protocols=[protocol]),
        val_dataloader=[],
        val_evaluator=[],
        default_hooks=dict(
            logger=dict(type="LoggerHook", interval=1, log_metric_by_epoch=False),
            checkpoint=dict(
                type="CheckpointHook",
                by_epoch=False,
                interval=1,
                save_best="urban-1k/t2i_r1",
                rule="greater",
            ),
        ),
        custom_hooks=[dict(type="ExportEncoderHook", best="urban-1k/t2i_r1")],
        log_processor=dict(by_epoch=False),
        default_scope="mmdet",
        experiment_name=f"validation of {tmp_path.name}",
    )


@pytest.mark.parametrize("runner", [Runner, ResumableRunner])
def test_every_n_iterations_and_the_best_is_kept(
    runner: type[Runner], config: dict[str, Any], golden_sets: Path, tmp_path: Path
) -> None:
    config["cfg"] = Config(dict(val_dataloader=[], val_evaluator=[]))
    model = runner(**config).train()
    assert not list(tmp_path.glob("iter_5*")) and list(tmp_path.glob("iter_4.pth"))
    (best,) = tmp_path.glob("best_*.pth")
    kept = load_encoder(str(tmp_path / "encoder_best")).state_dict()
    trained = torch.load(best, weights_only=False)["state_dict"]
    for name, values in kept.items():
        assert values.equal(trained[f"encoder.{name}"]), name
    lines = next(tmp_path.rglob("scalars.json")).read_text(encoding="utf-8").splitlines()
    logged = [one for one in map(json.loads, lines) if "urban-1k/t2i_r1" in one]
    assert [one["step"] for one in logged] == [2, 4]
    expected = evaluate_encoder(model.encoder.eval(), "urban-1k", golden_sets / "urban-1k")
    assert logged[-1]["urban-1k/i2t_r1"] == pytest.approx(
        expected.whole_population.metrics["i2t_r1"]
    )


def test_a_worse_encoder_does_not_replace_the_best(tmp_path: Path, encoder_dir: str) -> None:
    hub = MessageHub.get_instance(f"best of {tmp_path.name}")
    model, logger = Tuned(encoder_dir), logging.getLogger("mmengine")
    runner = SimpleNamespace(model=model, work_dir=tmp_path, message_hub=hub, logger=logger)
    weight = model.encoder.visual_projection.weight.data
    for figure, value in ((0.5, 1.0), (0.5, 2.0), (0.6, 3.0), (0.1, 4.0)):
        weight.fill_(value)
        # As a training that was resumed does: what it knows is in the hub.
        hook = ExportEncoderHook(best="dci/t2i_r1")
        hook.after_val_epoch(runner, {"dci/t2i_r1": figure})
    kept = load_encoder(str(tmp_path / "encoder_best"))
    assert kept.visual_projection.weight.unique().tolist() == [3.0]
    with pytest.raises(ValueError, match=r"'dci/t2i_r1', no metric .*one of urban-1k"):
        hook.after_val_epoch(runner, {"urban-1k/t2i_r1": 1.0})


def test_bad_protocols() -> None:
    protocol = dict(protocol="dci", root="data/dci")
    for protocols, named in (
        ([], "protocols is empty"),
        ([dict(protocol="dci")], "lacks protocol or root"),
        ([protocol, protocol], "dci, dci"),
        ([dict(protocol="coco", root="data")], "protocol 'coco' is unknown"),
    ):
        with pytest.raises(ValueError, match=named):
            EncoderEvaluationLoop(None, [], [], protocols)
