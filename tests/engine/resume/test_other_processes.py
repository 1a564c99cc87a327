"""Two gloo processes, and runs that go on on more and on fewer; a model of two layers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fgclip_det.compat import load_checkpoint_file
from tests.messages import says

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.slow

KILLED = -signal.SIGKILL
# 11 samples by 6: iterations of 6 and 5, the second of which two parts fill up to 6.
EPOCHS = dict(train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=3))
# Updates after 2, 4 and 6 iterations: those that are killed are killed within one.
ITERATIONS = dict(
    train_cfg=dict(type="IterBasedTrainLoop", max_iters=6),
    accumulative_counts=2,
    sampler="InfiniteSampler",
)


def _there_and_back(name: str, run: dict) -> list[dict]:
    """A run on two processes, one on one that takes both parts, and one that goes to and fro."""
    back = dict(run, work_dir=f"{name}_back")
    one = {**run["train_cfg"], "parts": 2}
    return [
        dict(run, processes=2, work_dir=f"{name}_two"),
        dict(run, processes=1, work_dir=f"{name}_one", train_cfg=one),
        dict(back, processes=2, kill=[1, 1]),
        dict(back, processes=1, kill=[0, 3]),
        dict(back, processes=2, kill=[0, 5]),
        dict(back, processes=1),
    ]


# 12 samples by 4: nothing to fill up, which would depend on the number of parts.
GROWN = dict(EPOCHS, length=12, noisy=False, work_dir="grown", batch_size=2)
REFUSED = dict(GROWN, processes=3)
CHANGED = dict(EPOCHS, processes=2, work_dir="changed")
RUNS = {
    "epochs": _there_and_back("epochs", EPOCHS),
    "iterations": _there_and_back("iterations", ITERATIONS),
    "grown": [
        dict(GROWN, processes=2, work_dir="whole"),
        dict(GROWN, processes=2, kill=[0, 3]),
        REFUSED,
        dict(GROWN, processes=4, kill=[3, 5]),
        dict(GROWN, processes=1, batch_size=4),
    ],
    "changed": [dict(CHANGED, kill=[1, 3]), dict(CHANGED, seed=4)],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, list[list[dict]]]:
    """What each process of each run tells (see `process_runs.py`), by the names of `RUNS`."""
    base = dict(length=11, batch_size=3, noisy=True, kill=None)
    runs = [{**base, **run} for several in RUNS.values() for run in several]
    (folder / "runs.json").write_text(json.dumps(runs), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("process_runs.py")), "runs.json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers = iter(json.loads(done.stdout.splitlines()[-1]))
    return {name: [next(answers) for _ in several] for name, several in RUNS.items()}


def _check_codes(name: str, runs: list[list[dict]]) -> None:
    """A run ends well, or one process was killed; the others of that run fail, or are killed."""
    for run, processes in zip(RUNS[name], runs, strict=True):
        codes = [process["code"] for process in processes]
        if "kill" in run:
            assert codes[run["kill"][0]] == KILLED and 0 not in codes
        elif run is not REFUSED:
            assert set(codes) == {0}


def _flat(value: object) -> list:
    """The leaves of a nested state, tensors as they are."""
    if isinstance(value, dict):
        return [leaf for key in value for leaf in (key, *_flat(value[key]))]
    if isinstance(value, list | tuple):
        return [leaf for one in value for leaf in _flat(one)]
    return [value]


def _state(path: Path) -> list:
    checkpoint = load_checkpoint_file(path)
    parts = ("state_dict", "ema_state_dict", "optimizer", "param_schedulers")
    counted = checkpoint["message_hub"]["runtime_info"]["samples_seen"]
    return [*_flat([checkpoint[part] for part in parts]), counted]


def _check_equal(first: Path, *others: Path, atol: float = 0.0) -> None:
    expected = _state(first)
    for other in others:
        found = _state(other)
        assert len(found) == len(expected)
        for one, two in zip(expected, found, strict=True):
            if isinstance(one, torch.Tensor):
                torch.testing.assert_close(two, one, atol=atol, rtol=0)
            else:
                assert one == two


# The sum over the iterations of an update is in another order where one process takes both parts.
@pytest.mark.parametrize(("name", "atol", "seen"), [("epochs", 0, 33), ("iterations", 1e-6, 36)])
def test_two_processes_equal_one_that_takes_their_parts(folder, told, name, atol, seen):
    runs = told[name]
    _check_codes(name, runs)
    for number in range(1, 7):
        kinds = ("two", "one", "back")
        paths = (folder / f"{name}_{kind}" / f"iter_{number}.pth" for kind in kinds)
        _check_equal(*paths, atol=atol)
    # Each process has its own rows, and the one that takes both parts has them in turn.
    two, one = runs[0], runs[1][0]
    turns = zip(two[0]["rows"], two[1]["rows"], strict=True)
    assert [rows for turn in turns for rows in turn] == one["rows"]
    assert runs[5][0]["rows"] == one["rows"][10:]
    assert one["losses"] == pytest.approx(two[0]["losses"])
    last = load_checkpoint_file(folder / f"{name}_two" / "iter_6.pth")
    assert last["message_hub"]["runtime_info"]["samples_seen"] == seen


def test_more_processes_cut_the_batches_and_see_the_same_samples(folder, told):
    _check_codes("grown", told["grown"])
    whole, _, refused, _, joined = told["grown"]
    _check_equal(folder / "whole" / "iter_9.pth", folder / "grown" / "iter_9.pth", atol=1e-6)
    expected = [sorted(a + b) for a, b in zip(whole[0]["rows"], whole[1]["rows"], strict=True)]
    assert [sorted(rows) for rows in joined[0]["rows"]] == expected[5:]
    assert [process["code"] for process in refused] == [2] * 3
    for process in refused:
        assert says("3 processes", "4 samples", "start 1 or 2 or 4").search(process["error"])


def test_a_seed_that_was_changed_is_that_of_the_run(folder, told):
    _check_codes("changed", told["changed"])
    _check_equal(folder / "epochs_two" / "iter_6.pth", folder / "changed" / "iter_6.pth")
