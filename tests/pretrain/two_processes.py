"""What each of two gloo processes makes of the reference batches; for test_two_processes.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from fgclip_det.exit_codes import leave
from tests.pretrain.golden_batches import Golden, own_gradients, total, unweighted, without

HALVES = (range(5), range(5, 10))


@dataclass(frozen=True)
class Case:
    """One training of a step or two.

    Attributes:
        pictures: Of each rank.
        settings: Of the pretrainer.
        steps: How often the same batch is seen, with unchanged weights.
        edit: What becomes of the batch of rank 1.
    """

    pictures: tuple[range, range] = HALVES
    settings: Mapping[str, float] = field(default_factory=dict)
    steps: int = 1
    edit: Callable[[dict], dict] = dict


def _without_groups(batch: dict) -> dict:
    return without(batch, regions=False)


def _without_regions(batch: dict) -> dict:
    return without(batch, regions=True)


GATHERED = dict(gather_regions=True)
CASES = {
    "main": Case(steps=2),
    "gathered": Case(settings=GATHERED),
    "uneven": Case((range(7), range(7, 10)), settings=GATHERED),
    "without_groups": Case(edit=_without_groups, steps=2),
    "without_regions": Case(edit=_without_regions),
    "gathered_without_regions": Case(edit=_without_regions, settings=GATHERED),
    "global_only": Case(settings=dict(weight_region=0.0, weight_hard=0.0)),
    "regions_only": Case(edit=_without_regions, settings=dict(weight_long=0, weight_short=0)),
}


def run(rank: int, golden_dir: Path, folder: Path) -> None:
    """Run all cases of both generations as one of two processes, and save what comes out.

    Args:
        rank: 0 or 1.
        golden_dir: Folder of the golden tensors.
        folder: Where the processes meet, and where `<rank>.pth` is written: by generation and
            case a list of steps, each a dict of losses, total, gradients and threshold.
    """
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    found = {}
    for name in ("fgclip", "fgclip2"):
        golden = Golden(golden_dir, name)
        found[name] = {key: _run_case(golden, case, rank) for key, case in CASES.items()}
    torch.save(found, folder / f"{rank}.pth")
    distributed.barrier()
    distributed.destroy_process_group()
    os.environ["RANK"] = str(rank)
    leave(0)


def _run_case(golden: Golden, case: Case, rank: int) -> list[dict]:
    model = golden.pretrainer(**case.settings)
    wrapped = DistributedDataParallel(model, broadcast_buffers=False)
    batch = golden.batch(case.pictures[rank])
    batch = case.edit(batch) if rank else batch
    return [_step(golden, model, wrapped, batch) for _ in range(case.steps)]


def _step(golden: Golden, model, wrapped: DistributedDataParallel, batch: dict) -> dict:
    model.zero_grad()
    losses = wrapped(**batch)
    total(losses).backward()
    return dict(
        losses=unweighted(golden, model, losses),
        total=total(losses).item(),
        gradients=own_gradients(model),
        threshold=None if golden.is_first else model.ranking_threshold.item(),
    )
