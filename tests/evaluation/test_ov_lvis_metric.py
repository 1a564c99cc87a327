import json

import pytest
import torch

from fgclip_det.evaluation import OVLVISMetric
from tests.messages import says

NAMES = ("rare", "common", "frequent")


def annotation(image, category, box):
    x, y, w, h = box
    polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
    return dict(
        image_id=image, category_id=category, bbox=box, area=w * h, segmentation=[polygon], id=0
    )


@pytest.fixture
def truth():
    """Image 1 has one of each class; 2 has none of a frequent one; of 3 nothing is known but one
    box of a common one, others of which may be there."""
    return dict(
        categories=[dict(id=i, name=n, frequency=n[0]) for i, n in enumerate(NAMES, start=1)],
        images=[
            dict(id=1, width=40, height=40, neg_category_ids=[], not_exhaustive_category_ids=[]),
            dict(id=2, width=40, height=40, neg_category_ids=[3], not_exhaustive_category_ids=[]),
            dict(id=3, width=40, height=40, neg_category_ids=[], not_exhaustive_category_ids=[2]),
        ],
        annotations=[annotation(1, i, [4 * i, 4, 12, 12]) for i in (1, 2, 3)]
        + [annotation(3, 2, [20, 20, 10, 10])],
    )


@pytest.fixture
def evaluate(truth, tmp_path):
    """Metrics for {image: [(label, score, xywh)]}."""

    def evaluate(found, metric=("bbox", "segm")):
        path = tmp_path / "lvis.json"
        path.write_text(json.dumps(truth))
        built = OVLVISMetric(str(path), metric)
        built.dataset_meta = dict(classes=NAMES)
        for image in (1, 2, 3):
            rows = found.get(image, [])
            masks = torch.zeros(len(rows), 40, 40, dtype=torch.bool)
            for mask, (_, _, (x, y, w, h)) in zip(masks, rows, strict=True):
                mask[y : y + h, x : x + w] = True
            boxes = torch.tensor([box for *_, box in rows]).reshape(-1, 4).float()
            boxes[:, 2:] += boxes[:, :2]
            instances = dict(
                bboxes=boxes,
                scores=torch.tensor([score for _, score, _ in rows]),
                labels=torch.tensor([label for label, *_ in rows], dtype=torch.long),
                masks=masks,
            )
            built.process(None, [dict(img_id=image, pred_instances=instances)])
        return built.evaluate(size=3)

    return evaluate


RIGHT = [(i, 0.9 - 0.1 * i, [4 * i + 4, 4, 12, 12]) for i in range(3)]


def test_all_right(evaluate):
    metrics = evaluate({1: RIGHT, 3: [(1, 0.9, [20, 20, 10, 10])]})
    names = ["AP", "AP50", "AP75", "APr", "APc", "APf"]
    assert list(metrics) == [f"{kind}_{name}" for kind in ("bbox", "segm") for name in names]
    assert all(value == pytest.approx(100) for value in metrics.values())


def test_only_known_images_count(evaluate):
    found = {1: RIGHT, 3: [(1, 0.9, [20, 20, 10, 10])]}
    # Of rare classes nothing is known in image 2: a false detection there is none.
    found[2] = [(0, 1.0, [0, 0, 9, 9])]
    assert evaluate(found)["bbox_APr"] == pytest.approx(100)
    # That no frequent one is there is known: before the right one, precision is a half throughout.
    found[2] = [(2, 1.0, [0, 0, 9, 9])]
    metrics = evaluate(found)
    assert metrics["bbox_APf"] == metrics["segm_APf"] == pytest.approx(50)
    assert metrics["bbox_AP"] == pytest.approx((100 + 100 + 50) / 3)


def test_not_exhaustive_images_have_no_false_detections(evaluate, truth):
    found = {1: RIGHT, 3: [(1, 0.95, [0, 0, 9, 9]), (1, 0.9, [20, 20, 10, 10])]}
    assert evaluate(found)["bbox_APc"] == pytest.approx(100)
    truth["images"][2]["not_exhaustive_category_ids"] = []
    # Now the best of three is false: precision is 1/2, then 2/3, which also stands before it.
    assert evaluate(found)["bbox_APc"] == pytest.approx(100 * 2 / 3)


def test_mean_over_ious(evaluate):
    # 12 x 9 of 12 x 12: IoU 0.75, right at the six thresholds up to it.
    metrics = evaluate({1: [(0, 0.9, [4, 4, 12, 9])]})
    assert metrics["bbox_APr"] == metrics["segm_APr"] == pytest.approx(60)
    assert metrics["bbox_AP75"] == pytest.approx(100 / 3)
    assert metrics["bbox_APc"] == 0


def test_the_three_hundred_best_count_and_empty_ones_do_not(evaluate):
    others = [(0, 0.95, [0, 30, 3, 3])] * 300
    assert evaluate({1: [*others, *RIGHT]})["bbox_APr"] == 0
    assert evaluate({1: [*others[1:], *RIGHT]})["bbox_APr"] == pytest.approx(100 / 300)
    empty = [(0, 0.95, [0, 30, 0, 3])] * 9
    assert evaluate({1: [*empty, *RIGHT]})["segm_APr"] == pytest.approx(100)


def test_nothing_found_and_no_ground_truth(evaluate, truth):
    truth["annotations"] = truth["annotations"][1:]
    metrics = evaluate({})
    assert metrics["bbox_APr"] == -1 and metrics["bbox_APc"] == metrics["bbox_AP"] == 0


def test_mistakes_are_named(truth, tmp_path):
    with pytest.raises(
        ValueError, match=says("no.json", "val_evaluator.ann_file", "tools/prepare_ov_lvis.py")
    ):
        OVLVISMetric(str(tmp_path / "no.json"))
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(truth))
    with pytest.raises(ValueError, match="no metric 'mask'"):
        OVLVISMetric(str(path), "mask")
    built = OVLVISMetric(str(path), ["segm"])
    empty = dict(bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0).long())
    with pytest.raises(ValueError, match="no masks"):
        built.process(None, [dict(img_id=1, pred_instances=empty)])
    built = OVLVISMetric(str(path))
    # Before anything is detected, let alone trained.
    with pytest.raises(ValueError, match=says("'mug'", "use the vocabulary")):
        built.dataset_meta = dict(classes=("rare", "mug"))
    with pytest.raises(ValueError, match=says("image 9", "ann_file")):
        built.process(None, [dict(img_id=9, pred_instances=empty)])
    del truth["categories"][0]["frequency"]
    path.write_text(json.dumps(truth))
    with pytest.raises(ValueError, match="lacks 'frequency'"):
        OVLVISMetric(str(path))
