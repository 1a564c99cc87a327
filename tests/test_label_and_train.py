"""docs/label_and_train.md at small size: labels that no person made train a student."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.cli import main
from fgclip_det.datasets.shapes.generator import compositions, render

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs/label_and_train/rtmdet_tiny.py"
NAMES = ("red plain circle", "blue striped star")
NUMBER, BATCH, EPOCHS = 20, 10, 25


def tool(name: str, *arguments: object) -> None:
    command = [sys.executable, str(ROOT / "tools" / name), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def draw(folder: Path) -> Path:
    """Pictures with one or both of two names; gives the file of their true boxes."""
    known = {one.name: one for one in compositions()}
    rng = np.random.default_rng(0)
    folder.mkdir()
    images, annotations = [], []
    for place in range(1, NUMBER + 1):
        chosen = [known[name] for name in NAMES[place % 3 :] or NAMES]
        scene = render(rng, chosen)
        Image.fromarray(scene.image).save(folder / f"{place}.png")
        height, width = scene.image.shape[:2]
        images.append(dict(id=place, file_name=f"{place}.png", width=width, height=height))
        for item in scene.objects:
            left, top, right, bottom = item.box
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=place,
                    category_id=NAMES.index(item.composition.name) + 1,
                    bbox=[left, top, right - left, bottom - top],
                    area=(right - left) * (bottom - top),
                    iscrowd=0,
                )
            )
    categories = [dict(id=i, name=f"a {name}") for i, name in enumerate(NAMES, start=1)]
    told = dict(images=images, annotations=annotations, categories=categories)
    path = folder.with_suffix(".json")
    path.write_text(json.dumps(told), encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_student_learns_from_labels(tmp_path: Path) -> None:
    truth = draw(tmp_path / "train")
    labels = tmp_path / "labels"
    told = ["label", tmp_path / "train", "--texts", ". ".join(f"a {name}" for name in NAMES)]
    told += ["--negatives", BUNDLED / "vocabulary.json"]
    told += ["--out", labels, "--model", "bundled", "--val-share", 0]
    assert main([str(one) for one in told]) == 0
    names = json.loads((labels / "vocabulary.json").read_text(encoding="utf-8"))["names"]
    work_dir = tmp_path / "work"
    options = [f"model.bbox_head.num_classes={len(names)}", "default_hooks.logger.interval=1"]
    options += [f"train_dataloader.batch_size={BATCH}", "log_processor.window_size=1"]
    options += [f"train_cfg.max_epochs={EPOCHS}", f"train_cfg.val_interval={EPOCHS}"]
    options += [f"default_hooks.checkpoint.interval={EPOCHS}", "param_scheduler.0.end=10"]
    for kind in ("train", "val", "test"):
        dataset = f"{kind}_dataloader.dataset"
        options += [
            f"{dataset}.vocabulary={labels / 'vocabulary.json'}",
            f"{dataset}.ann_file={labels / 'coco/annotations/train.json'}",
            f"{dataset}.data_prefix.img={tmp_path / 'train'}",
        ]
    options += [f"{kind}_evaluator.ann_file={truth}" for kind in ("val", "test")]
    options += [f"{kind}_dataloader.dataset.ann_file={truth}" for kind in ("val", "test")]
    rest = ["--work-dir", work_dir, "--cfg-options", *options]
    tool("train.py", CONFIG, *rest)
    (log,) = work_dir.glob("*/vis_data/scalars.json")
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == EPOCHS * NUMBER // BATCH
    # Of random weights it is small: boxes weigh as much as they overlap the truth, and few do.
    assert sum(losses[-5:]) < 0.75 * sum(losses[5:10])
    tool("test.py", CONFIG, work_dir / f"epoch_{EPOCHS}.pth", *rest)
    metrics = json.loads((work_dir / "metrics.json").read_text(encoding="utf-8"))
    assert 0 <= metrics["AP50_all"] <= 100
