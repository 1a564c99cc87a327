"""Trainings on shards, as of ``process_runs.py``, whose file format this takes.

A run also has ``shards`` and ``workers``; the rows of an iteration are the greys of its pictures.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import process_runs
import torch
from mmengine.model import BaseModel, MMDistributedDataParallel
from torch import Tensor, nn

import fgclip_det.datasets  # noqa: F401  (registers)
from fgclip_det.engine import LeftOutHook, ResumableRunner, find_resumable


class Greys(BaseModel):
    """Fits the length of a drawn caption to the grey of a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1)
        self.seen: list[list[int]] = []

    def forward(
        self,
        image: list[Tensor],
        region_captions: list[list[str]],
        mode: str = "loss",
        **others: list,
    ) -> dict[str, Tensor]:
        greys = torch.stack([picture.float().mean() for picture in image])
        self.seen.append(greys.int().tolist())
        lengths = torch.tensor([float(len(captions[0])) for captions in region_captions])
        return {"loss": ((self.line(greys[:, None] / 60)[:, 0] - lengths / 20) ** 2).mean()}


def train(run: dict, number: int) -> dict:
    """Train in this process, from the last checkpoint of the work dir on."""
    torch.manual_seed(0)
    model, watch = Greys(), process_runs.Watch(run["kill"])
    last = find_resumable(run["work_dir"])
    runner = ResumableRunner(
        model=MMDistributedDataParallel(model) if run["processes"] > 1 else model,
        work_dir=run["work_dir"],
        train_dataloader=dict(
            batch_size=run["batch_size"],
            num_workers=run["workers"],
            sampler=dict(type="ShardSampler"),
            collate_fn=dict(type="collate_region_captions"),
            dataset=dict(type="FineHARDStream", folder=run["shards"], lanes=4),
        ),
        optim_wrapper=dict(optimizer=dict(type="AdamW", lr=0.01)),
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=1)),
        custom_hooks=[watch, LeftOutHook(interval=4)],
        randomness=dict(seed=3),
        experiment_name=f"run{number}",
        default_scope="mmdet",
        log_level="INFO",
        load_from=str(last) if last else None,
        resume=last is not None,
        train_cfg=dict(type="IterBasedTrainLoop", max_iters=run["iterations"]),
    )
    runner.train()
    weights = [parameter.flatten().tolist() for parameter in model.parameters()]
    return dict(rows=model.seen, losses=watch.losses, weights=weights)


if __name__ == "__main__":
    torch.set_num_threads(1)
    ResumableRunner._log_env = lambda *_: None
    process_runs.train = train
    print(json.dumps(process_runs.run_all(json.loads(Path(sys.argv[1]).read_text()))))
