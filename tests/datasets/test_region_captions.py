import json

import pytest
import torch
from mmdet.registry import DATASETS

from fgclip_det.datasets import RegionCaptionDataset
from fgclip_det.datasets.shapes.generator import generate


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes")
    generate(root, {"pretrain": 5}, seed=0)
    return root


def test_items_match_the_file(root):
    ann_file = root / "annotations" / "pretrain.jsonl"
    dataset = DATASETS.build(
        dict(type="RegionCaptionDataset", ann_file=str(ann_file), image_root=str(root / "pretrain"))
    )
    records = [json.loads(line) for line in ann_file.read_text().splitlines()]
    assert len(dataset) == len(records) == 5
    for item, record in zip(dataset, records, strict=True):
        assert item["image"].shape == (3, 128, 128) and item["image"].dtype == torch.uint8
        assert item["image"].is_contiguous()
        assert item["short_caption"] == record["short_caption"]
        assert item["long_caption"] == record["long_caption"]
        assert item["boxes"].dtype == torch.float32
        assert item["boxes"].tolist() == [pytest.approx(r["bbox"]) for r in record["regions"]]
        assert item["region_captions"] == [r["caption"] for r in record["regions"]]
        assert [len(group) for group in item["hard_captions"]] == [11] * len(record["regions"])
        assert [group[0] for group in item["hard_captions"]] == item["region_captions"]


def test_picture_without_regions_and_grey_picture(tmp_path):
    from PIL import Image

    Image.new("L", (20, 10), 7).save(tmp_path / "a.png")
    record = {"file_name": "a.png", "short_caption": "s", "long_caption": "l", "regions": []}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n")
    item = RegionCaptionDataset(str(tmp_path / "a.jsonl"), str(tmp_path))[0]
    assert item["boxes"].shape == (0, 4)
    assert item["image"].shape == (3, 10, 20) and item["image"].unique().tolist() == [7]


def test_missing_and_empty_file(tmp_path):
    with pytest.raises(ValueError, match=r"no caption file .*none\.jsonl.*prepare_shapes"):
        RegionCaptionDataset(str(tmp_path / "none.jsonl"), str(tmp_path))
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"empty.jsonl' is empty"):
        RegionCaptionDataset(str(tmp_path / "empty.jsonl"), str(tmp_path))


@pytest.mark.parametrize(
    "line",
    [
        "{not json",
        '{"file_name": "a.png"}',
        "[1]",
        '{"file_name": "a.png", "short_caption": "", "long_caption": "", '
        '"regions": [{"bbox": [1, 2, 3], "caption": "c", "negatives": []}]}',
    ],
)
def test_broken_line_is_named(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(line + "\n")
    dataset = RegionCaptionDataset(str(tmp_path / "a.jsonl"), str(tmp_path))
    with pytest.raises(ValueError, match=r"a\.jsonl:1 is not a caption record"):
        dataset[0]


def test_missing_picture_is_named(root, tmp_path):
    dataset = RegionCaptionDataset(str(root / "annotations" / "pretrain.jsonl"), str(tmp_path))
    with pytest.raises(ValueError, match=r"pretrain\.jsonl:2 names .*000001\.png.*image_root"):
        dataset[1]
    with pytest.raises(IndexError):
        dataset[5]
