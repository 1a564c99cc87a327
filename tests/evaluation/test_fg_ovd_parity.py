"""FG-OVD's NumPy code against torch, torchvision and pycocotools, and with tensors.

The tests in ``tests/fg_ovd`` run where torch is not installed; these hold it against torch.
"""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import batched_nms, box_convert, nms

from fgclip_det.fg_ovd import evaluate_fg_ovd
from fgclip_det.fg_ovd import nms as fg_ovd_nms
from fgclip_det.fg_ovd.average_precision import IOU_THRESHOLDS, RECALL_POINTS
from fgclip_det.fg_ovd.nms import suppress
from fgclip_det.fg_ovd.predictions import to_prediction

KEYS = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")
KEYS += ("mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large")


def test_tensors_serve_as_predictions() -> None:
    boxes, scores = torch.tensor([[1.5, 2, 3, 4]]), torch.tensor([[0.9, 0.1]], dtype=torch.float64)
    found = to_prediction(np.int64(3), boxes, scores)
    assert found.annotation_id == 3 and found.boxes.tolist() == boxes.tolist()
    assert found.scores.dtype == np.float32 and found.scores.shape == (1, 2)
    nothing = to_prediction(torch.tensor(3), torch.zeros(0, 4), torch.zeros(0))
    assert nothing.boxes.shape == (0, 4) and nothing.annotation_id == 3
    with pytest.raises(ValueError, match=r"annotation id tensor.*: no int"):
        to_prediction(torch.tensor(1.7), boxes, scores)


def suppressed_one_by_one(groups: np.ndarray, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    keep = np.zeros(len(groups), bool)
    for group in np.unique(groups):
        places = np.flatnonzero(groups == group)
        kept = nms(torch.tensor(boxes[places]), torch.tensor(scores[places]), 0.5)
        keep[places[kept.numpy()]] = True
    return keep


def test_suppression_equals_torchvision_with_ties_and_degenerate_boxes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = total = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        number = int(random.integers(1, 400))
        # Whole numbers: IoUs of exactly 1/2, which suppress nothing; and boxes without area.
        start = random.integers(0, 15, (number, 2))
        boxes = np.concatenate([start, start + random.integers(0, 30, (number, 2))], axis=1)
        scores = random.random(number).astype(np.float32)
        if seed % 2:
            boxes, scores = boxes + random.random((number, 4)) * 0.1, scores.round(1)
            boxes[:, 2:] = np.maximum(boxes[:, :2], boxes[:, 2:])
        boxes = boxes.astype(np.float32)
        groups = random.integers(0, random.integers(1, 5), number)
        # The smallest block puts every group into one of its own.
        monkeypatch.setattr(fg_ovd_nms, "_BLOCK", 1 << 20 if seed % 3 else 1)
        keep = suppress(groups, boxes, scores)
        assert (keep == suppressed_one_by_one(groups, boxes, scores)).all(), seed
        kept, total = kept + keep.sum(), total + number
    assert 0.2 < kept / total < 0.8


def test_thresholds_are_torchs() -> None:
    assert torch.linspace(0.5, 0.95, 10).tolist() == IOU_THRESHOLDS.tolist()
    points = torch.linspace(0.0, 1.0, 101).tolist()
    # Processors without FMA round some of torch's points to the neighbouring float.
    assert points == pytest.approx(RECALL_POINTS.tolist(), abs=1.2e-7)
    assert RECALL_POINTS[60] > 0.6 and RECALL_POINTS[80] > 0.8
    assert (RECALL_POINTS.astype(np.float32) == RECALL_POINTS).all()


class Case:
    """A random annotation file and predictions, full of what real ones have seldom."""

    def __init__(self, seed: int) -> None:
        self.random = random = np.random.default_rng(seed)
        self.n_negatives = int(random.integers(0, 5))
        self.whole, self.rounded = seed % 4 != 1, seed % 4 in (0, 3)
        # Every fourth case: over 100 boxes that survive suppression.
        self.num_boxes, self.spread = (300, 300) if seed % 4 == 2 else (40, 12)
        images = [{"id": 100 + 7 * int(i)} for i in random.permutation(random.integers(1, 6))]
        categories = [{"id": i, "name": f"caption {i}"} for i in range(1, 30)]
        annotations = self._annotations([image["id"] for image in images])
        self.data = {"images": images, "annotations": annotations, "categories": categories}
        self.predictions = self._predictions()

    def _annotations(self, images: list[int]) -> list[dict[str, Any]]:
        random, annotations = self.random, []
        for caption in random.choice(np.arange(1, 30), random.integers(2, 8), replace=False):
            # Negatives of one caption are right captions of others, and now and then itself.
            others = [i for i in range(1, 30) if i != caption or random.random() < 0.05]
            number = random.integers(max(0, self.n_negatives - 1), self.n_negatives + 3)
            negatives = random.choice(others, number, replace=False).tolist()
            home = random.choice(images)
            for _ in range(random.integers(1, 8)):
                start = random.integers(0, 60, 2) + (0 if self.whole else random.random(2).round(2))
                extent = random.choice([8, 16, 32, 40, 64, 96, 100, 120], 2)
                cut = negatives if random.random() < 0.9 else negatives[:-1]
                image = home if random.random() < 0.93 else random.choice(images)
                annotations.append(
                    {
                        "image_id": int(image),
                        "category_id": int(caption),
                        "neg_category_ids": cut,
                        "bbox": [*start.astype(float).tolist(), *extent.astype(float).tolist()],
                    }
                )
        random.shuffle(annotations)
        return [{"id": index, **one} for index, one in enumerate(annotations)]

    def _predictions(self) -> list[tuple]:
        random, predictions, seen = self.random, [], set()
        for one in self.data["annotations"]:
            if one["category_id"] in seen:
                continue
            seen.add(one["category_id"])
            if len(one["neg_category_ids"]) < self.n_negatives or random.random() < 0.1:
                continue
            near = [a["bbox"] for a in self.data["annotations"] if a["image_id"] == one["image_id"]]
            number = int(random.integers(1, self.num_boxes))
            boxes = np.array(near)[random.integers(0, len(near), number)]
            boxes[:, 2:] += boxes[:, :2]
            moved = random.integers(-self.spread, self.spread + 1, (number, 4))
            boxes += moved * (random.random((number, 1)) < 0.8)
            boxes = np.concatenate(
                [np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], 1
            )
            scores = random.random((number, 1 + self.n_negatives))
            scores[:, 0] += random.random() * 0.6
            scores = (scores / 1.7).round(1) if self.rounded else scores / 1.7
            # The official ranks take 1 for the score of the true box.
            scores = np.minimum(scores, 0.999).astype(np.float32)
            predictions.append((one["id"], boxes.astype(np.float32), scores))
        return predictions


def slowly(case: Case) -> dict[str, Any]:
    """The official protocol with torchvision and pycocotools, loop by loop."""
    owners = {one["id"]: one for one in case.data["annotations"]}
    by_image = defaultdict(list)
    for number, boxes, scores in case.predictions:
        one = owners[number]
        captions = np.array([one["category_id"], *one["neg_category_ids"][: case.n_negatives]])
        labels = captions[scores.argmax(axis=1)]
        parts = (torch.tensor(boxes), torch.tensor(scores.max(axis=1)), torch.tensor(scores))
        by_image[one["image_id"]].append((one["category_id"], labels, *parts))
    truth, found, ranks = [], [], []
    images = [i["id"] for i in case.data["images"] if i["id"] in by_image]
    for index, image in enumerate(images):
        asked = {prediction[0] for prediction in by_image[image]}
        targets = []
        for one in case.data["annotations"]:
            enough = len(one["neg_category_ids"]) >= case.n_negatives
            if enough and one["image_id"] == image and one["category_id"] in asked:
                x, y, w, h = one["bbox"]
                corners = torch.tensor([[x, y, x + w, y + h]], dtype=torch.float32)
                truth.append(_entry(index, one["category_id"], corners))
                targets.append((one["category_id"], corners))
        for category, labels, boxes, best, scores in by_image[image]:
            kept = batched_nms(boxes, best, torch.zeros(len(best)), 0.5)
            for i in kept.sort().values.tolist():
                entry = _entry(index, int(labels[i]), boxes[i : i + 1])
                found.append({**entry, "score": best[i].item()})
            answers = (boxes[kept], best[kept], scores[kept])
            ranks += [_rank(*answers, box) for label, box in targets if label == category]
    return {**_coco(truth, found, len(images)), "ranks": ranks, "n_images": len(images)}


def _entry(image: int, label: int, corners: torch.Tensor) -> dict[str, Any]:
    box = box_convert(corners, "xyxy", "xywh")[0].tolist()
    area = box[2] * box[3]
    return {"image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": 0}


def _rank(boxes: torch.Tensor, best: torch.Tensor, scores: torch.Tensor, box: torch.Tensor) -> int:
    """What the true box, with the score 1, suppresses first, answers for it."""
    together = torch.cat([boxes, box]), torch.cat([best, torch.ones(1)])
    kept = set(batched_nms(*together, torch.zeros(len(best) + 1), 0.5).tolist())
    gone = [i for i in range(len(best)) if i not in kept]
    answer = scores[gone[0]] if gone else torch.zeros(scores.shape[1])
    return int((answer >= answer[0]).sum())


def _coco(truth: list[dict], found: list[dict], num_images: int) -> dict[str, float]:
    labels = sorted({one["category_id"] for one in truth + found})
    apis = []
    for entries in (truth, found):
        api = COCO()
        api.dataset = {
            "images": [{"id": i} for i in range(num_images)],
            "annotations": [{"id": i, **one} for i, one in enumerate(entries, start=1)],
            "categories": [{"id": label} for label in labels],
        }
        apis.append(api)
    with contextlib.redirect_stdout(io.StringIO()):
        for api in apis:
            api.createIndex()
        evaluator = COCOeval(*apis, "bbox")
        evaluator.params.iouThrs, evaluator.params.recThrs = IOU_THRESHOLDS, RECALL_POINTS
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return dict(zip(KEYS, evaluator.stats.tolist(), strict=True))


@pytest.mark.parametrize("start", range(0, 80, 20))
def test_equals_the_protocol_done_slowly(start: int) -> None:
    compared = 0
    for seed in range(start, start + 20):
        case = Case(seed)
        if not case.predictions:
            continue
        expected = slowly(case)
        order = case.random.permutation(len(case.predictions))
        found = evaluate_fg_ovd(case.data, (case.predictions[i] for i in order), case.n_negatives)
        for key in KEYS:
            assert found[key] == pytest.approx(expected[key], abs=1e-12), (seed, key)
        ranks = np.array(expected["ranks"], dtype=int) - 1
        histogram = np.bincount(ranks, minlength=case.n_negatives + 1).tolist()
        assert found["ranks"]["histogram"] == histogram, seed
        assert found["n_images"] == expected["n_images"], seed
        compared += 1
    assert compared > 15
