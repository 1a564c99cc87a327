"""Runs of the tools in several processes, forks of one that has imported everything.

``forked_processes.py FILE``, where FILE holds a JSON list of runs::

    {"name": ..., "tool": "train", "arguments": [...], "processes": 2,
     "own": {"1": [...]}, "kill": [1, "step", 3], "room": {"0": 100000}}

``own`` are arguments of one process alone, ``kill`` ends one by SIGKILL at a point (see
`tests/tools/killed_runs.py`), ``room`` are bytes that no file of a process may exceed. As under
torchrun, a process beside them keeps the store; unlike torchrun, it ends nobody. Prints a JSON
object: of each run the exit codes (negative ones those of signals). What a process prints goes to
``NAME-RANK.txt``, and sums of its running means, before and after each time that they are averaged,
to ``NAME-RANK.jsonl``.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import nn

import fgclip_det.apis
import fgclip_det.datasets
import fgclip_det.engine
import fgclip_det.evaluation
import fgclip_det.models
import fgclip_det.pretrain  # noqa: F401  (imported once, for all runs)
from fgclip_det.engine.hooks import atomic_checkpoint_hook
from tests.tools.conftest import load_tool
from tests.tools.killed_runs import arm, place


def run(given: Mapping[str, Any]) -> list[int]:
    """Exit codes of the processes of a run."""
    count = given["processes"]
    store = dist.TCPStore("127.0.0.1", 0, count, is_master=True, wait_for_workers=False)
    children = []
    for rank in range(count):
        child = os.fork()
        if child == 0:
            _work(given, rank, store.port)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _watch_statistics(path: Path) -> None:
    average = atomic_checkpoint_hook.average_batch_statistics

    def watched(model: nn.Module) -> None:
        means = [b for name, b in model.named_buffers() if name.endswith("running_mean")]
        before = [float(one.double().sum()) for one in means]
        average(model)
        after = [float(one.double().sum()) for one in means]
        with path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps([before, after]) + "\n")

    atomic_checkpoint_hook.average_batch_statistics = watched


def _work(given: Mapping[str, Any], rank: int, port: int) -> None:
    printed = os.open(f"{given['name']}-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    arguments = [*given["arguments"], *given.get("own", {}).get(str(rank), [])]
    if given["processes"] > 1:
        os.environ.update(place(rank, given["processes"], port))
        arguments += ["--launcher", "pytorch"]
    kill, room = given.get("kill"), given.get("room", {}).get(str(rank))
    if kill and kill[0] == rank:
        arm(*kill[1:])
    _watch_statistics(Path(f"{given['name']}-{rank}.jsonl"))
    if room is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    code = 1
    try:
        code = load_tool(given["tool"]).main(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    runs = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps({one["name"]: run(one) for one in runs}))
