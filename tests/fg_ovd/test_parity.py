"""`evaluate_fg_ovd` against the official answers, and against its protocol done the slow way."""

from __future__ import annotations

import contextlib
import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import batched_nms, box_convert

from fgclip_det.evaluation import evaluate_fg_ovd, sweep_fg_ovd
from fgclip_det.fg_ovd.average_precision import IOU_THRESHOLDS, RECALL_POINTS

TESTS = Path(__file__).resolve().parents[1]
NAMES = ("easy_first200_n10", "easy_first200_n5", "transparency_n2")
KEYS = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")
KEYS += ("mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large")


@pytest.fixture(scope="module")
def fgovd_dir() -> Path:
    """Real annotations, made-up predictions and the official answers."""
    for folder in (TESTS / "fgovd", TESTS.parents[1] / "shared" / "fgovd"):
        if folder.is_dir():
            return folder
    pytest.skip("the official answers are neither in tests/fgovd nor in ../shared/fgovd")


def _load(folder: Path, name: str) -> tuple[Path, list[tuple], dict[str, Any]]:
    arrays = np.load(folder / f"{name}_predictions.npz")
    predictions = list(zip(arrays["ann_id"], arrays["boxes"], arrays["scores"], strict=True))
    expected = json.loads((folder / f"{name}_expected.json").read_text(encoding="utf-8"))
    return folder / f"{name}.json", predictions, expected


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_official_answers(fgovd_dir: Path, name: str) -> None:
    path, predictions, expected = _load(fgovd_dir, name)
    n_negatives = expected["n_negatives"]
    # In any order, from a generator, and from a file's content as from its path.
    for ground_truth in (path, json.loads(path.read_text(encoding="utf-8"))):
        found = evaluate_fg_ovd(ground_truth, (p for p in predictions[::-1]), n_negatives)
        for key in KEYS[:9]:
            # The script rounds its answers to float32.
            assert found[key] == pytest.approx(expected[key], abs=1e-7), key
        assert found["n_images"] == expected["n_images"]
        assert found["coverage"]["evaluated"] == expected["vocabularies"]
        ranks, official = found["ranks"], expected["ranks"]
        assert ranks["histogram"] == official["hist"]
        assert ranks["median_official"] == official["median_rank_official"]
        assert ranks["mean"] == pytest.approx(official["mean_rank"], abs=1e-12)
        assert ranks["n"] == official["n"]


def test_a_sweep_is_each_number_by_itself(fgovd_dir: Path) -> None:
    path, predictions, expected = _load(fgovd_dir, "easy_first200_n10")
    swept = sweep_fg_ovd(path, (p for p in predictions), 10)
    assert list(swept) == list(range(11))
    for number in (0, 3, 10):
        narrow = [(i, boxes, scores[:, : number + 1]) for i, boxes, scores in predictions]
        assert swept[number] == evaluate_fg_ovd(path, narrow, number)
    assert swept[10]["map"] == pytest.approx(expected["map"], abs=1e-7)
    assert swept[0]["ranks"]["histogram"] == [200]
    # Of all boxes that are missed at N = 10, none is found with fewer captions.
    assert swept[0]["ranks"]["share_missed"] >= 0.1
    assert swept[0]["map"] > swept[2]["map"] > swept[10]["map"]


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
