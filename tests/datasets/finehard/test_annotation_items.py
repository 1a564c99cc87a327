"""Annotation files as they are published, item by item."""

from __future__ import annotations

import json
import random

import pytest
import torch
from mmdet.registry import DATASETS
from torch.utils.data import DataLoader

from fgclip_det.datasets import FineHARDDataset, collate_region_captions
from fgclip_det.datasets.finehard.left_out import (
    BAD_BOX,
    BROKEN_PICTURE,
    NO_CAPTION,
    NO_ITEM,
    NO_PICTURE,
)
from tests.datasets.finehard.conftest import record, region, write_pictures
from tests.messages import says


def test_a_folder_is_read_in_the_order_of_names(published):
    annotations, images = published
    config = dict(type="FineHARDDataset", ann_files=str(annotations), image_root=str(images))
    data = DATASETS.build(config)
    assert len(data) == 55
    for number in (0, 29, 30, 54, -1):
        sample = data[number]
        number %= 55
        assert sample["short_caption"] == f"a photo of picture {number}"
        assert sample["long_caption"] == f"The long caption of picture {number}."
        assert sample["image"].shape == (3, 10, 12) and (sample["image"] == number).all()
        torch.testing.assert_close(sample["boxes"], torch.tensor([[1.2, 2.0, 6.0, 9.0]]))
        assert len(sample["hard_captions"][0]) == 11
    with pytest.raises(IndexError):
        data[55]


def test_squares_and_their_boxes(published):
    data = FineHARDDataset([str(published[0] / "a.json")], str(published[1]), image_size=32)
    sample = data[3]
    assert sample["image"].shape == (3, 32, 32) and sample["image"].dtype == torch.uint8
    torch.testing.assert_close(sample["boxes"], torch.tensor([[3.2, 6.4, 16.0, 28.8]]))


def test_the_text_of_a_region_is_drawn_anew_and_can_be_repeated(published):
    data = FineHARDDataset(str(published[0]), str(published[1]))
    drawn = [data.sample(0, random.Random(seed))["region_captions"][0] for seed in range(40)]
    assert set(drawn) == {"a cup 0", "a cup 0 on a table"} and 8 < drawn.count("a cup 0") < 32
    assert drawn == [data.sample(0, random.Random(s))["region_captions"][0] for s in range(40)]


@pytest.fixture
def broken(tmp_path):
    """Items of which 0, 2, 3, 4 and 6 cannot be used, and 5 lacks a region."""
    records = [record(number) for number in range(8)]
    write_pictures(tmp_path, records)
    records[0] = "no item"
    records[2].pop("caption")
    (tmp_path / records[3]["f_path"]).unlink()
    (tmp_path / records[4]["f_path"]).write_bytes(b"\x89PNG\r\n\x1a\n rubbish")
    records[5]["bbox_info"].insert(0, region(bbox=[0.9, 0, 0.1, 1]))
    text = json.dumps(records).replace('"picture 6"', '"\\ud800"')
    (tmp_path / "items.json").write_text(text)
    return FineHARDDataset(str(tmp_path / "items.json"), str(tmp_path))


def test_the_next_item_takes_the_place_of_one_that_cannot_be_used(broken):
    shorts = [sample["short_caption"] for sample in broken]
    wanted = [1, 1, 5, 5, 5, 5, 7, 7]
    assert shorts == [f"a photo of picture {number}" for number in wanted]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_left_out_is_counted_whoever_reads_it(broken, workers):
    loader = DataLoader(
        broken, batch_size=2, num_workers=workers, collate_fn=collate_region_captions
    )
    assert sum(len(batch["image"]) for batch in loader) == 8
    # From 2, 3 and 4 on as many are tried until 5, which is used four times.
    assert broken.left_out.named() == {
        NO_ITEM: 2,
        NO_CAPTION: 1,
        NO_PICTURE: 2,
        BROKEN_PICTURE: 3,
        BAD_BOX: 4,
    }


def test_data_of_which_nothing_can_be_used_are_refused(tmp_path):
    (tmp_path / "items.json").write_text(json.dumps([record(n) for n in range(3)]))
    data = FineHARDDataset(str(tmp_path / "items.json"), str(tmp_path))
    with pytest.raises(ValueError, match=says(NO_PICTURE, 3)):
        data[1]


@pytest.mark.parametrize(
    ("content", "named"),
    [("", "empty"), ("[]", "no item"), ('[{"a": 1}', "truncated"), ("[{]", "JSON")],
)
def test_a_file_that_is_no_array_is_refused(tmp_path, content, named):
    (tmp_path / "items.json").write_text(content)
    with pytest.raises(ValueError, match=says("items.json", named)):
        FineHARDDataset(str(tmp_path / "items.json"), str(tmp_path))


def test_missing_folders_and_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=says("image_root", "nowhere")):
        FineHARDDataset(str(tmp_path), str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=says("*.json")):
        FineHARDDataset(str(tmp_path), str(tmp_path))
    with pytest.raises(ValueError, match=says("gone.json")):
        FineHARDDataset(str(tmp_path / "gone.json"), str(tmp_path))


def test_settings_that_cannot_be_are_refused(published):
    for name, value in (("region_text", "both"), ("image_size", 0), ("tokenizer", "nowhere/at")):
        with pytest.raises(ValueError, match=says(value)):
            FineHARDDataset(str(published[0]), str(published[1]), **{name: value})
