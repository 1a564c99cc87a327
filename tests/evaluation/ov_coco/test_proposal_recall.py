import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fgclip_det.evaluation.ov_coco.proposal_recall import boxes_by_image, proposal_recall

COUNTS = (1, 3, 10, 40)


def coco(annotations, images):
    truth = COCO()
    categories = [{"id": k, "name": str(k)} for k in (1, 2, 3)]
    truth.dataset = {"images": images, "categories": categories, "annotations": annotations}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth


def random_case(seed, images=8):
    """Crowded little pictures: boxes are often claimed by several proposals, and on a grid, so
    that overlaps tie."""
    rng = np.random.default_rng(seed)
    annotations, proposals = [], {}
    for image in range(images):
        for _ in range(rng.integers(0, 9)):
            x, y, w, h = (rng.integers(0, 6, 4) * 4 + np.array([0, 0, 8, 8])).tolist()
            head = {"id": len(annotations) + 1, "image_id": image}
            kind = {"category_id": int(rng.integers(1, 4)), "iscrowd": int(rng.random() < 0.2)}
            annotations.append({**head, **kind, "bbox": [x, y, w, h], "area": w * h})
        corner = rng.integers(0, 6, (50, 2)) * 4.0
        size = rng.integers(0, 6, (50, 2)) * 4.0 + 8
        if image != 3:  # one was not detected on
            proposals[image] = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    return coco(annotations, [{"id": k} for k in range(images)]), proposals


def by_pycocotools(truth, proposals, categories):
    results = [
        {
            "image_id": image,
            "category_id": categories[0],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": 1 - rank / 100,
        }
        for image, boxes in proposals.items()
        for rank, (x1, y1, x2, y2) in enumerate(boxes.tolist())
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluator.params.useCats, evaluator.params.catIds = 0, categories
        evaluator.params.maxDets = list(COUNTS)
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval["recall"][0, 0, 0].tolist()


@pytest.mark.parametrize("categories", [[1, 2, 3], [1, 3], [2]], ids=str)
def test_equals_pycocotools(categories):
    seen = set()
    for seed in range(20):
        truth, proposals = random_case(seed)
        got = proposal_recall(boxes_by_image([(truth, categories)]), proposals, COUNTS)
        assert got == pytest.approx(by_pycocotools(truth, proposals, categories), abs=1e-12)
        seen.update(got)
    assert min(seen) < 0.1 and max(seen) > 0.8 and len(seen) > 20


def test_by_hand():
    boxes = {1: np.array([[0, 0, 10, 10], [0, 0, 10, 9.0]]), 2: np.array([[50, 50, 10, 10.0]])}
    proposals = {
        # Both of the first image's boxes lie under the first proposal, which takes one of them.
        1: np.array([[0, 0, 10, 10], [80, 80, 90, 90], [0, 0, 10, 8.0]]),
        2: np.array([[50, 50, 60, 54.9], [50, 50, 60, 55]]),  # IoU 0.49, then 0.5
    }
    assert proposal_recall(boxes, proposals, (1, 2, 3)) == [1 / 3, 2 / 3, 1.0]
    assert proposal_recall(boxes, {1: proposals[1]}, (1, 3)) == [1 / 3, 2 / 3]
    assert proposal_recall(boxes, {1: np.zeros((0, 4))}, (1,)) == [0.0]
    assert proposal_recall({}, proposals, (1, 3)) == [-1.0, -1.0]


def test_boxes_of_several_files_go_together():
    base = coco(
        [{"id": 1, "image_id": 0, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 1, 1]}],
        [{"id": 0}],
    )
    novel = coco(
        [
            {"id": 1, "image_id": 0, "category_id": 2, "iscrowd": 0, "bbox": [0, 0, 2, 2]},
            {"id": 1, "image_id": 0, "category_id": 2, "iscrowd": 1, "bbox": [0, 0, 3, 3]},
            {"id": 1, "image_id": 0, "category_id": 3, "iscrowd": 0, "bbox": [0, 0, 4, 4]},
        ],
        [{"id": 0}],
    )
    boxes = boxes_by_image([(novel, [2]), (base, [1, 2])])
    assert boxes[0].tolist() == [[0, 0, 1, 1], [0, 0, 2, 2]]
