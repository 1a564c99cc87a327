"""What hostile inputs are made from: good files of each kind, made once and changed by nobody."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = ROOT / "fgclip_det" / "assets" / "shapes"
NAMES = ("a blue dotted star", "a green checkered star")


@dataclass(frozen=True)
class Data:
    """Paths of good files."""

    root: Path

    @property
    def picture(self) -> Path:
        """128 x 128, with a star in it."""
        return BUNDLED / "images" / "000006.png"

    @property
    def config(self) -> Path:
        """Of the bundled detector, from anywhere."""
        return self.root / "config.py"

    @property
    def test_config(self) -> Path:
        """To train and test the bundled detector on `shapes`."""
        return self.root / "test_config.py"

    @property
    def shapes(self) -> Path:
        """Four pictures, their annotations and their FG-OVD file."""
        return self.root / "shapes"

    @property
    def annotations(self) -> Path:
        """COCO's of `shapes`."""
        return self.shapes / "annotations" / "val.json"

    @property
    def fg_ovd(self) -> Path:
        """FG-OVD's of `shapes`."""
        return self.shapes / "annotations" / "val_fgovd.json"

    @property
    def coco(self) -> Path:
        """A small COCO 2017 with LVIS v1 beside it."""
        return self.root / "coco"

    def encoder(self, generation: int) -> Path:
        """A tiny FG-CLIP or FG-CLIP 2."""
        return self.root / f"encoder{generation}"

    def json(self, path: Path) -> Any:
        """Content of a JSON file."""
        return json.loads(path.read_text(encoding="utf-8"))

    def copy_encoder(self, generation: int, folder: Path) -> Path:
        """A copy to be changed."""
        return Path(shutil.copytree(self.encoder(generation), folder / "encoder"))

    @cached_property
    def proposals(self) -> list[dict[str, Any]]:
        """The objects of `shapes` as a detector's results."""
        return [
            {"image_id": one["image_id"], "category_id": 1, "bbox": one["bbox"], "score": 0.5}
            for one in self.json(self.annotations)["annotations"]
        ]

    @property
    def predictions(self) -> Path:
        """For `fg_ovd`, in JSON."""
        return self.root / "predictions.json"

    @property
    def official(self) -> Path:
        """The same as the official scripts pickle them."""
        return self.root / "official.pkl"

    @property
    def text_embeddings(self) -> Path:
        """Of `NAMES`, by the bundled encoder."""
        return self.root / "texts.safetensors"


def build(root: Path) -> None:
    """Makes all files of `Data`."""
    from fgclip_det.datasets.shapes import generate
    from fgclip_det.encoders import load_encoder
    from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
    from tests.generated_coco import generate_coco, generate_lvis
    from tests.tiny_encoders import tiny_fgclip, tiny_fgclip2

    data = Data(root)
    generate(data.shapes, {"pretrain_val": 4, "train": 4, "val": 4}, seed=1, workers=0)
    tiny_fgclip(speaks=True).save_pretrained(data.encoder(1))
    tiny_fgclip2(speaks=True).save_pretrained(data.encoder(2))
    generate_lvis(generate_coco(data.coco, 8, 8))
    texts = TextEmbeddings.encode(Vocabulary.parse(list(NAMES)), load_encoder(BUNDLED / "encoder"))
    texts.save(data.text_embeddings)
    _write_configs(data)
    _write_predictions(data)


def _write_configs(data: Data) -> None:
    from mmengine.config import Config

    config = Config.fromfile(BUNDLED / "config.py")
    config.model.vocabulary = str(BUNDLED / "vocabulary.json")
    config.model.backbone.encoder = str(BUNDLED / "encoder")
    data.config.write_text(config.pretty_text, encoding="utf-8")
    config = Config.fromfile(ROOT / "configs" / "shapes" / "ovdet_tiny.py")
    config.model.vocabulary = str(data.shapes / "vocabulary.json")
    config.model.backbone.encoder = str(BUNDLED / "encoder")
    for name in ("train", "val", "test"):
        loader = config[f"{name}_dataloader"]
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.update(
            data_root=f"{data.shapes}/", vocabulary=str(data.shapes / "vocabulary.json")
        )
    for name in ("val_evaluator", "test_evaluator"):
        config[name].ann_file = str(data.annotations)
    config.train_cfg.update(max_epochs=1, val_interval=9)
    config.work_dir = "out"
    data.test_config.write_text(config.pretty_text, encoding="utf-8")


def _write_predictions(data: Data) -> None:
    import numpy as np

    from fgclip_det.fg_ovd import read_fg_ovd
    from fgclip_det.fg_ovd.predictions import write_predictions

    file, random = read_fg_ovd(data.fg_ovd), np.random.default_rng(0)
    owners = {one["id"]: one for one in file.annotations}
    predictions, official = [], []
    for vocabulary in file.vocabularies(2):
        x, y, width, height = owners[vocabulary.annotation_id]["bbox"]
        boxes = np.array([[x, y, x + width, y + height], [0, 0, 9, 9]], np.float32)
        scores = random.random((2, 3)).astype(np.float32)
        predictions.append((vocabulary.annotation_id, boxes, scores))
        official.append(
            {
                "category_id": vocabulary.category_ids[0],
                "boxes": boxes.tolist(),
                "labels": [vocabulary.category_ids[i] for i in scores.argmax(axis=1)],
                "scores": scores.max(axis=1).tolist(),
                "total_scores": scores.tolist(),
            }
        )
    write_predictions(data.predictions, predictions, 2)
    data.official.write_bytes(pickle.dumps(official))
