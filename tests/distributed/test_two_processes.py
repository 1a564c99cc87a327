"""The tools in two processes on the CPU: equal numbers, and ends that all of them hear of."""

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
from fgclip_det.datasets.shapes.generator import generate

ROOT = Path(__file__).resolve().parents[2]
ENCODER = ROOT / "fgclip_det" / "assets" / "shapes" / "encoder"
DETECTOR = ROOT / "configs" / "shapes" / "ovdet_tiny.py"
FG_OVD = ROOT / "configs" / "fg_ovd" / "shapes_tiny_hard.py"
KILLED = -signal.SIGKILL
# 7 batches of 2: the last round is padded. 5 pictures in two processes: so is the last one.
PICTURES = {"train": 13, "val": 5}
# Both metrics on one pass; LVIS's file is made of Shapes' own.
BOTH_METRICS = f"""
_base_ = "{DETECTOR}"
test_evaluator = [
    _base_.test_evaluator,
    dict(type="OVLVISMetric", ann_file="lvis.json", metric="bbox", prefix="lvis"),
]
"""
# The second process is killed in the second epoch, when the run is started for the first time.
KILL_ONCE = """
import os
import signal

from mmdet.registry import HOOKS
from mmengine.hooks import Hook


@HOOKS.register_module()
class KillOnce(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        is_first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if is_first and runner.rank == 1 and runner.iter == 5:
            os.kill(os.getpid(), signal.SIGKILL)
"""
KILLED_ONCE = f"""
_base_ = "{DETECTOR}"
custom_hooks = [dict(type="KillOnce")]
custom_imports = _base_.custom_imports
custom_imports.imports.append("kill_once")
"""
WHOLE, PARTS = "whole", "parts"


def _options(*more: str) -> list[str]:
    loaders = [f"{split}_dataloader" for split in ("train", "val", "test")]
    return [
        "--cfg-options",
        f"model.backbone.encoder={ENCODER}",
        "train_dataloader.batch_size=2",
        "train_dataloader.dataset.filter_cfg.filter_empty_gt=False",
        "train_cfg.max_epochs=2",
        "max_epochs=2",
        "train_cfg.val_interval=1",
        "param_scheduler.0.end=2",
        "model.train_cfg.rpn_proposal.max_per_img=20",
        *(f"{loader}.num_workers=0" for loader in loaders),
        *(f"{loader}.persistent_workers=False" for loader in loaders),
        *more,
    ]


def _train(work_dir: str, *more: str, **given: object) -> dict:
    arguments = [str(DETECTOR), "--resume", "--work-dir", work_dir, *_options(*more)]
    return {"tool": "train", "arguments": arguments, "processes": 2, **given}


def _test(config: Path | str, work_dir: str, processes: int) -> dict:
    arguments = [str(config), f"{WHOLE}/epoch_2.pth", "--work-dir", work_dir, *_options()]
    return {"tool": "test", "arguments": arguments, "processes": processes}


RUNS = {
    WHOLE: _train(WHOLE),
    # In the first step of the second epoch.
    "killed": _train(PARTS, kill=[1, "step", 5]),
    "resumed": _train(PARTS),
    **{f"coco{count}": _test("both.py", f"coco{count}", count) for count in (1, 2)},
    **{f"fg_ovd{count}": _test(FG_OVD, f"fg_ovd{count}", count) for count in (1, 2)},
    "full": _train("full", room={"0": 400_000}),
    "other": _train("other", own={"1": ["optim_wrapper.optimizer.lr=0.5"]}),
    "spare": _train("spare", "train_dataloader.dataset.indices=1", "train_cfg.max_epochs=1"),
}


def _prepare(folder: Path) -> None:
    data = folder / "data" / "shapes"
    generate(data, PICTURES)
    train = data / "annotations" / "train.json"
    content = json.loads(train.read_text(encoding="utf-8"))
    # Half of the pictures have no box, and so have whole batches of a process.
    empty = {image["id"] for image in content["images"][::2]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] not in empty]
    train.write_text(json.dumps(content), encoding="utf-8")
    lvis = json.loads((data / "annotations" / "val.json").read_text(encoding="utf-8"))
    for number, category in enumerate(lvis["categories"]):
        category["frequency"] = "rcf"[number % 3]
    for image in lvis["images"]:
        image |= {"neg_category_ids": [1, 2, 3], "not_exhaustive_category_ids": []}
    (folder / "lvis.json").write_text(json.dumps(lvis), encoding="utf-8")
    (folder / "both.py").write_text(BOTH_METRICS, encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all runs have been, one after the other; `codes.json` has their exit codes."""
    folder = tmp_path_factory.mktemp("distributed")
    _prepare(folder)
    runs = [{"name": name, **given} for name, given in RUNS.items()]
    (folder / "runs.json").write_text(json.dumps(runs), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "distributed" / "forked_processes.py"), "runs.json"],
        cwd=folder,
        # The runs are forks of one process, which a CUDA context does not survive.
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (folder / "codes.json").write_text(done.stdout.splitlines()[-1], encoding="utf-8")
    return folder


def _check_equal(folder: Path, first: str, second: str) -> None:
    states = [
        load_checkpoint_file(folder / name / "epoch_2.pth")["state_dict"]
        for name in (first, second)
    ]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def _codes(folder: Path, name: str) -> list[int]:
    codes = json.loads((folder / "codes.json").read_text(encoding="utf-8"))[name]
    for rank in range(len(codes)):
        print(_printed(folder, name, rank)[-3000:])
    return codes


def _printed(folder: Path, name: str, rank: int) -> str:
    return (folder / f"{name}-{rank}.txt").read_text(encoding="utf-8", errors="replace")


def _error(folder: Path, name: str, rank: int) -> str:
    """The one line that a process says of its end."""
    printed = _printed(folder, name, rank)
    assert "Traceback" not in printed
    lines = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, printed[-3000:]
    return lines[0]


def _validated(folder: Path, name: str) -> list[dict]:
    """What the validations of a run found."""
    logs = sorted((folder / name).glob("*/vis_data/scalars.json"))
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    return [{k: v for k, v in one.items() if "AP" in k} for one in lines if "AP50_all" in one]


@pytest.mark.slow
def test_trains_where_a_process_has_no_boxes_and_resumes_after_a_kill(folder: Path) -> None:
    assert _codes(folder, WHOLE) == [0, 0]
    assert _codes(folder, "killed") == [4, KILLED]
    assert _error(folder, "killed", 0) == (
        "error: process 0 of 2 ends: another one is gone (killed, or its machine is): go on with "
        "--resume"
    )
    assert _codes(folder, "resumed") == [0, 0]
    _check_equal(folder, WHOLE, PARTS)
    assert _validated(folder, WHOLE)[-1] == _validated(folder, PARTS)[-1]


@pytest.mark.slow
def test_torchrun_starts_it_again_and_it_goes_on(folder: Path) -> None:
    (folder / "kill_once.py").write_text(KILL_ONCE, encoding="utf-8")
    (folder / "killed_once.py").write_text(KILLED_ONCE, encoding="utf-8")
    script = str(ROOT / "tools" / "dist_train.sh")
    flags = ["--max-restarts", "1", "--work-dir", "again", *_options()]
    done = subprocess.run(
        ["bash", script, "killed_once.py", "2", *flags],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert "resumed epoch: 1, iter: 4" in done.stdout
    _check_equal(folder, WHOLE, "again")


@pytest.mark.slow
@pytest.mark.parametrize("data", ["coco", "fg_ovd"])
def test_metrics_do_not_depend_on_the_number_of_processes(folder: Path, data: str) -> None:
    assert _codes(folder, f"{data}1") + _codes(folder, f"{data}2") == [0, 0, 0]
    one, two = (
        json.loads((folder / f"{data}{count}" / "metrics.json").read_text()) for count in (1, 2)
    )
    assert one == two
    assert any(value for value in one.values()), one


@pytest.mark.slow
def test_what_is_validated_is_what_is_saved(folder: Path) -> None:
    assert _codes(folder, "coco1") == [0]
    saved = json.loads((folder / "coco1" / "metrics.json").read_text())
    validated = _validated(folder, WHOLE)[-1]
    assert validated == {name: saved[name] for name in validated}


@pytest.mark.slow
def test_running_statistics_are_those_of_all_processes(folder: Path) -> None:
    assert _codes(folder, WHOLE) == [0, 0]
    paths = [folder / f"{WHOLE}-{rank}.jsonl" for rank in range(2)]
    first, second = ([json.loads(line) for line in path.open(encoding="utf-8")] for path in paths)
    # Before the checkpoint and the validation of each epoch.
    assert len(first) == len(second) == 4
    for (before, after), (other_before, other_after) in zip(first, second, strict=True):
        assert after == other_after
        means = [(a + b) / 2 for a, b in zip(before, other_before, strict=True)]
        assert after == pytest.approx(means, abs=1e-5)
    assert first[0][0] != second[0][0]


@pytest.mark.slow
def test_a_full_disk_ends_both_processes(folder: Path) -> None:
    assert _codes(folder, "full") == [2, 4]
    reason = "full/epoch_1.pth was not saved"
    assert reason in _error(folder, "full", 0)
    told = _error(folder, "full", 1)
    assert told.startswith("error: process 1 ends, as process 0 did: ") and reason in told
    assert not list((folder / "full").glob("*.pth*"))


@pytest.mark.slow
def test_another_config_is_refused_by_both_processes(folder: Path) -> None:
    assert _codes(folder, "other") == [2, 2]
    for rank in range(2):
        error = _error(folder, "other", rank)
        assert error.startswith("error: process 1 (on ")
        assert "config optim_wrapper.optimizer.lr ('0.5', not '0.001')" in error


@pytest.mark.slow
def test_more_processes_than_pictures(folder: Path) -> None:
    assert _codes(folder, "spare") == [0, 0]
    assert (folder / "spare" / "epoch_1.pth").is_file()
