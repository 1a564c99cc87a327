import contextlib
import io
import json

import numpy as np
import pytest
import torch
from mmdet.registry import METRICS
from mmengine.logging import MMLogger
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fgclip_det.evaluation import OVCocoMetric
from tests.messages import says

# The file's order and ids differ from the order of the classes, which labels follow.
IDS = {"bee": 3, "zebra": 9, "ant": 7, "cow": 1, "dodo": 4}
CLASSES = ("zebra", "ant", "cow", "bee", "dodo")
META = {
    "classes": CLASSES,
    "base_classes": ("zebra", "cow"),
    "novel_classes": ("ant", "bee", "dodo"),
}


def write(path, boxes, num_images=2):
    """boxes: (image id, class name, xyxy)."""
    data = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 100, "height": 100}
            for i in range(1, num_images + 1)
        ],
        "categories": [{"id": i, "name": name} for name, i in IDS.items()],
        "annotations": [
            {
                "id": k + 1,
                "image_id": image,
                "category_id": IDS[name],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
            }
            for k, (image, name, (x1, y1, x2, y2)) in enumerate(boxes)
        ],
    }
    path.write_text(json.dumps(data))
    return str(path)


def evaluate(ann_file, detections, num_images=2, meta=META, **kwargs):
    """detections: (image id, class name, xyxy, score)."""
    metric = METRICS.build(dict(type="OVCocoMetric", ann_file=ann_file, **kwargs))
    assert type(metric) is OVCocoMetric
    metric.dataset_meta = meta
    for image in range(1, num_images + 1):
        found = [d for d in detections if d[0] == image]
        instances = {
            "bboxes": torch.tensor([d[2] for d in found], dtype=torch.float32).reshape(-1, 4),
            "scores": torch.tensor([d[3] for d in found]),
            "labels": torch.tensor([CLASSES.index(d[1]) for d in found], dtype=torch.long),
        }
        sample = {"pred_instances": instances, "img_id": image, "ori_shape": (100, 100)}
        metric.process({}, [sample])
    return metric.evaluate(num_images)


def ap50(metrics):
    return {key: value for key, value in metrics.items() if key.startswith("AP50")}


BOX, AWAY = (10, 10, 50, 50), (60, 60, 90, 90)


def test_hand_made_numbers(tmp_path):
    ann_file = write(
        tmp_path / "a.json",
        [(1, "zebra", BOX), (2, "zebra", BOX), (1, "cow", AWAY), (1, "ant", BOX), (2, "bee", AWAY)],
    )
    detections = [
        (1, "zebra", BOX, 0.9),  # found
        (2, "zebra", AWAY, 0.8),  # false alarm; the second zebra is never found
        (1, "cow", (60, 60, 90, 88), 0.7),  # found: IoU 0.93
        (1, "ant", AWAY, 0.9),  # false alarm before
        (1, "ant", BOX, 0.5),  # the true one: precision 1/2 at recall 1
        (1, "bee", AWAY, 0.9),  # wrong picture
    ]
    metrics = evaluate(ann_file, detections)
    zebra = 51 / 101  # recall 0.5 reached at precision 1: 51 of the 101 recall points
    cow = 0.9  # over the IoUs .50:.95: all but the last
    # "dodo" has no ground truth: it does not enter a mean.
    assert metrics == pytest.approx(
        {
            "AP50_base": 100 * (zebra + 1) / 2,
            "AP50_novel": 100 * (0.5 + 0) / 2,
            "AP50_all": 100 * (zebra + 1 + 0.5 + 0) / 4,
            "AP_base": 100 * (zebra + cow) / 2,
            "AP_novel": 100 * (0.5 + 0) / 2,
            "AP_all": 100 * (zebra + cow + 0.5 + 0) / 4,
        }
    )


def test_equals_pycocotools_on_random_boxes(tmp_path):
    rng = np.random.default_rng(0)
    truth, detections = [], []
    for _ in range(60):
        image, name = int(rng.integers(1, 6)), CLASSES[rng.integers(4)]
        corner, size = rng.uniform(0, 50, 2), rng.uniform(10, 50, 2)
        truth.append((image, name, (*corner.tolist(), *(corner + size).tolist())))
        shift = rng.normal(0, 6, 2)
        box = (*(corner + shift).tolist(), *(corner + shift + size).tolist())
        said = name if rng.random() < 0.7 else CLASSES[rng.integers(4)]
        detections.append((image, said, box, float(rng.random())))
    ann_file = write(tmp_path / "a.json", truth, num_images=5)
    metrics = evaluate(ann_file, detections, num_images=5)
    expected = {}
    for group, names in (("base", ("zebra", "cow")), ("novel", ("ant", "bee")), ("all", CLASSES)):
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(ann_file)
            found = coco.loadRes(
                [
                    {
                        "image_id": i,
                        "category_id": IDS[name],
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "score": score,
                    }
                    for i, name, (x1, y1, x2, y2), score in detections
                ]
            )
            evaluator = COCOeval(coco, found, "bbox")
            evaluator.params.catIds = [IDS[name] for name in names]
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
        expected[f"AP50_{group}"] = 100 * evaluator.stats[1]
        expected[f"AP_{group}"] = 100 * evaluator.stats[0]
    assert 5 < expected["AP50_all"] < 95
    assert metrics == pytest.approx(expected, abs=0.01)  # scores and boxes came as float32


def test_order_of_the_classes_changes_nothing(tmp_path):
    ann_file = write(tmp_path / "a.json", [(1, "zebra", BOX), (2, "bee", AWAY)])
    metrics = evaluate(ann_file, [(1, "zebra", BOX, 0.9), (2, "ant", AWAY, 0.9)])
    assert ap50(metrics) == pytest.approx({"AP50_base": 100, "AP50_novel": 0, "AP50_all": 50})


def test_model_that_finds_nothing_gets_zeros(tmp_path):
    ann_file = write(tmp_path / "a.json", [(1, "zebra", BOX), (2, "bee", AWAY)])
    metrics = evaluate(ann_file, [])
    assert set(metrics.values()) == {0.0} and len(metrics) == 6


def test_group_without_ground_truth_is_minus_one_and_missing_group_left_out(tmp_path):
    ann_file = write(tmp_path / "a.json", [(1, "zebra", BOX)])
    found = [(1, "zebra", BOX, 0.9)]
    metrics = evaluate(ann_file, found)
    assert metrics["AP50_novel"] == metrics["AP_novel"] == -1.0
    for groups in ({}, {"base_classes": (), "novel_classes": ()}):
        metrics = evaluate(ann_file, found, meta={"classes": CLASSES, **groups})
        assert metrics == pytest.approx({"AP50_all": 100, "AP_all": 100})


def test_predictions_can_be_kept_without_evaluation(tmp_path):
    ann_file = write(tmp_path / "a.json", [(1, "zebra", BOX)])
    prefix = str(tmp_path / "out")
    found = [(1, "ant", BOX, 0.5)]
    assert evaluate(ann_file, found, format_only=True, outfile_prefix=prefix) == {}
    (kept,) = json.loads((tmp_path / "out.bbox.json").read_text())
    assert kept["category_id"] == IDS["ant"] and kept["bbox"] == [10, 10, 40, 40]


def test_ground_truth_may_come_with_the_data_samples():
    metric = OVCocoMetric()
    metric.dataset_meta = META
    for image in (1, 2):  # twice: a second epoch has its own ground truth
        instances = [
            {"bbox": list(BOX), "bbox_label": 0, "ignore_flag": 0},
            {"bbox": list(AWAY), "bbox_label": 3, "ignore_flag": 1},  # a crowd
        ]
        found = {
            "bboxes": torch.tensor([BOX], dtype=torch.float32),
            "scores": torch.tensor([0.9]),
            "labels": torch.tensor([0]),
        }
        sample = {"img_id": image, "ori_shape": (100, 100), "instances": instances}
        metric.process({}, [{**sample, "pred_instances": found}])
        metrics = metric.evaluate(1)
        assert metrics["AP50_base"] == pytest.approx(100) and metrics["AP50_novel"] == -1.0


def test_table_of_the_classes(tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr(MMLogger, "info", lambda self, text: logged.append(text))
    ann_file = write(tmp_path / "a.json", [(1, "zebra", BOX), (1, "cow", BOX), (2, "bee", AWAY)])
    found = [(1, "zebra", BOX, 0.9), (1, "cow", (10, 10, 50, 45), 0.9)]
    evaluate(ann_file, found)
    evaluate(ann_file, found, classwise=True)
    short, printed = logged
    assert "| bee " not in short
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines()]
    assert "5 names, 2 images" in printed
    for row in (
        ["classes", "with ground truth", "AP50", "AP"],
        ["base (2)", "2", "100.00", "90.00"],
        ["novel (3)", "1", "0.00", "0.00"],
        ["class", "group", "AP50", "AP"],
        ["zebra", "base", "100.00", "100.00"],
        ["cow", "base", "100.00", "80.00"],  # IoU 0.875: eight of ten thresholds
        ["bee", "novel", "0.00", "0.00"],
        ["dodo", "novel", "-", "-"],
    ):
        assert row in rows


def test_user_errors_name_the_value(tmp_path):
    with pytest.raises(ValueError, match=says("'segm'")):
        OVCocoMetric(metric="segm")
    with pytest.raises(ValueError, match=says("none.json", "val_evaluator.ann_file")):
        OVCocoMetric(ann_file=str(tmp_path / "none.json"))
    with pytest.raises(ValueError, match="set outfile_prefix"):
        OVCocoMetric(format_only=True)
    for numbers in ((), (0, 100)):
        with pytest.raises(ValueError, match=says("proposal_nums", numbers, "from 1")):
            OVCocoMetric(proposal_nums=numbers)
    ann_file = write(tmp_path / "a.json", [(1, "zebra", BOX)])
    metric = OVCocoMetric(ann_file=ann_file)
    # Said before anything is processed.
    for meta, parts in (
        ({"classes": (*CLASSES, "yak")}, ("'yak'", "use the vocabulary")),
        ({"classes": ()}, ("classes",)),
        ({**META, "novel_classes": ("yak",)}, ("'yak'", "groups of the vocabulary")),
    ):
        with pytest.raises(ValueError, match=says(*parts)):
            metric.dataset_meta = meta
    with pytest.raises(ValueError, match=says("no image", "ann_file")):
        evaluate(ann_file, [], num_images=0)


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("image", "box", "score", "label", "parts"),
    [
        (1, BOX, NAN, 0, ("1", "scores", "image 1", "weights")),
        (1, BOX, INFINITE, 0, ("1", "scores", "image 1")),
        (2, (10, NAN, NAN, 50), 0.5, 0, ("2", "bboxes", "image 2")),
        (9, BOX, 0.5, 0, ("image 9", "ann_file")),
        (1, BOX, 0.5, 5, ("image 1", "label 5", "5 classes", "vocabulary")),
        (1, BOX, 0.5, -1, ("image 1", "label -1")),
    ],
)
def test_broken_predictions_are_refused_at_once(tmp_path, image, box, score, label, parts):
    metric = OVCocoMetric(ann_file=write(tmp_path / "a.json", [(1, "zebra", BOX)]))
    metric.dataset_meta = META
    instances = {
        "bboxes": torch.tensor([BOX, box], dtype=torch.float32),
        "scores": torch.tensor([0.9, score]),
        "labels": torch.tensor([0, label]),
    }
    sample = {"pred_instances": instances, "img_id": image, "ori_shape": (100, 100)}
    with pytest.raises(ValueError, match=says(*parts)):
        metric.process({}, [sample])
