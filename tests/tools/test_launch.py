"""How torchrun is started, and what is said of its end; the processes are those of a small tool."""

from __future__ import annotations

import os
import runpy
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.api import ProcessFailure
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

ROOT = Path(__file__).resolve().parents[2]
# Ends, by its number, as the first of its arguments say: with a code, or by a signal below 0.
# Who ends for another's reason (4) does so half a second before that one has ended.
TOOL = """
import os, signal, sys, time
from pathlib import Path
from fgclip_det.exit_codes import leave
rank = int(os.environ["RANK"])
said = rank, os.environ["WORLD_SIZE"], os.environ["TORCHELASTIC_RESTART_COUNT"], *sys.argv[1:]
# In one piece: the processes write to the same pipe.
os.write(1, (" ".join(map(str, said)) + "\\n").encode())
code = int(sys.argv[1:][rank])
about_to_end = Path(__file__).with_name("about_to_end")
if code == 4:
    while not about_to_end.exists():
        time.sleep(0.01)
    leave(code)
if "4" in sys.argv[1:3]:
    about_to_end.touch()
    time.sleep(0.5)
if code < 0:
    os.kill(os.getpid(), -code)
time.sleep(600 * (code == 99))  # until it is ended
sys.exit(code)
"""


@pytest.fixture
def launch(tmp_path: Path):
    """Runs a copy of tools/launch.py beside such a tool."""
    (tmp_path / "launch.py").write_bytes((ROOT / "tools" / "launch.py").read_bytes())
    (tmp_path / "train.py").write_text(TOOL, encoding="utf-8")

    def launch(*arguments: object) -> subprocess.CompletedProcess:
        command = [sys.executable, str(tmp_path / "launch.py"), *map(str, arguments)]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
        return subprocess.run(command, capture_output=True, text=True, env=env)

    return launch


def _errors(done: subprocess.CompletedProcess) -> list[str]:
    assert "Traceback" not in done.stderr, done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("error: ")]


@pytest.mark.slow
def test_flags_of_the_tool_are_its_own(launch) -> None:
    done = launch("train.py", 2, "--", 0, 0, "--max-restarts", 1, "--cfg-options", "a=1", "--max-r")
    assert done.returncode == 0, done.stderr
    rest = "0 0 --cfg-options a=1 --max-r"
    assert sorted(done.stdout.splitlines()) == [f"0 2 0 {rest}", f"1 2 0 {rest}"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ends", "code", "said"),
    [
        ((0, -signal.SIGKILL), 1, "process 1 ended by SIGKILL, and with it the run: a training"),
        ((2, 4), 2, "process 0 ended with exit code 2, and with it the run"),
        # Those who only followed are not named.
        ((4, 1), 1, "process 1 ended with exit code 1, and with it the run: a training"),
        ((99, -signal.SIGSEGV), 1, "process 1 ended by SIGSEGV"),
    ],
)
def test_the_first_that_ended_is_named(ends: tuple, code: int, said: str, launch) -> None:
    done = launch("train.py", 2, "--", *ends)
    assert done.returncode == code
    errors = _errors(done)
    assert len(errors) == 1 and errors[0].startswith(f"error: {said}"), done.stderr


@pytest.mark.parametrize("codes", [(2, 4), (4, 2), (-signal.SIGTERM, 2)])
def test_who_followed_is_not_named_where_both_were_seen_to_end(codes: tuple, capsys) -> None:
    ended = {i: ProcessFailure(i, 1, code, "<N/A>") for i, code in enumerate(codes)}
    explain = runpy.run_path(str(ROOT / "tools" / "launch.py"))["explain"]
    assert explain(ChildFailedError("train.py", ended)) == 2
    said = f"error: process {codes.index(2)} ended with exit code 2, and with it the run\n"
    assert capsys.readouterr().err == said


@pytest.mark.slow
def test_restarts(launch) -> None:
    done = launch("train.py", 1, "--", 3, "--max-restarts=2")
    assert [line.split()[2] for line in done.stdout.splitlines()] == ["0", "1", "2"]
    assert done.returncode == 3 and len(_errors(done)) == 1


@pytest.mark.slow
def test_a_port_in_use_is_said(launch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = launch("train.py", 1, f"--port={port}", "--", 0)
    assert done.returncode == 2 and not done.stdout
    in_use = "in use: set PORT to a free one, or leave it out"
    assert _errors(done) == [f"error: port {port} of 127.0.0.1: {in_use}"]


def test_a_cluster_starts_one_torchrun_on_each_machine(tmp_path: Path) -> None:
    programs = {
        "scontrol": "echo n7; echo n8",
        "srun": 'shift; export SLURM_NODEID=1; exec "$@"',
        "python": 'shift; printf "%s " "$@"',
    }
    for name, script in programs.items():
        path = tmp_path / name
        path.write_text(f"#!/usr/bin/env bash\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
    job = {"NODELIST": "n[7-8]", "ID": "20005", "NUM_NODES": "2"}
    env = {f"SLURM_JOB_{name}": value for name, value in job.items()}
    env |= {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_GPUS_ON_NODE": "8"}
    done = subprocess.run(
        ["bash", str(ROOT / "tools" / "slurm_train.sh"), "a b.py", "--amp"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **env},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (
        "train.py 8 --nnodes=2 --node-rank=1 --master-addr=n7 --port=20005 "
        "-- a b.py --launcher pytorch --resume --amp"
    )
