"""The commands of docs/shapes.md, one after the other, at the smallest size; and their refusals."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fgclip_det.compat import load_checkpoint_file
from fgclip_det.datasets.shapes import generate

ROOT = Path(__file__).resolve().parents[2]
DETECTOR = ROOT / "configs" / "shapes" / "ovdet_tiny.py"
PRETRAIN = ROOT / "configs" / "shapes" / "pretrain_fgclip_tiny.py"
QUICK = ["train_dataloader.num_workers=0", "train_dataloader.persistent_workers=False"]
QUICK_VAL = ["val_dataloader.num_workers=0", "val_dataloader.persistent_workers=False"]


def _tool(name: str):
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run(folder: Path, tool: str, *arguments: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, ROOT / "tools" / tool, *arguments]
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Shapes, from which the commands are run."""
    folder = tmp_path_factory.mktemp("reader")
    generate(folder / "data" / "shapes", {"pretrain": 8, "train": 8, "val": 4})
    return folder


@pytest.mark.slow
def test_the_commands_of_the_documentation(folder: Path) -> None:
    _run(
        folder,
        "train.py",
        PRETRAIN,
        "--cfg-options",
        *QUICK,
        "train_dataloader.batch_size=4",
        "train_cfg.max_iters=2",
        "model.encoder.vision.hidden_size=32",
        "model.encoder.vision.intermediate_size=32",
    )
    assert (folder / "work_dirs" / "shapes_pretrain" / "encoder" / "tokenizer.json").is_file()

    options = [*QUICK, *QUICK_VAL, "train_dataloader.batch_size=4"]
    one = ["train_cfg.max_epochs=1", "train_cfg.val_interval=1"]
    _run(folder, "train.py", DETECTOR, "--cfg-options", *options, *one)
    first = folder / "work_dirs" / "shapes_ovdet" / "epoch_1.pth"
    two = ["train_cfg.max_epochs=2", "train_cfg.val_interval=2"]
    _run(folder, "train.py", DETECTOR, "--resume", "--cfg-options", *options, *two)
    second = load_checkpoint_file(folder / "work_dirs" / "shapes_ovdet" / "epoch_2.pth")
    state = load_checkpoint_file(first)["state_dict"]
    assert second["meta"]["iter"] == 4
    assert not any(key.startswith("backbone.encoder") for key in state)
    moved = [k for k, v in state.items() if not torch.equal(v, second["state_dict"][k])]
    assert "roi_head.bbox_head.fc_reg.weight" in moved

    test_options = ["test_dataloader.num_workers=0", "test_dataloader.persistent_workers=False"]
    printed = _run(
        folder,
        "test.py",
        DETECTOR,
        first,
        "--work-dir",
        "tested",
        "--show-dir",
        "shown",
        "--cfg-options",
        *test_options,
    )
    metrics = json.loads((folder / "tested" / "metrics.json").read_text())
    assert {"AP50_base", "AP50_novel", "AP50_all"} <= set(metrics)
    assert f"AP50_all {metrics['AP50_all']:.2f}" in printed
    assert len(list((folder / "tested").rglob("shown/*.png"))) == 4

    printed = _run(folder, "bundle_model.py", DETECTOR, first, "--out", folder / "bundle")
    assert "MB" in printed
    half = load_checkpoint_file(folder / "bundle" / "detector.pth")["state_dict"]
    assert half["roi_head.bbox_head.fc_reg.weight"].dtype == torch.float16
    assert (folder / "bundle" / "encoder" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("train", ["absent.py"], "no config file at 'absent.py'"),
        ("train", ["broken.py"], "'broken.py' cannot be read"),
        ("train", ["empty.py"], "does not say how to train"),
        ("train", [DETECTOR, "--resume", "absent.pth"], "no checkpoint at 'absent.pth'"),
        ("train", [DETECTOR, "--cfg-options", "model.backbone.encoder=nowhere"], "'nowhere'"),
        ("test", ["absent.py", "x.pth"], "no config file at 'absent.py'"),
        ("test", [DETECTOR, "absent.pth"], "absent.pth does not exist"),
        ("test", [DETECTOR, "broken.py"], "broken.py is refused"),
        ("test", [DETECTOR, "x.pth", "--out", "found.json"], "must end in .pkl"),
    ],
)
def test_user_errors_are_one_line(
    tool: str,
    arguments: list,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("model = dict(")
    (tmp_path / "empty.py").write_text("model = dict()")
    assert _tool(tool).main([str(argument) for argument in arguments]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last


@pytest.mark.skipif(torch.cuda.is_available(), reason="with CUDA, --amp works")
def test_amp_without_cuda_says_so(capsys: pytest.CaptureFixture) -> None:
    assert _tool("train").main([str(DETECTOR), "--amp"]) == 2
    assert "--amp needs CUDA" in capsys.readouterr().err


def test_distributed_scripts_say_how_they_are_used() -> None:
    for script in ("dist_train.sh", "dist_test.sh"):
        done = subprocess.run(
            ["bash", str(ROOT / "tools" / script)], capture_output=True, text=True, timeout=20
        )
        assert done.returncode == 2
        assert "usage:" in done.stderr
