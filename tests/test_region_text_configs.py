"""The commands of configs/region_text/README.md, at tiny size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

# First, since mmdet needs mmcv's ops.
import fgclip_det.compat  # noqa: F401

# isort: split
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from fgclip_det.datasets.shapes.generator import generate

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs" / "region_text"
ENCODER = ROOT / "fgclip_det" / "assets" / "shapes" / "encoder"


def _tool(name: str, folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    """A tool, run where the data lies."""
    command = [sys.executable, ROOT / "tools" / name, *arguments]
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=folder
    )


@pytest.mark.slow
def test_a_detector_of_anything_is_trained_and_asked(tmp_path: Path) -> None:
    generate(tmp_path / "data" / "shapes", {"train": 160, "val": 24})
    work_dir = tmp_path / "work_dirs" / "region_text_shapes_detector"
    options = ["--cfg-options", "train_cfg.max_epochs=2", "train_cfg.val_interval=2"]
    done = _tool("train.py", tmp_path, CONFIGS / "shapes_detector.py", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "coco/AR@100" in done.stdout + done.stderr
    done = _tool(
        "test.py",
        tmp_path,
        CONFIGS / "shapes_tiny.py",
        work_dir / "epoch_2.pth",
        "--cfg-options",
        f"model.encoder={ENCODER}",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = json.loads((tmp_path / "work_dirs/region_text_shapes/metrics.json").read_text())
    # Twenty steps of training find most objects, and FG-CLIP knows what they are.
    assert metrics["proposal_recall_all@100"] > 50
    assert metrics["AP50_base"] > 10 and metrics["AP50_novel"] > 10


@pytest.mark.slow
def test_a_detector_of_mmdetection_on_coco(generated_coco: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "coco").symlink_to(generated_coco)
    path = CONFIGS / "retinanet_r50_fgclip_b_coco.py"
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        detector = MODELS.build(Config.fromfile(path).model.detector)
    torch.save({"state_dict": detector.state_dict()}, tmp_path / "retinanet.pth")
    pipeline = [dict(step) for step in Config.fromfile(path).test_dataloader.dataset.pipeline]
    for step in pipeline:
        if step["type"] == "Resize":
            step["scale"] = (96, 96)
    small = tmp_path / "small.py"
    small.write_text(
        f"_base_ = {str(path)!r}\n"
        "test_dataloader = dict(num_workers=0, persistent_workers=False,"
        f" dataset=dict(pipeline={pipeline!r}))\n"
        f"model = dict(encoder={str(ENCODER)!r})\n"
    )
    done = _tool("test.py", tmp_path, small, tmp_path / "retinanet.pth")
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = json.loads((tmp_path / "work_dirs" / "small" / "metrics.json").read_text())
    assert 0 <= metrics["coco/bbox_mAP"] <= 1
    done = _tool("test.py", tmp_path, small, ENCODER / "model.safetensors")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "the weights do not fit the detector: missing detector." in done.stderr
