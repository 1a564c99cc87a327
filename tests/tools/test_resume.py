"""A run that is killed, wherever, and resumed ends with the weights of one that was not.

On two processes too; ``pytest tests/tools/test_resume.py -k processes --kills 10`` kills ten times.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fgclip_det.compat import load_checkpoint_file
from fgclip_det.datasets.shapes.generator import generate

ROOT = Path(__file__).resolve().parents[2]
DETECTOR = ROOT / "configs" / "shapes" / "ovdet_tiny.py"
PRETRAIN = ROOT / "configs" / "shapes" / "pretrain_fgclip_tiny.py"
ENCODER = ROOT / "fgclip_det" / "assets" / "shapes" / "encoder"
KILLED = -signal.SIGKILL

# 14 pictures in batches of 4: 4 iterations an epoch, the last one of 2 pictures.
PICTURES = {"train": 14, "val": 2, "pretrain": 10}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Shapes, from which the commands are run."""
    folder = tmp_path_factory.mktemp("resume")
    generate(folder / "data" / "shapes", PICTURES)
    return folder


def _detector(workers: int, *options: str) -> list[str]:
    loaders = [
        f"{split}_dataloader.{setting}"
        for split in ("train", "val")
        for setting in (f"num_workers={workers}", f"persistent_workers={bool(workers)}")
    ]
    settings = [
        f"model.backbone.encoder={ENCODER}",
        "train_dataloader.batch_size=4",
        "train_cfg.max_epochs=2",
        "max_epochs=2",
        "train_cfg.val_interval=1",
        "model.train_cfg.rpn_proposal.max_per_img=20",
    ]
    return [str(DETECTOR), "--cfg-options", *settings, *loaders, *options]


def _pretrain(workers: int, *options: str) -> list[str]:
    small = ["hidden_size=32", "intermediate_size=32", "num_hidden_layers=1"]
    settings = [
        *(f"model.encoder.vision.{one}" for one in [*small, "image_size=64"]),
        *(f"model.encoder.text.{one}" for one in small),
        "train_dataloader.batch_size=4",
        f"train_dataloader.num_workers={workers}",
        f"train_dataloader.persistent_workers={bool(workers)}",
        "train_cfg.max_iters=7",
        "default_hooks.checkpoint.interval=2",
        "custom_hooks=[]",
    ]
    return [str(PRETRAIN), "--cfg-options", *settings, *options]


def _run(
    folder: Path, runs: list[tuple[list[str], str, tuple[str, int] | None]], processes: int = 1
) -> list[int]:
    """Exit codes of runs, each a command, its work dir and where it is killed (which rank is)."""
    listed = [
        {
            "arguments": [*command, "--work-dir", work_dir, "--resume"],
            "kill": kill and (*kill, 0)[:3],
            "processes": processes,
        }
        for command, work_dir, kill in runs
    ]
    (folder / "runs.json").write_text(json.dumps(listed), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "tools" / "killed_runs.py"), "runs.json"],
        cwd=folder,
        # The runs are forks of one process, which a CUDA context does not survive.
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def _differences(first: object, second: object, name: str = "") -> list[str]:
    """Names of what differs in two nested states, tensors bit by bit."""
    if isinstance(first, torch.Tensor):
        return [] if torch.equal(first, second) else [name]
    if isinstance(first, dict | list | tuple):
        if len(first) != len(second):
            return [f"{name}: {len(first)} and {len(second)} entries"]
        keys = list(first) if isinstance(first, dict) else range(len(first))
        return [d for key in keys for d in _differences(first[key], second[key], f"{name}.{key}")]
    return [] if first == second else [f"{name}: {first} and {second}"]


def _check_equal(
    folder: Path, checkpoint: str, *work_dirs: str, besides: tuple[str, ...] = ()
) -> None:
    whole, *others = [load_checkpoint_file(folder / name / checkpoint) for name in work_dirs]
    for other in others:
        for part in ("state_dict", "optimizer", "param_schedulers"):
            found = _differences(whole[part], other[part], part)
            assert [name for name in found if not any(one in name for one in besides)] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "precision", "killed"),
    [
        (0, [], [("writing", 2), ("naming", 2), ("recording", 1), ("validating", 1)]),
        (1, ["--amp", "--amp-dtype=float16"], [("step", 6)]),
    ],
)
def test_epochs(
    folder: Path, workers: int, precision: list[str], killed: list[tuple[str, int]]
) -> None:
    run, name = [*precision, *_detector(workers)], f"epochs{workers}_"
    runs = [(run, f"{name}whole", None)]
    for point in killed:
        runs += [(run, f"{name}{point[0]}", point), (run, f"{name}{point[0]}", None)]
    assert _run(folder, runs) == [0] + [KILLED, 0] * len(killed)
    _check_equal(folder, "epoch_2.pth", f"{name}whole", *(f"{name}{p[0]}" for p in killed))


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "times"), [(0, 5), (1, 1)])
def test_the_middle_of_an_epoch_and_of_an_update(folder: Path, workers: int, times: int) -> None:
    run = _detector(
        workers,
        "default_hooks.checkpoint.by_epoch=False",
        "default_hooks.checkpoint.interval=1",
        "default_hooks.checkpoint.max_keep_ckpts=1",
        "optim_wrapper.accumulative_counts=3",
    )
    name = f"middle{workers}_"
    # 8 iterations, updates after 3, 6 and 8. Each run saves one checkpoint and dies writing the
    # next; the one after them is killed in the update after 6.
    again = [(run, f"{name}often", ("writing", 2))] * times
    last = ("step", 2 if times == 1 else 1)
    runs = [(run, f"{name}whole", None), *again, (run, f"{name}often", last)]
    assert _run(folder, [*runs, (run, f"{name}often", None)]) == [0] + [KILLED] * (times + 1) + [0]
    _check_equal(folder, "iter_8.pth", f"{name}whole", f"{name}often")
    assert [path.name for path in (folder / f"{name}often").glob("*.pth*")] == ["iter_8.pth"]


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "sampler"), [(0, "DefaultSampler"), (1, "InfiniteSampler")])
def test_iterations(folder: Path, workers: int, sampler: str) -> None:
    run = _pretrain(workers, f"train_dataloader.sampler.type={sampler}")
    name = f"iterations{workers}_"
    killed = [("step", 1), ("step", 4), ("recording", 3)]
    runs = [(run, f"{name}whole", None)]
    for number, point in enumerate(killed):
        runs += [(run, f"{name}{number}", point), (run, f"{name}{number}", None)]
    assert _run(folder, runs) == [0] + [KILLED, 0] * len(killed)
    _check_equal(folder, "iter_7.pth", f"{name}whole", *(f"{name}{n}" for n in range(len(killed))))


@pytest.mark.slow
def test_two_processes(folder: Path, pytestconfig: pytest.Config) -> None:
    kills, draw = pytestconfig.getoption("kills"), random.Random(3)
    epochs = max(2, kills * 3 // 4)
    run = _detector(
        0,
        "train_dataloader.batch_size=2",
        f"train_cfg.max_epochs={epochs}",
        f"max_epochs={epochs}",
        "default_hooks.checkpoint.by_epoch=False",
        "default_hooks.checkpoint.interval=1",
    )
    # Only the first process writes; each goes on until its next checkpoint, or little further.
    points = [("step", 0), ("step", 1), ("validating", 1), ("writing", 0), ("recording", 0)]
    killed = []
    for point, rank in (draw.choice(points) for _ in range(kills)):
        count = 1 if point == "validating" else draw.choice([1, 2])
        killed.append((run, "two_killed", (point, count, rank)))
    runs = [(run, "two_whole", None), *killed, (run, "two_killed", None)]
    assert _run(folder, runs, processes=2) == [0] + [KILLED] * kills + [0]
    last = f"iter_{4 * epochs}.pth"
    _check_equal(folder, last, "two_whole", "two_killed")
    # One process that takes both parts; its batch norm counts one of them after the other.
    assert _run(folder, [([*run, "train_cfg.parts=2"], "two_in_one", None)]) == [0]
    _check_equal(folder, last, "two_whole", "two_in_one", besides=(".running_", ".num_batches"))
