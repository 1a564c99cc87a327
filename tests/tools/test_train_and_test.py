"""The commands of docs/shapes.md, one after the other, at the smallest size; and their refusals."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fgclip_det.compat import load_checkpoint_file
from fgclip_det.datasets.shapes.generator import generate
from fgclip_det.exit_codes import run_tool

ROOT = Path(__file__).resolve().parents[2]
DETECTOR = ROOT / "configs" / "shapes" / "ovdet_tiny.py"
PRETRAIN = ROOT / "configs" / "shapes" / "pretrain_fgclip_tiny.py"
FG_OVD = ROOT / "configs" / "fg_ovd"
BUNDLED = ROOT / "fgclip_det" / "assets" / "shapes" / "encoder"
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


@pytest.mark.slow
def test_a_short_training_already_finds_novel_classes(tmp_path: Path) -> None:
    """40 steps of the 1250 behind the table of docs/shapes.md, on the bundled encoder."""
    generate(tmp_path / "data" / "shapes", {"train": 160, "val": 60})
    options = [f"model.backbone.encoder={BUNDLED}", "test_dataloader.num_workers=0"]
    options += ["test_dataloader.persistent_workers=False", *QUICK, *QUICK_VAL]
    short = ["train_dataloader.batch_size=8", "train_cfg.max_epochs=2", "max_epochs=2"]
    _run(tmp_path, "train.py", DETECTOR, "--cfg-options", *options, *short)
    weights = tmp_path / "work_dirs" / "shapes_ovdet" / "epoch_2.pth"
    _run(tmp_path, "test.py", DETECTOR, weights, "--cfg-options", *options)
    metrics = json.loads((tmp_path / "work_dirs" / "shapes_ovdet" / "metrics.json").read_text())
    # 59 and 57 were measured.
    assert metrics["AP50_base"] > 40 and metrics["AP50_novel"] > 40, metrics


@pytest.mark.slow
def test_a_short_tuning_on_captions_beats_as_much_training_without(tmp_path: Path) -> None:
    """80 small steps of what is behind the tables of docs/fg_ovd.md."""
    generate(tmp_path / "data" / "shapes", {"train": 320, "val": 60})
    options = [f"model.backbone.encoder={BUNDLED}"]
    training = [f"load_from={BUNDLED.parent / 'detector.pth'}", *QUICK, *QUICK_VAL]
    training += ["train_dataloader.batch_size=8", "train_cfg.max_epochs=1", "max_epochs=1"]
    training += ["param_scheduler.0.end=20", "param_scheduler.1.end=1", "param_scheduler.1.T_max=1"]
    maps = []
    for name in ("finetune_shapes_tiny", "finetune_shapes_tiny_control"):
        folder = tmp_path / name
        config = FG_OVD / f"{name}.py"
        _run(
            tmp_path, "train.py", config, "--work-dir", folder, "--cfg-options", *options, *training
        )
        test = [FG_OVD / "shapes_tiny_hard_tuned.py", folder / "epoch_1.pth", "--work-dir", folder]
        test += ["--subsets", "hard", "--n-negatives", 10, "--cfg-options", *options]
        _run(tmp_path, "test.py", *test)
        found = json.loads((folder / "fg_ovd.json").read_text(encoding="utf-8"))
        maps.append(100 * found["subsets"]["hard"]["result"]["map"])
    # 38 and 29 were measured.
    assert maps[0] > maps[1] + 4, maps


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("train", ["absent.py"], "'absent.py'"),
        ("train", ["broken.py"], "'broken.py' cannot be read"),
        ("train", ["binary.py"], "'binary.py' cannot be read"),
        ("train", ["raises.py"], "ZeroDivisionError"),
        ("train", ["empty.py"], "train_cfg, train_dataloader, optim_wrapper"),
        ("train", [DETECTOR, "--resume", "absent.pth"], "absent.pth' does not exist"),
        (
            "train",
            [DETECTOR, "--cfg-options", "load_from=absent.pth"],
            "absent.pth' does not exist",
        ),
        ("train", [DETECTOR, "--cfg-options", "max_epoch=1"], "has no 'max_epoch'"),
        ("train", [DETECTOR, "--cfg-options", "model.bakbone.depth=1"], "'model.bakbone.depth'"),
        ("train", [DETECTOR, "--work-dir", "broken.py"], "'broken.py' is a file"),
        ("train", [DETECTOR, "--work-dir", "broken.py/x"], "Not a directory"),
        ("train", [DETECTOR, "--launcher", "pytorch"], "tools/dist_*.sh"),
        ("train", [DETECTOR, "--cfg-options", "model.backbone.encoder=nowhere"], "'nowhere'"),
        ("test", ["absent.py", "x.pth"], "'absent.py'"),
        ("test", [PRETRAIN, "absent.pth"], "test_cfg, test_dataloader, test_evaluator"),
        ("test", [DETECTOR, "absent.pth"], "absent.pth' does not exist"),
        ("test", [DETECTOR, "broken.py"], "broken.py' is refused"),
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
    (tmp_path / "empty.py").write_text("model = dict(type='x')")
    (tmp_path / "binary.py").write_bytes(bytes(range(256)))
    (tmp_path / "raises.py").write_text("x = 1 / 0")
    monkeypatch.delenv("RANK", raising=False)
    assert _tool(tool).main([str(argument) for argument in arguments]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last


@pytest.mark.parametrize("tool", [["train", DETECTOR], ["test", DETECTOR, "x.pth"]])
def test_malformed_options_are_an_error_of_the_arguments(
    tool: list, capsys: pytest.CaptureFixture
) -> None:
    name, *arguments = tool
    with pytest.raises(SystemExit) as stopped:
        _tool(name).main([*map(str, arguments), "--cfg-options", "word"])
    assert stopped.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.endswith("error: argument --cfg-options: 'word' is no key=value")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_missing_pictures_are_named(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    generate(tmp_path / "data" / "shapes", {"train": 2, "val": 2})
    for picture in (tmp_path / "data" / "shapes" / "train").iterdir():
        picture.unlink()
    settings = [f"model.backbone.encoder={BUNDLED}", f"train_dataloader.num_workers={workers}"]
    settings += [f"train_dataloader.persistent_workers={bool(workers)}"]
    settings += ["train_dataloader.dataset.check_images=False"]
    arguments = [str(DETECTOR), "--no-data-check", "--cfg-options", *settings]
    assert _tool("train").main(arguments) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: [Errno 2] No such file or directory: 'data/shapes/train/0000")
    assert last.endswith("check the paths in the config")


@pytest.mark.parametrize("split", ["train", "val"])
def test_one_missing_picture_stops_a_run_before_it_begins(
    split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    generate(tmp_path / "data" / "shapes", {"train": 6, "val": 6})
    missing = tmp_path / "data" / "shapes" / split / "000005.png"
    missing.unlink()
    settings = [f"model.backbone.encoder={BUNDLED}", *QUICK, *QUICK_VAL]
    settings += ["train_dataloader.batch_size=2", "train_cfg.val_interval=1"]
    assert _tool("train").main([str(DETECTOR), "--cfg-options", *settings]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    name = missing.relative_to(tmp_path)
    assert f"{split}.json': 1 of 6 pictures cannot be read, the first: '{name}' is missing" in last
    assert not list((tmp_path / "work_dirs").rglob("*.pth"))


@pytest.mark.parametrize("tool", ["train.py", "test.py"])
def test_runs_in_a_clone_that_was_not_installed(tool: str, tmp_path: Path) -> None:
    # -S leaves out the .pth files, and so the editable installation, not the packages.
    packages = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
    done = subprocess.run(
        [sys.executable, "-S", str(ROOT / "tools" / tool), "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": packages},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "--cfg-options" in done.stdout


def test_an_argument_that_no_option_set_is_a_bug() -> None:
    def bug() -> None:
        raise TypeError("f() got an unexpected keyword argument 'x'")

    with pytest.raises(TypeError):
        run_tool(bug, argparse.Namespace(cfg_options={"model.y": 1}))
    assert run_tool(bug, argparse.Namespace(cfg_options={"model.x": 1})) == 2


def test_amp_does_not_replace_a_wrapper_of_another_kind(capsys: pytest.CaptureFixture) -> None:
    options = ["optim_wrapper.type=OptimWrapperDict", f"model.backbone.encoder={DETECTOR.parent}"]
    assert _tool("train").main([str(DETECTOR), "--amp", "--cfg-options", *options]) == 2
    assert "'OptimWrapperDict'" in capsys.readouterr().err


def test_distributed_scripts_say_how_they_are_used() -> None:
    for script in ("dist_train.sh", "dist_test.sh", "slurm_train.sh"):
        done = subprocess.run(
            ["bash", str(ROOT / "tools" / script)], capture_output=True, text=True
        )
        assert done.returncode == 2
        assert "usage:" in done.stderr
