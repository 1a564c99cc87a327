"""How a process finds its number and the others."""

from __future__ import annotations

import os

import pytest

from fgclip_det.engine.launch import process_group
from fgclip_det.engine.launch.process_group import start_processes, take_environment
from tests.messages import says

PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PLACE:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(PLACE, ("1", "2", "1", "127.0.0.1", "1"), strict=True):
        monkeypatch.setenv(name, value)


def test_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PROCID": "9", "NTASKS": "16", "LOCALID": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setattr(process_group.subprocess, "check_output", lambda *_, **__: "n7\nn8\n")
    take_environment("slurm", port=1234)
    assert [os.environ[name] for name in PLACE] == ["9", "16", "1", "n7", "1234"]


def test_mpi_has_a_gpu_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "3", "SIZE": "4", "LOCAL_RANK": "2"}.items():
        monkeypatch.setenv(f"OMPI_COMM_WORLD_{name}", value)
    monkeypatch.setenv("LOCAL_RANK", "0")  # what a tool sets where nobody says
    monkeypatch.setenv("MASTER_ADDR", "n1")
    take_environment("mpi")
    assert [os.environ[name] for name in PLACE] == ["3", "4", "2", "n1", "29500"]


@pytest.mark.parametrize(
    ("launcher", "missing"),
    [("pytorch", "RANK, WORLD_SIZE"), ("slurm", "SLURM_PROCID"), ("mpi", "OMPI_COMM_WORLD_RANK")],
)
def test_nobody_started_it(launcher: str, missing: str) -> None:
    with pytest.raises(ValueError, match=says(f"--launcher {launcher} is set, but not {missing}")):
        take_environment(launcher)


@pytest.mark.parametrize("limit", [0, -1, "600", True, None])
def test_a_limit_that_is_none(limit: object, second_of_two: None) -> None:
    with pytest.raises(ValueError, match=says(f"env_cfg.dist_cfg.timeout is {limit!r}")):
        start_processes("pytorch", {"timeout": limit})


def test_fewer_gpus_than_processes(monkeypatch: pytest.MonkeyPatch, second_of_two: None) -> None:
    monkeypatch.setattr(process_group, "get_device", lambda: "cuda")
    monkeypatch.setattr(process_group.torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=says("process 1 finds no GPU of its own")):
        start_processes("pytorch")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("listen failed (EADDRINUSE, code: -98)", "port 1 of 127.0.0.1 is in use"),
        ("timed out\n1/2 joined", "process 1 of 2 does not reach the others by 127.0.0.1:1 (timed"),
    ],
)
def test_no_meeting(
    error: str, message: str, monkeypatch: pytest.MonkeyPatch, second_of_two: None
) -> None:
    def fail(*_, **__) -> None:
        raise process_group.dist.DistNetworkError(error)

    monkeypatch.setattr(process_group, "get_device", lambda: "cpu")
    monkeypatch.setattr(process_group.dist, "init_process_group", fail)
    with pytest.raises(ConnectionError, match=says(message)):
        start_processes("pytorch")
