"""Detections in the forms that other programs read."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import supervision
import torch
from pycocotools import mask as mask_codec

from fgclip_det.apis.detections import Closest, Detections, rounded
from tests.messages import says

BOXES = [[1.123456, 2.0, 5.5, 7.25], [0.0, 0.0, 6.0, 8.0]]


def detections(count: int = 2, with_more: bool = False) -> Detections:
    masks = torch.zeros(count, 8, 6, dtype=torch.bool)
    masks[:, 2:5, 1:4] = True
    return Detections(
        names=["mug", "plate"][:count],
        boxes=torch.tensor(BOXES)[:count],
        scores=torch.tensor([0.912345, 0.5])[:count],
        labels=torch.tensor([1, 0])[:count],
        vocabulary=["plate", "mug"],
        width=6,
        height=8,
        image_path="x.png",
        masks=masks if with_more else None,
        ids=torch.tensor([7, -1])[:count] if with_more else None,
    )


def test_a_dictionary_keeps_all_digits() -> None:
    told = detections().to_dict()
    keys = ["image", "width", "height", "vocabulary", "conf_thr", "detections"]
    assert list(told) == keys and told["conf_thr"] is None
    keys = ["name", "score", "confidence", "box"]
    assert [list(found) for found in told["detections"]] == [keys] * 2
    assert [found["confidence"] for found in told["detections"]] == [None, None]
    assert told["detections"][0]["box"] == torch.tensor(BOXES[0]).tolist()
    assert told["detections"][0]["score"] == float(torch.tensor(0.912345))


def test_masks_and_ids_are_told_where_they_are() -> None:
    given = detections(with_more=True)
    told = given.to_dict()["detections"]
    assert [found["id"] for found in told] == [7, -1]
    for found, mask in zip(told, given.masks, strict=True):
        assert found["mask"]["size"] == [8, 6] and isinstance(found["mask"]["counts"], str)
        assert np.array_equal(mask_codec.decode(found["mask"]), mask.numpy())
    assert detections(0, with_more=True).to_dict()["detections"] == []


def test_coco_counts_the_vocabulary_from_one() -> None:
    first, second = detections().to_coco(5)
    assert (first["image_id"], first["category_id"]) == (5, 2)
    assert second["category_id"] == 1 and second["bbox"] == [0, 0, 6, 8]
    assert first["bbox"] == pytest.approx([1.123456, 2, 4.376544, 5.25], abs=1e-6)
    assert first["score"] == pytest.approx(0.912345) and "segmentation" not in first
    masked = detections(with_more=True).to_coco(5)[0]
    assert mask_codec.area(masked["segmentation"]) == 9
    assert detections(0).to_coco(5) == []


def test_coco_takes_ids_of_names() -> None:
    found = detections().to_coco(0, {"mug": 90, "plate": 3, "fork": 4})
    assert [one["category_id"] for one in found] == [90, 3]


@pytest.mark.parametrize("image_id", ["5", 1.0, True, 2**63, None])
def test_odd_picture_ids_are_refused(image_id: object) -> None:
    with pytest.raises(ValueError, match=says("image_id", repr(image_id))):
        detections().to_coco(image_id)


@pytest.mark.parametrize(
    ("ids", "words"), [({"mug": 1}, ("plate", "add")), ({"mug": 1, "plate": "2"}, ("'2'",))]
)
def test_odd_category_ids_are_refused(ids: dict, words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="category_ids") as refused:
        detections().to_coco(1, ids)
    assert all(word in str(refused.value) for word in words)


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("with_more", [False, True])
def test_supervision_takes_all(count: int, with_more: bool) -> None:
    given = detections(count, with_more)
    made = given.to_supervision()
    assert isinstance(made, supervision.Detections) and len(made) == count
    assert np.array_equal(made.xyxy, given.boxes.numpy()) and made.xyxy.shape == (count, 4)
    assert np.array_equal(made.confidence, given.scores.numpy())
    assert made.class_id.tolist() == given.labels.tolist()
    assert made.data["class_name"].tolist() == given.names
    if with_more:
        assert np.array_equal(made.mask, given.masks.numpy())
        assert made.tracker_id.tolist() == given.ids.tolist()
    else:
        assert made.mask is None and made.tracker_id is None
    made.xyxy[:] = -1
    assert torch.equal(given.boxes, torch.tensor(BOXES)[:count])


def test_a_missing_supervision_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match=says("supervision", "pip install", "video")):
        detections().to_supervision()


def calibrated(**more) -> Detections:
    confidences = torch.tensor([0.75123456, 0.25])
    return dataclasses.replace(detections(), confidences=confidences, conf_thr=0.25, **more)


def test_confidences_go_before_scores() -> None:
    for given, expected in ((detections(), [0.912345, 0.5]), (calibrated(), [0.75123456, 0.25])):
        assert given.certainties.tolist() == pytest.approx(expected)
        assert [one["score"] for one in given.to_coco(1)] == given.certainties.tolist()
        assert given.to_supervision().confidence.tolist() == given.certainties.tolist()
        assert [one["score"] for one in given.to_coco(1, score="score")] == given.scores.tolist()
    told = calibrated().to_coco(1, score="confidence")
    assert [one["score"] for one in told] == calibrated().confidences.tolist()


@pytest.mark.parametrize(
    ("score", "words"), [("confidence", ("fgclip-det calibrate",)), ("best", ("'best'", "None"))]
)
def test_scores_that_are_not_there(score: str, words: tuple) -> None:
    with pytest.raises(ValueError, match=says(*words)):
        detections().to_coco(1, score=score)


def test_confidences_are_told_and_rounded() -> None:
    told = calibrated().to_dict()
    assert told["conf_thr"] == 0.25
    assert [one["confidence"] for one in told["detections"]] == calibrated().confidences.tolist()
    short = rounded(told)
    assert [one["confidence"] for one in short["detections"]] == [0.7512, 0.25]
    assert "closest" not in short
    none = [one["confidence"] for one in rounded(detections().to_dict())["detections"]]
    assert none == [None, None]


def test_what_came_closest_is_told_where_it_is_known() -> None:
    given = (Closest("a mug", 0.123456, "a cup"), Closest("a plate", 0.0, None))
    short = rounded(calibrated(closest=given).to_dict())["closest"]
    assert short == [
        {"name": "a mug", "certainty": 0.1235, "rival": "a cup"},
        {"name": "a plate", "certainty": 0.0, "rival": None},
    ]
