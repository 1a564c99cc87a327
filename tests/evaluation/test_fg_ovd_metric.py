"""The metric in MMEngine's clothes: the same numbers in percent, and faults told early."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData

from fgclip_det.evaluation import FGOVDMetric, evaluate_fg_ovd
from fgclip_det.fg_ovd.predictions import read_predictions
from tests.messages import says

CORNERS = [10.0, 10.0, 50.0, 50.0]


@pytest.fixture
def ann_file(tmp_path: Path) -> str:
    """Two images; the first has two captions."""
    rows = [(1, 0, 1, [2, 3]), (2, 0, 4, [5, 6]), (3, 1, 7, [8, 9])]
    data = {
        "images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(2)],
        "categories": [{"id": i, "name": f"a {i} cup"} for i in range(10)],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "neg_category_ids": negatives,
                "bbox": [10, 10, 40, 40],
            }
            for number, image, category, negatives in rows
        ],
    }
    path = tmp_path / "hard.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return str(path)


def sample(*found: tuple[int, list, list]) -> dict[str, Any]:
    """A data sample of an image, as an evaluator hands it over."""
    return {
        "vocabularies": [{"annotation_id": number, "captions": []} for number, *_ in found],
        "vocabulary_predictions": [
            InstanceData(
                bboxes=torch.tensor(boxes).view(-1, 4),
                caption_scores=torch.tensor(scores).view(len(boxes), -1 if boxes else 3),
            )
            for _, boxes, scores in found
        ],
    }


FIRST = sample((1, [CORNERS], [[0.9, 0.1, 0.2]]), (2, [CORNERS], [[0.1, 0.9, 0.2]]))
SECOND = sample((3, [], []))


def test_numbers_are_those_of_the_function(
    ann_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = tmp_path / "predictions.json"
    metric = FGOVDMetric(ann_file, 2, sweep=True, predictions_file=written)
    metric.dataset_meta = {"missing_images": 1}
    metric.process(None, [FIRST])
    # A sampler fills the last batch with an image that was there.
    metric.process(None, [SECOND, FIRST])
    pages = []
    monkeypatch.setattr(MMLogger.get_current_instance(), "info", pages.append)
    found = metric.evaluate(3)
    items = [(1, [CORNERS], [[0.9, 0.1, 0.2]]), (2, [CORNERS], [[0.1, 0.9, 0.2]]), (3, [], [])]
    expected = evaluate_fg_ovd(ann_file, items, 2)
    assert found["mAP"] == pytest.approx(100 * expected["map"]) == pytest.approx(100 / 3)
    assert found["mAP_small"] == -1 and found["coverage"] == 100
    assert found["rank_mean"] == expected["ranks"]["mean"] and found["missing_images"] == 1
    read = read_predictions(written)
    assert [one.annotation_id for one in read.items] == [1, 2, 3] and read.n_negatives == 2
    (page,) = pages
    assert "1 pictures were missing" in page and "| N = 0, the right caption alone |" in page
    assert page.count("\n| 1 |") == 1  # of the sweep


def test_labels_of_the_detector_count(ann_file: str, tmp_path: Path) -> None:
    written = tmp_path / "predictions.json"
    metric = FGOVDMetric(ann_file, 2, references=False, predictions_file=written)
    tied = sample((1, [CORNERS], [[0.5, 0.5, 0.5]]), (2, [CORNERS], [[0.5, 0.5, 0.5]]))
    for found, label in zip(tied["vocabulary_predictions"], (2, 0), strict=True):
        found.labels = torch.tensor([label])
    metric.process(None, [tied])
    # Another picture's detections come without labels.
    metric.process(None, [sample((3, [CORNERS], [[0.5, 0.5, 0.5]]))])
    assert metric.evaluate(2)["mAP"] == pytest.approx(200 / 3)
    assert [one.labels.tolist() for one in read_predictions(written).items] == [[2], [0], [0]]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"vocabularies": []}, "predictions for each vocabulary"),
        (sample((1, [CORNERS], [[0.9, float("nan"), 0.1]])), "scores of annotation 1 .*NaN"),
        (sample((1, [CORNERS], [[0.9, 0.1]])), r"annotation 1 .* 2 columns, .* 3 .* 2 negatives"),
        (sample((8, [CORNERS], [[0.9, 0.1, 0.1]])), "annotation 8, which .* does not have"),
    ],
)
def test_faults_are_told_with_the_first_batch(ann_file: str, broken: dict, message: str) -> None:
    metric = FGOVDMetric(ann_file, 2)
    with pytest.raises(ValueError, match=message):
        metric.process(None, [FIRST, broken])


def test_files_that_do_not_do(ann_file: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says("hard.json", "3 negatives", "at most 2")):
        FGOVDMetric(ann_file, 3)
    with pytest.raises(ValueError, match=r"none\.json' cannot be read"):
        FGOVDMetric(str(tmp_path / "none.json"))
    with pytest.raises(ValueError, match=r"none\.json' cannot be read"):
        FGOVDMetric(ann_file, 2, validation_file=str(tmp_path / "none.json"))
    with pytest.raises(ValueError, match="is the file to be scored"):
        FGOVDMetric(ann_file, 2, validation_file=ann_file)


def test_more_columns_than_asked_for_serve(ann_file: str) -> None:
    metric = FGOVDMetric(ann_file, 1, references=False)
    metric.process(None, [FIRST, SECOND])
    assert metric.evaluate(2)["mAP"] == pytest.approx(100 / 3)


def test_no_prediction_at_all(ann_file: str) -> None:
    found = FGOVDMetric(ann_file, 2).compute_metrics([])
    assert (found["mAP"], found["coverage"], found["rank_mean"]) == (-1, 0, -1)
