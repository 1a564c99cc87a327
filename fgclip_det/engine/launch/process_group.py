"""Joins the processes of a run: NCCL where there are GPUs, gloo where there are none."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from mmengine.device import get_device
from mmengine.dist import get_world_size, init_dist
from torch.distributed.rendezvous import rendezvous

# Seconds that one process waits for another in a collective, where `dist_cfg` states no timeout.
COLLECTIVE_LIMIT = 600
# What the first process does alone (metrics, files) takes as long as it takes.
_ALONE_LIMIT = timedelta(days=1)
_DEFAULT_PORT = 29500
# Number and count of the processes, and number on this machine, as each launcher names them.
_NAMES = {
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
}


def start_processes(launcher: str, dist_cfg: Mapping[str, Any] | None = None) -> None:
    """Join the other processes of this run.

    Args:
        launcher: "pytorch", "slurm" or "mpi": who started them.
        dist_cfg: ``backend``, of GPUs ("nccl" by default; a CPU always has gloo), ``timeout``,
            the seconds that a process waits for another (`COLLECTIVE_LIMIT` by default), and more
            that MMEngine's ``init_dist`` takes.

    Raises:
        ValueError: The launcher did not start this process, there are more processes than GPUs on
            this machine, or the timeout is no number of seconds.
        ConnectionError: The others do not come, or the port is in use.
    """
    options = {"backend": "nccl", "timeout": COLLECTIVE_LIMIT, **(dist_cfg or {})}
    limit = options["timeout"]
    if isinstance(limit, bool) or not isinstance(limit, int | float) or limit <= 0:
        raise ValueError(f"env_cfg.dist_cfg.timeout is {limit!r}: give seconds, such as 600")
    take_environment(launcher, options.get("port"))
    device = get_device()
    if device == "cuda" and int(os.environ["LOCAL_RANK"]) >= torch.cuda.device_count():
        raise ValueError(
            f"process {os.environ['RANK']} finds no GPU of its own, the machine has "
            f"{torch.cuda.device_count()}: start as many processes as there are, or set "
            "CUDA_VISIBLE_DEVICES= to train on the CPU"
        )
    try:
        if device == "cpu":
            # MMEngine's `init_dist` sets a CUDA device whatever the backend.
            limit = timedelta(seconds=limit)
            dist.init_process_group("gloo", timeout=limit, **_store_of_this_start())
        else:
            init_dist(launcher, **options, **_store_of_this_start())
    except (dist.DistError, RuntimeError) as error:
        raise _unreached(error) from error


def _store_of_this_start() -> dict[str, Any]:
    """Arguments of ``init_process_group`` where torchrun started the processes once more.

    It keeps one store for all starts of a run (torch 2.11), in which processes that are gone have
    left their addresses. Only where there is one machine do all processes count the starts alike;
    for several, tools/launch.py has torchrun make a store for each start.
    """
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if start == "0" or os.environ.get("GROUP_WORLD_SIZE") != "1":
        return {}
    store, rank, world_size = next(rendezvous("env://"))
    store = dist.PrefixStore(f"fgclip_det/start {start}", store)
    return {"store": store, "rank": rank, "world_size": world_size}


def take_environment(launcher: str, port: int | None = None) -> None:
    """Set what torch reads (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_*) from what the launcher set.

    Args:
        launcher: "pytorch", "slurm" or "mpi".
        port: Of the first process; None is MASTER_PORT, and 29500 where that is not set.

    Raises:
        ValueError: The launcher did not start this process.
    """
    if launcher in _NAMES:
        missing = [name for name in _NAMES[launcher] if name not in os.environ]
        if missing:
            raise ValueError(f"--launcher {launcher} is set, but not {', '.join(missing)}")
        ours = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        for name, theirs in zip(ours, _NAMES[launcher], strict=True):
            os.environ[name] = os.environ[theirs]
        os.environ["MASTER_PORT"] = str(port or os.environ.get("MASTER_PORT", _DEFAULT_PORT))
        if launcher == "slurm" and "MASTER_ADDR" not in os.environ:
            nodes = ["scontrol", "show", "hostnames", os.environ.get("SLURM_JOB_NODELIST", "")]
            os.environ["MASTER_ADDR"] = subprocess.check_output(nodes, text=True).split()[0]
    needed = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in needed if name not in os.environ]
    if missing:
        raise ValueError(
            f"--launcher {launcher} is set, but not {', '.join(missing)}: start by "
            "tools/dist_*.sh, torchrun or srun"
        )


def patient_group() -> dist.ProcessGroup | None:
    """All processes, on the CPU, for what one does alone while the others wait, a day at most.

    Called by all of them in the same order. Whoever ends is noticed at once by those who wait. None
    where there is one process.
    """
    return None if get_world_size() == 1 else _patient_group(dist.group.WORLD)


@functools.lru_cache(maxsize=1)
def _patient_group(world: dist.ProcessGroup) -> dist.ProcessGroup:
    return dist.new_group(backend="gloo", timeout=_ALONE_LIMIT)


def _unreached(error: Exception) -> ConnectionError:
    rank, count = os.environ["RANK"], os.environ["WORLD_SIZE"]
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    reason = str(error).splitlines()[0]
    if "EADDRINUSE" in str(error):
        return ConnectionError(f"port {port} of {address} is in use: set MASTER_PORT to a free one")
    return ConnectionError(
        f"process {rank} of {count} does not reach the others by {address}:{port} ({reason}): "
        "check that all are started, MASTER_ADDR and MASTER_PORT"
    )
