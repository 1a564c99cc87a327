"""FG-OVD's training pictures as a pretrainer's batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from PIL import Image

from fgclip_det.datasets import FGOVDDataset, PackRegionCaptions


def test_boxes_have_their_own_captions_and_pixels_are_rgb(tmp_path: Path) -> None:
    pixels = np.zeros((20, 30, 3), dtype=np.uint8)
    pixels[2:6, 3:9] = (200, 10, 0)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    captions = ["a red box", "a blue box", "a black ground", "a grey ground"]
    content = {
        "images": [{"id": 1, "file_name": "one.png", "height": 20, "width": 30}],
        "annotations": [
            _annotation(1, [3, 2, 6, 4], 3, [4]),
            _annotation(2, [0, 10, 30, 10], 1, [2]),
            _annotation(3, [9, 0, 1, 1], 3, [4]),
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(captions, 1)],
    }
    (tmp_path / "train.json").write_text(json.dumps(content), encoding="utf-8")
    dataset = FGOVDDataset(
        ann_file=str(tmp_path / "train.json"),
        data_prefix=dict(img=str(tmp_path)),
        n_negatives=1,
        test_mode=False,
        pipeline=[LoadImageFromFile(), PackRegionCaptions()],
    )
    item = dataset[0]
    assert torch.equal(item["image"], torch.from_numpy(pixels).permute(2, 0, 1))
    # Two boxes share a caption; all keep theirs, vocabulary by vocabulary.
    assert item["region_captions"] == ["a black ground", "a black ground", "a red box"]
    assert item["hard_captions"] == [
        ["a black ground", "a grey ground"],
        ["a black ground", "a grey ground"],
        ["a red box", "a blue box"],
    ]
    expected = [[3.0, 2.0, 9.0, 6.0], [9.0, 0.0, 10.0, 1.0], [0.0, 10.0, 30.0, 20.0]]
    assert item["boxes"].tolist() == expected and item["boxes"].dtype == torch.float32


def _annotation(number: int, box: list[int], right: int, wrong: list[int]) -> dict:
    area = box[2] * box[3]
    return dict(
        id=number, image_id=1, bbox=box, area=area, category_id=right, neg_category_ids=wrong
    )
