"""FG-OVD's files as a dataset: one item per image, all its vocabularies."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope
from PIL import Image

import fgclip_det.datasets  # noqa: F401  (registers)

PIPELINE = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "ori_shape", "vocabularies")),
]


@pytest.fixture
def content(tmp_path: Path) -> dict:
    """Three images of two splits. Category 1 has two boxes; annotation 4 has one negative only."""
    for name in ("val2017/1.png", "train2017/2.png", "val2017/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / name)
    images = [
        {"id": i, "file_name": name, "width": 30, "height": 20}
        for i, name in ((7, "val2017/1.png"), (8, "train2017/2.png"), (9, "val2017/3.png"))
    ]
    rows = [
        (1, 7, 1, [2, 3], [1, 2, 3, 4]),
        (2, 7, 1, [2, 3], [10, 2, 3, 4]),
        (3, 7, 4, [5, 6], [1, 1, 8, 8]),
        (4, 9, 7, [8], [0, 0, 5, 5]),
        (5, 8, 9, [1, 3], [2, 3, 4, 5]),
    ]
    keys = ("id", "image_id", "category_id", "neg_category_ids", "bbox")
    return {
        "images": images,
        "annotations": [dict(zip(keys, row, strict=True)) for row in rows],
        "categories": [{"id": i, "name": f"caption {i}"} for i in range(1, 10)],
    }


def build(root: Path, content: dict, **kwargs):
    init_default_scope("mmdet")
    (root / "subset.json").write_text(json.dumps(content))
    return DATASETS.build(
        {
            "type": "FGOVDDataset",
            "ann_file": str(root / "subset.json"),
            "data_root": str(root),
            "data_prefix": {"img": ""},
            "pipeline": PIPELINE,
            "n_negatives": 2,
            **kwargs,
        }
    )


def test_an_item_is_an_image_with_its_vocabularies(tmp_path: Path, content: dict) -> None:
    dataset = build(tmp_path, content)
    assert len(dataset) == 2  # image 9 has one negative only
    sample = dataset[0]["data_samples"]
    assert sample.img_id == 7
    assert sample.vocabularies == [
        {"annotation_id": 1, "captions": ["caption 1", "caption 2", "caption 3"]},
        {"annotation_id": 3, "captions": ["caption 4", "caption 5", "caption 6"]},
    ]
    assert sample.gt_instances.bboxes.tensor.tolist() == [
        [1, 2, 4, 6],
        [10, 2, 13, 6],
        [1, 1, 9, 9],
    ]
    assert sample.gt_instances.labels.tolist() == [0, 0, 1]
    assert dataset.get_data_info(1)["img_path"].endswith("train2017/2.png")
    assert dataset.metainfo["captions"] == tuple(f"caption {i}" for i in (1, 2, 3, 4, 5, 6, 9))
    assert dataset.metainfo["missing_images"] == 0


def test_fewer_negatives_are_the_first_ones(tmp_path: Path, content: dict) -> None:
    dataset = build(tmp_path, content, n_negatives=1)
    assert len(dataset) == 3
    assert dataset.get_data_info(0)["vocabularies"][0]["captions"] == ["caption 1", "caption 2"]


def test_missing_pictures_are_named_before_anything_runs(tmp_path: Path, content: dict) -> None:
    (tmp_path / "val2017" / "1.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 2 pictures .* missing.*val2017/1\.png.*skip_miss"):
        build(tmp_path, content)
    dataset = build(tmp_path, content, skip_missing=True)
    assert len(dataset) == 1
    assert dataset.metainfo["missing_images"] == 1
    (tmp_path / "train2017" / "2.png").unlink()
    with pytest.raises(ValueError, match="none of the 2 pictures"):
        build(tmp_path, content, skip_missing=True)


def test_the_first_five_missing_pictures_are_listed(tmp_path: Path, content: dict) -> None:
    content["images"] = [
        {"id": i, "file_name": f"val2017/gone{i}.png", "width": 30, "height": 20}
        for i in range(1, 16)
    ]
    content["annotations"] = [
        {**content["annotations"][0], "id": i, "image_id": i} for i in range(1, 16)
    ]
    content["categories"] += [{"id": 100 + i, "name": "x"} for i in range(16)]
    for i, annotation in enumerate(content["annotations"]):
        annotation["category_id"] = 100 + i
    with pytest.raises(ValueError, match="15 of 15 pictures") as error:
        build(tmp_path, content)
    assert len(re.findall(r"gone\d+\.png", str(error.value))) == 5


def test_more_negatives_than_there_are(tmp_path: Path, content: dict) -> None:
    with pytest.raises(ValueError, match=r"no annotation .* has 11 negatives: use at most 2"):
        build(tmp_path, content, n_negatives=11)


def test_a_missing_category_is_named(tmp_path: Path, content: dict) -> None:
    content["categories"] = content["categories"][:-1]
    with pytest.raises(ValueError, match="annotation 5 has the category_id 9"):
        build(tmp_path, content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_name": None}, "has no 'file_name', but None: give the path"),
        ({"file_name": 5}, "has no 'file_name', but 5: give the path"),
        ({"height": None}, "has the height None: no number of pixels"),
        ({"width": -3}, "has the width -3: no number of pixels"),
        ({"height": "x"}, "has the height 'x': no number of pixels"),
    ],
)
def test_images_need_a_name_and_a_size(
    tmp_path: Path, content: dict, change: dict, message: str
) -> None:
    content["images"][0].update(change)
    with pytest.raises(ValueError, match=rf"subset\.json.*: image 7 {message}"):
        build(tmp_path, content)


@pytest.mark.parametrize("kept", [0, 40])
def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path, content: dict, kept: int) -> None:
    path = tmp_path / "train2017" / "2.png"
    path.write_bytes(path.read_bytes()[:kept])
    dataset = build(tmp_path, content)
    with pytest.raises(ValueError, match=r"picture '.*2\.png' cannot be read .*--skip-missing"):
        dataset[1]
