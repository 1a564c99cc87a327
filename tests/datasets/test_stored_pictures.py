"""Pictures with an EXIF orientation are read as stored, and boxes fit the pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mmcv.transforms import Compose
from mmdet.registry import DATASETS, TRANSFORMS
from mmengine.registry import init_default_scope
from PIL import Image

from fgclip_det.datasets.region_captions import RegionCaptionDataset

LOAD = dict(type="LoadImageFromFile")
BOXES = dict(type="LoadAnnotations", with_bbox=True)
PACK = dict(type="PackDetInputs", meta_keys=("img_path",))
# A box of another color than all around it: x, y, width, height, in pixels as stored.
BOX = [14, 3, 4, 10]


def save(path: Path, entry: int | None, size: tuple[int, int] = (30, 20)) -> Path:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    x, y, width, height = BOX
    pixels[y : y + height, x : x + width] = 255
    exif = Image.Exif()
    if entry:
        exif[0x0112] = entry
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif, quality=100)
    return path


def content(width: int, height: int, name: str) -> dict:
    image = {"id": 1, "file_name": name, "width": width, "height": height}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": BOX, "area": 40, "iscrowd": 0}
    names = ["ant", "bee"]
    return {
        "images": [image],
        "annotations": [{**box, "neg_category_ids": [2]}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, 1)],
    }


def build(root: Path, kind: str, values: dict, pipeline: list, **kwargs):
    init_default_scope("mmdet")
    (root / "a.json").write_text(json.dumps(values))
    own = {"n_negatives": 1} if kind == "FGOVDDataset" else {"vocabulary": "ant, bee"}
    return DATASETS.build(
        {
            "type": kind,
            "ann_file": str(root / "a.json"),
            "data_prefix": {"img": str(root)},
            "pipeline": pipeline,
            **own,
            **kwargs,
        }
    )


def bright(item: dict, size: tuple[int, int] = (30, 20)) -> float:
    """Mean of the pixels within the box, 255 if they are its own."""
    image = item["inputs"]
    x1, y1, x2, y2 = item["data_samples"].gt_instances.bboxes.tensor[0].int().tolist()
    assert image.shape[1:] == size[::-1]
    return image[:, y1:y2, x1:x2].float().mean().item()


@pytest.mark.parametrize("kind", ["OVCocoDataset", "FGOVDDataset"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("backend", ["cv2", "pillow"])
@pytest.mark.parametrize("test_mode", [False, True])
def test_boxes_fit_the_pixels(tmp_path, kind, suffix, backend, test_mode) -> None:
    save(tmp_path / f"1.{suffix}", 6)
    pipeline = [{**LOAD, "imdecode_backend": backend}, BOXES, PACK]
    values = content(30, 20, f"1.{suffix}")
    dataset = build(tmp_path, kind, values, pipeline, test_mode=test_mode)
    assert bright(dataset[0]) > 250


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
@pytest.mark.parametrize("backend", ["cv2", "pillow"])
def test_every_entry_of_every_format(tmp_path, suffix, backend) -> None:
    """Decoders turn TIFF files whatever they are told, and of squares no size tells."""
    values = {"images": [], "annotations": [], "categories": []}
    sizes = {}
    for number in range(16):
        name, size = f"{number}.{suffix}", (30, 20) if number % 2 else (20, 20)
        save(tmp_path / name, 1 + number // 2, size)
        one = content(*size, name)
        values["categories"] = one["categories"]
        values["images"].append({**one["images"][0], "id": number})
        values["annotations"].append({**one["annotations"][0], "id": number, "image_id": number})
        sizes[number] = size
    pipeline = [{**LOAD, "imdecode_backend": backend}, BOXES, PACK]
    dataset = build(tmp_path, "OVCocoDataset", values, pipeline)
    assert [bright(dataset[number], sizes[number]) > 250 for number in sizes] == [True] * 16


@pytest.mark.parametrize(
    "nested",
    [
        [dict(type="RandomApply", transforms=[LOAD], prob=1.0)],
        [dict(type="RandomChoice", transforms=[[LOAD], [LOAD]])],
        [dict(type="Compose", transforms=[LOAD])],
    ],
)
def test_a_loader_within_other_transforms(tmp_path, nested) -> None:
    save(tmp_path / "1.png", 8)
    dataset = build(tmp_path, "OVCocoDataset", content(30, 20, "1.png"), [*nested, BOXES, PACK])
    assert bright(dataset[0]) > 250


def test_a_loader_in_a_branch(tmp_path) -> None:
    save(tmp_path / "1.png", 6)
    branch = dict(type="MultiBranch", branch_field=["own"], own=[LOAD, BOXES, PACK])
    item = build(tmp_path, "OVCocoDataset", content(30, 20, "1.png"), [branch])[0]
    assert bright({name: value["own"] for name, value in item.items()}) > 250


def test_a_pipeline_that_a_hook_sets_later(tmp_path) -> None:
    save(tmp_path / "1.png", 5)
    dataset = build(tmp_path, "OVCocoDataset", content(30, 20, "1.png"), [])
    dataset.pipeline = Compose([TRANSFORMS.build(step) for step in (LOAD, BOXES, PACK)])
    assert bright(dataset[0]) > 250
    dataset.pipeline = dataset.pipeline
    assert bright(dataset[0]) > 250


def test_grey_pictures_too(tmp_path) -> None:
    save(tmp_path / "1.png", 6)
    pipeline = [{**LOAD, "color_type": "grayscale"}, BOXES, PACK]
    assert bright(build(tmp_path, "OVCocoDataset", content(30, 20, "1.png"), pipeline)[0]) > 250


@pytest.mark.parametrize("kind", ["OVCocoDataset", "FGOVDDataset"])
@pytest.mark.parametrize(
    ("entry", "mend"), [(6, "as viewers turn it.*-auto-orient"), (None, "swap width and height")]
)
def test_annotations_of_the_turned_picture_stop(tmp_path, kind, entry, mend) -> None:
    save(tmp_path / "1.jpg", entry)
    dataset = build(tmp_path, kind, content(20, 30, "1.jpg"), [LOAD, BOXES, PACK])
    with pytest.raises(ValueError, match=rf"'.*1\.jpg' is stored with 30 x 20 px.*20 x 30.*{mend}"):
        dataset[0]


def test_regions_with_captions_stop_too(tmp_path) -> None:
    save(tmp_path / "1.jpg", 6)
    line = {
        "file_name": "1.jpg",
        "width": 30,
        "height": 20,
        "short_caption": "a",
        "long_caption": "a",
        "regions": [],
    }
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(line))
    assert RegionCaptionDataset(str(path), str(tmp_path))[0]["image"].shape == (3, 20, 30)
    path.write_text(json.dumps({**line, "width": 20, "height": 30}))
    with pytest.raises(ValueError, match=r"a\.jsonl:1 names .*auto-orient"):
        RegionCaptionDataset(str(path), str(tmp_path))[0]
