"""Runs on several processes, one after the other, forked; for test_other_processes.py.

``process_runs.py FILE``, where FILE holds a JSON list of runs: ``work_dir``, ``processes``,
``batch_size``, ``length`` of the data, ``noisy``, ``kill`` (a rank and the iteration in which it
ends itself with SIGKILL, or null) and ``settings`` of the runner. Prints a JSON list with the exit
code and the error of each process of each run, and the rows and the mean loss of each iteration.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel, MMDistributedDataParallel
from torch import Tensor, distributed, nn

from fgclip_det.engine import ResumableRunner, find_resumable


class Line(BaseModel):
    """Fits y = w x, with noise from torch's generator; keeps the rows that it saw."""

    def __init__(self, noisy: bool) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, 1)
        self.noisy = noisy
        self.seen: list[list[int]] = []

    def forward(self, row: list[int], x: list[Tensor], mode: str = "loss") -> dict[str, Tensor]:
        self.seen.append(list(row))
        inputs = torch.stack(list(x))
        noise = torch.randn_like(inputs) if self.noisy else 0
        return {"loss": ((self.head(self.body(inputs + noise)) - 1) ** 2).mean()}


class Points(torch.utils.data.Dataset):
    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, row: int) -> dict:
        return dict(row=row, x=torch.randn(4))


class Watch(Hook):
    """Keeps the mean loss of each iteration, and kills its process in one."""

    def __init__(self, kill: list[int] | None) -> None:
        self.kill = kill
        self.losses: list[float] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if self.kill == [runner.rank, runner.iter]:
            os.kill(os.getpid(), signal.SIGKILL)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        loss = outputs["loss"].detach().clone()
        if distributed.is_initialized():
            distributed.all_reduce(loss)
        self.losses.append(loss.item() / runner.world_size)


def train(run: dict, number: int) -> dict:
    """Train in this process, from the last checkpoint of the work dir on."""
    torch.manual_seed(0)
    model, watch = Line(run["noisy"]), Watch(run["kill"])
    is_shared = run["processes"] > 1
    last = find_resumable(run["work_dir"])
    runner = ResumableRunner(
        model=MMDistributedDataParallel(model) if is_shared else model,
        work_dir=run["work_dir"],
        train_dataloader=dict(
            batch_size=run["batch_size"],
            num_workers=0,
            sampler=dict(type=run.get("sampler", "DefaultSampler"), shuffle=True),
            dataset=Points(run["length"]),
        ),
        optim_wrapper=dict(
            optimizer=dict(type="AdamW", lr=0.01),
            clip_grad=dict(max_norm=0.5),
            accumulative_counts=run.get("accumulative_counts", 1),
        ),
        param_scheduler=[dict(type="LinearLR", start_factor=0.1, begin=0, end=4, by_epoch=False)],
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=1)),
        custom_hooks=[dict(type="EMAHook", momentum=0.1), watch],
        randomness=dict(seed=run.get("seed", 3)),
        experiment_name=f"run{number}",
        log_level="WARNING",
        load_from=str(last) if last else None,
        resume=last is not None,
        train_cfg=run["train_cfg"],
    )
    runner.train()
    return dict(rows=model.seen, losses=watch.losses)


def fork(run: dict, rank: int, number: int) -> int:
    """The process id of a fork that trains as one rank."""
    child = os.fork()
    if child:
        return child
    os.dup2(2, 1)
    folder = Path(run["work_dir"])
    told: dict = {}
    try:
        if run["processes"] > 1:
            store = f"file://{folder.resolve()}/rendezvous{number}"
            distributed.init_process_group(
                "gloo", init_method=store, rank=rank, world_size=run["processes"]
            )
        told = train(run, number)
    except ValueError as error:
        told = dict(error=str(error))
    finally:
        # In one step: whoever outlives a killed rank may be killed at any time.
        part = folder / f"part{number}_{rank}"
        part.write_text(json.dumps(told))
        part.rename(folder / f"told{number}_{rank}.json")
        sys.stderr.flush()
        os._exit(0 if "rows" in told else 2)


def run_all(runs: list[dict]) -> list[list[dict]]:
    """What each process of each run told; those that outlive a killed one are killed too."""
    told = []
    for number, run in enumerate(runs):
        folder = Path(run["work_dir"])
        folder.mkdir(exist_ok=True)
        children = {fork(run, rank, number): rank for rank in range(run["processes"])}
        codes = {}
        while children:
            child, status = os.wait()
            codes[children.pop(child)] = os.waitstatus_to_exitcode(status)
            if os.WIFSIGNALED(status):
                for other in children:
                    os.kill(other, signal.SIGKILL)
        files = [folder / f"told{number}_{rank}.json" for rank in sorted(codes)]
        contents = [json.loads(file.read_text()) if file.is_file() else {} for file in files]
        told.append([{"code": codes[rank], **content} for rank, content in enumerate(contents)])
    return told


if __name__ == "__main__":
    torch.set_num_threads(1)
    # It asks compilers for their versions, in each process of each run.
    ResumableRunner._log_env = lambda *_: None
    print(json.dumps(run_all(json.loads(Path(sys.argv[1]).read_text()))))
