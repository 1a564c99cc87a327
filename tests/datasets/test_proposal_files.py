"""Boxes come from results files as they are there, or not at all."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.registry import METRICS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from pycocotools import mask as mask_tools

from fgclip_det.datasets.proposal_files import read_proposals

IMAGES = [
    {"id": 7, "width": 60, "height": 40, "file_name": "a.png"},
    {"id": 3, "width": 100, "height": 200, "file_name": "b.png"},
    {"id": 5, "width": 10, "height": 10, "file_name": "c.png"},
]


def result(image: Any = 7, bbox: Any = (1, 2, 30, 20), score: Any = 0.5, **more) -> dict[str, Any]:
    box = list(bbox) if isinstance(bbox, tuple) else bbox
    return {"image_id": image, "category_id": 1, "bbox": box, "score": score, **more}


def write(folder: Path, values: Any) -> Path:
    path = folder / "results.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return path


def test_reads_coco_results(tmp_path: Path) -> None:
    entries = [
        result(3, (10, 20, 30, 40), 0.25, category_id=9),
        result(7, (0, 0, 60, 40), 1, segmentation={"size": [40, 60], "counts": "PPPo0"}),
        result(3, (0.5, 1.5, 2, 3), 0.75),
    ]
    found = read_proposals(write(tmp_path, entries), IMAGES)
    assert found.notes == () and list(found.by_image) == [3, 7]
    own = found.by_image[3]
    assert len(own) == 2 and own.scores.dtype == np.float32
    assert own.boxes.tolist() == [[10, 20, 40, 60], [0.5, 1.5, 2.5, 4.5]]
    assert own.scores.tolist() == [0.25, 0.75] and own.category_ids.tolist() == [9, 1]
    assert found.by_image[7].boxes.tolist() == [[0, 0, 60, 40]]


def test_boxes_are_not_rounded_before_they_meet_a_grid(tmp_path: Path) -> None:
    """In float32 their corner is 33.6000023, and RoIAlign takes a sample too many."""
    found = read_proposals(write(tmp_path, [result(3, (11.2, 0, 22.4, 40), 0.5)]), IMAGES)
    assert found.by_image[3].boxes[0].tolist() == [11.2, 0, 11.2 + 22.4, 40]


def test_no_boxes_and_many_boxes(tmp_path: Path) -> None:
    assert read_proposals(write(tmp_path, []), IMAGES).by_image == {}
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 50, (10_000, 2)).round(2)
    entries = [result(3, (x, y, 50.0, 50.0), 0.1) for x, y in corners.tolist()]
    assert len(read_proposals(write(tmp_path, entries), IMAGES).by_image[3]) == 10_000


def test_a_category_may_be_missing(tmp_path: Path) -> None:
    entry = result()
    del entry["category_id"]
    assert read_proposals(write(tmp_path, [entry]), IMAGES).by_image[7].category_ids.tolist() == [
        -1
    ]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("[{", "is no complete JSON"),
        ({"annotations": []}, "holds a dict, not a list of results"),
        ([5], "number 0 has no 'image_id'"),
        ([{"image_id": 7, "score": 1}], "number 0 has no 'bbox'"),
        ([result(), result("7")], "number 1 has the image_id '7'"),
        ([result(bbox=(1, 2, 3))], r"has the bbox \[1, 2, 3\]: four numbers are needed"),
        ([result(bbox=(1, 2, 3, "4"))], "four numbers are needed"),
        ([result(bbox=None)], "has the bbox None"),
        ([result(bbox=(5, 5, -1, 4))], "whose width or height is negative"),
        ([result(score=None)], "has the score None"),
        ([result(score=1.5)], r"has the score 1\.5: scores must be between 0 and 1"),
        ([result(score=-0.5)], r"has the score -0\.5"),
        ("[" + json.dumps(result()).replace("0.5", "NaN") + "]", "NaN"),
        ("[" + json.dumps(result()).replace("30", "Infinity") + "]", "Infinity"),
        (
            [result(), result(4), result(4), result(2)],
            "3 of 4 boxes in .* does not list, the first has the image_id 2: give the annotation",
        ),
        ([result(bbox=(0.1, 0.2, 0.3, 0.4))] * 3, "lie between 0 and 1: give them in pixels"),
        (
            [result(3, (1, 2, 3, 4)), result(7, (0, 0, 120, 80))],
            r"1 of 2 boxes .* the first to \(120\.0, 80\.0\) from \(0\.0, 0\.0\) in one of 60 x 40",
        ),
        (
            [result(3, (80, 20, 95, 30)), result(7, (10, 30, 50, 39))] * 5,
            "10 of 10 boxes .*are they corners, x1, y1, x2, y2",
        ),
        ([result(score=10**200)], r"has the score 1e\+200: scores must be between 0 and 1"),
        ("[" + json.dumps(result()).replace("0.5", "1" * 400) + "]", "is beyond a float64"),
        ([result(bbox=(1e308, 0, 1e308, 1))], "is NaN or infinite"),
        ([result(bbox=(1, 2, True, 4))], "four numbers are needed"),
        ([result(score="0.5")], "has the score '0.5'"),
        ([result(7.0)], r"has the image_id 7\.0"),
        ([result(category_id="cat")], "has the category_id 'cat'"),
        ([result(segmentation="x")], "has the segmentation 'x': polygons"),
        ([result(segmentation=[[1, 2, 3, 4]])], r"segmentation \[\[1, 2, 3, 4\]\]: polygons"),
        ([result(segmentation=[[1, 2, 3, 4, 5, "6"]])], "polygons, each a list of x, y"),
        ([result(segmentation=[1, 2, 3, 4, 5, 6])], "polygons, each a list of x, y"),
        ([result(segmentation={"counts": "PPPo0"})], "run lengths} are needed"),
        ([result(segmentation={"size": [40, 60], "counts": "z"})], "run lengths} are needed"),
        (
            [result(segmentation={"size": [60, 40], "counts": "PPPo0"})],
            r"a mask of \(height, width\) \[60, 40\], and its picture is \[40, 60\]",
        ),
        (
            [result(segmentation={"size": [40, 60], "counts": [1, 2]})],
            "whose runs are 3 pixels long together",
        ),
        ([result(segmentation=[[0] * 7] * 9000)], r"\.\.\.: polygons"),
    ],
)
def test_what_makes_no_sense_is_named(tmp_path: Path, entries: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_proposals(write(tmp_path, entries), IMAGES)


def test_masks_are_kept_as_they_are(tmp_path: Path) -> None:
    runs = {"size": [40, 60], "counts": "PPPo0"}
    masks = [[[1, 2, 3, 4, 5, 6.5]], runs, {"size": [40, 60], "counts": [400, 2000]}, [], None]
    entries = [result(7, segmentation=mask) for mask in masks] + [result(7)]
    # Those without area go with their masks.
    entries.insert(1, result(7, (5, 5, 0, 5), segmentation=runs))
    own = read_proposals(write(tmp_path, entries), IMAGES).by_image[7]
    assert own.segmentations == (*masks[:3], None, None, None)
    assert len(own) == 6


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.json' cannot be read"):
        read_proposals(tmp_path / "none.json", IMAGES)


def test_a_few_odd_boxes_are_clipped_or_left_out(tmp_path: Path) -> None:
    entries = [result(7, (0, 0, 60.5, 40.5))] * 200
    entries += [result(3, (-5, -5, 50, 50)), result(3, (150, 10, 20, 20)), result(5, (2, 2, 0, 3))]
    found = read_proposals(write(tmp_path, entries), IMAGES)
    assert found.by_image[7].boxes[0].tolist() == [0, 0, 60, 40]
    assert found.by_image[3].boxes.tolist() == [[0, 0, 45, 45]]
    assert set(found.by_image) == {3, 7}
    assert found.notes == (
        "2 boxes reach out of their pictures and were clipped",
        "2 boxes without area were left out",
    )


def test_boxes_of_smaller_copies_are_noted(tmp_path: Path) -> None:
    found = read_proposals(write(tmp_path, [result(3, (5, 5, 40, 90))] * 100), IMAGES)
    assert "no box reaches beyond 48 % of its picture" in found.notes[0]


@pytest.fixture
def dump(tmp_path: Path):
    """Write what `tools/test.py --out` does, by MMDetection's own metric."""

    def dump(**changes) -> Path:
        metric = METRICS.get("DumpDetResults")(str(tmp_path / "dump.pkl"))
        for image in IMAGES[:2]:
            shape = (image["height"], image["width"])
            sample = DetDataSample(
                metainfo=dict(img_id=image["id"], ori_shape=shape, scale_factor=(2.0, 2.0))
            )
            sample.pred_instances = InstanceData(
                bboxes=torch.tensor([[1.0, 2.0, 31.0, 22.0], [4.0, 5.0, 50.0, 40.0]]),
                scores=torch.tensor([0.5, 0.25]),
                labels=torch.tensor([3, 4]),
                masks=torch.zeros(2, *shape).bool(),
            )
            sample.gt_instances = InstanceData(bboxes=torch.zeros(1, 4))
            sample.set_metainfo(changes)
            metric.process({}, [sample.to_dict()])
        metric.compute_metrics(metric.results)
        return tmp_path / "dump.pkl"

    return dump


def test_reads_mmdetections_dump(dump) -> None:
    with pytest.raises(ValueError, match=r"dump\.pkl' is a pickle, which is a program: .*--trust"):
        read_proposals(dump(), IMAGES)
    found = read_proposals(dump(), IMAGES, trust_pickle=True)
    assert set(found.by_image) == {3, 7} and found.notes == ()
    assert found.by_image[7].boxes.tolist() == [[1, 2, 31, 22], [4, 5, 50, 40]]
    assert found.by_image[7].scores.tolist() == [0.5, 0.25]
    # Its labels are places in a list of classes that the file does not hold.
    assert found.by_image[7].category_ids.tolist() == [-1, -1]
    # Of run lengths that JSON holds too.
    masks = found.by_image[7].segmentations
    assert json.loads(json.dumps(masks))[0]["size"] == [40, 60]
    assert mask_tools.area(masks[0]) == 0 and isinstance(masks[0]["counts"], str)


def test_dumps_of_other_pictures_are_refused(dump) -> None:
    with pytest.raises(ValueError, match="image 7 was 30 x 20 pixels there, and is 60 x 40 in"):
        read_proposals(dump(ori_shape=(20, 30)), IMAGES, trust_pickle=True)
    with pytest.raises(ValueError, match=r"4 of 4 boxes .* the image_id 99"):
        read_proposals(dump(img_id=99), IMAGES, trust_pickle=True)
    for image in ("x", "7", 7.5):
        with pytest.raises(ValueError, match="number 0 is not as DumpDetResults writes it"):
            read_proposals(dump(img_id=image), IMAGES, trust_pickle=True)


@pytest.mark.parametrize(
    ("boxes", "scores", "message"),
    [
        ([[1, 2, math.nan, 22]], [0.5], "box number 0 or its score is NaN or infinite"),
        ([[1, 2, 31, 22]], [math.inf], "box number 0 or its score is NaN or infinite"),
        ([[1, 2, 31, 22]], [10**400], "number 0 is not as DumpDetResults .*OverflowError"),
        ([[1, 2, 31, "x"]], [0.5], "number 0 is not as DumpDetResults"),
        # Width and height in place of the far corner.
        ([[30, 20, 10, 10], [1, 2, 31, 22], [25, 12, 9, 9]], [0.5] * 3, "2 of 3 boxes .* no area"),
    ],
)
def test_numbers_of_a_pickle_are_checked(
    tmp_path: Path, boxes: list, scores: list, message: str
) -> None:
    found = {"bboxes": boxes, "scores": scores}
    sample = {"img_id": 7, "ori_shape": (40, 60), "pred_instances": found}
    (tmp_path / "dump.pkl").write_bytes(pickle.dumps([sample]))
    with pytest.raises(ValueError, match=message):
        read_proposals(tmp_path / "dump.pkl", IMAGES, trust_pickle=True)


def test_other_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "dump.pkl"
    for values, message in (
        ({}, "holds a dict, not a list"),
        ([5], "prediction number 0 is not as DumpDetResults"),
        ([{"img_id": 7}], "KeyError: 'pred_instances'"),
        ([Path("x")], "is refused: it would run"),
    ):
        path.write_bytes(pickle.dumps(values))
        with pytest.raises(ValueError, match=message):
            read_proposals(path, IMAGES, trust_pickle=True)
