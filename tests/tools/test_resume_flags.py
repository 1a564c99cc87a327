"""What --resume, --amp and compile make of a config."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from fgclip_det.datasets.shapes.generator import generate

ROOT = Path(__file__).resolve().parents[2]
DETECTOR = ROOT / "configs" / "shapes" / "ovdet_tiny.py"
ENCODER = ROOT / "fgclip_det" / "assets" / "shapes" / "encoder"


@pytest.fixture
def flags(tmp_path: Path):
    """Applies arguments of tools/train.py to the Shapes detector's config."""
    spec = importlib.util.spec_from_file_location("tool_train", ROOT / "tools" / "train.py")
    train = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(train)

    def flags(*arguments: str, **settings) -> Config:
        config = Config.fromfile(DETECTOR)
        config.merge_from_dict({"work_dir": str(tmp_path / "run"), **settings})
        train.apply_flags(config, train.build_parser().parse_args([str(DETECTOR), *arguments]))
        return config

    return flags


def _save(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    content = dict(meta={"iter": 1, "epoch": 1}, message_hub={}, optimizer={}, state_dict={})
    torch.save({**content, "state_dict": {"w": torch.zeros(1)}}, path)
    return path


def test_resume_before_anything_was_saved_starts_as_the_run_did(flags, tmp_path: Path) -> None:
    start = str(_save(tmp_path / "start" / "start.pth"))
    config = flags("--resume", load_from=start)
    assert (config.resume, config.load_from) == (False, start)
    config = flags("--resume")
    assert (config.resume, config.load_from) == (False, None)


@pytest.mark.parametrize("arguments", [["--resume"], []])
def test_resume_takes_the_last_whole_checkpoint(flags, tmp_path: Path, arguments: list) -> None:
    whole = _save(tmp_path / "run" / "epoch_1.pth")
    torn = _save(tmp_path / "run" / "epoch_2.pth")
    torn.write_bytes(torn.read_bytes()[:100])
    (tmp_path / "run" / "last_checkpoint").write_text(str(torn))
    config = flags(*arguments, resume=not arguments)
    assert (config.resume, config.load_from) == (True, str(whole))


def test_resume_of_a_path_takes_that_one(flags, tmp_path: Path) -> None:
    _save(tmp_path / "run" / "epoch_2.pth")
    first = str(_save(tmp_path / "run" / "epoch_1.pth"))
    config = flags("--resume", first)
    assert (config.resume, config.load_from) == (True, first)


@pytest.mark.parametrize(
    ("arguments", "dtype"),
    [
        (["--amp"], None),
        (["--amp-dtype", "bfloat16"], "bfloat16"),
        (["--amp", "--amp-dtype", "float16"], "float16"),
    ],
)
def test_amp_keeps_the_rest_of_the_wrapper(flags, arguments: list, dtype: str | None) -> None:
    before, after = flags().optim_wrapper, flags(*arguments).optim_wrapper
    assert after.type == "AutocastOptimWrapper"
    assert after.get("dtype") == dtype
    assert {**after, "type": before.type, "dtype": None} == {**before, "dtype": None}


@pytest.mark.slow
def test_compiled_training_runs(tmp_path: Path) -> None:
    generate(tmp_path / "data" / "shapes", {"train": 2, "val": 1})
    loaders = [
        f"{split}_dataloader.{setting}"
        for split in ("train", "val")
        for setting in ("num_workers=0", "persistent_workers=False")
    ]
    settings = [
        "compile=True",
        f"model.backbone.encoder={ENCODER}",
        "train_dataloader.batch_size=2",
        "train_cfg.max_epochs=1",
        "train_cfg.val_interval=9",
        "train_cfg.val_begin=9",
    ]
    script = str(ROOT / "tools" / "train.py")
    done = subprocess.run(
        [sys.executable, script, str(DETECTOR), "--cfg-options", *settings, *loaders],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "backbone and neck are compiled" in done.stdout + done.stderr
    assert (tmp_path / "work_dirs" / "shapes_ovdet" / "epoch_1.pth").is_file()
