"""Both libraries give one number, and it is COCO's."""

import builtins
import importlib

import numpy as np
import pytest
from mmengine.logging import MMLogger
from pycocotools.mask import encode

from fgclip_det.evaluation.coco_style import libraries
from fgclip_det.evaluation.coco_style.class_precision import Detections, class_precision
from fgclip_det.evaluation.coco_style.libraries import counting_library
from tests.messages import says

SIZE = {"width": 60, "height": 50}
BOTH = ("faster-coco-eval", "pycocotools")


def integer_boxes(random, count):
    """(count, 4) xywh: of whole pixels, so that many overlap alike."""
    corners = random.integers(0, 20, (count, 2)), random.integers(1, 25, (count, 2))
    return np.concatenate(corners, axis=1).astype(float)


def as_masks(boxes):
    masks = np.zeros((*SIZE.values(), len(boxes)), np.uint8, order="F").transpose(1, 0, 2)
    for index, (x, y, w, h) in enumerate(boxes.astype(int)):
        masks[y : y + h, x : x + w, index] = 1
        masks[y, x, index] = 0
    return encode(np.asfortranarray(masks)) if len(boxes) else []


def random_case(seed, kind):
    """Few images, ties of scores and of overlaps, crowds, sides beyond any range, empty sides."""
    random = np.random.default_rng(seed)
    images = {f"i{k}": SIZE for k in range(random.integers(1, 6))}
    ids = np.array(list(images))
    wanted = integer_boxes(random, random.integers(0, 12))
    polygons = [[[x, y, x + w, y, x + w, y + h, x, y + h]] for x, y, w, h in wanted.tolist()]
    truth = [
        {
            "image_id": str(random.choice(ids)),
            "bbox": box,
            "segmentation": polygon,
            "area": box[2] * box[3] if random.random() < 0.9 else 2e10,
            "iscrowd": int(random.random() < 0.2),
        }
        for box, polygon in zip(wanted.tolist(), polygons, strict=True)
    ]
    if kind == "segm":
        # A crowd's outline is run lengths in COCO's files.
        for one, mask in zip(truth, as_masks(wanted), strict=True):
            one["segmentation"] = mask if one["iscrowd"] else one["segmentation"]
    count = int(random.integers(0, 60))
    boxes = integer_boxes(random, count)
    if len(wanted):
        near = random.random(count) < 0.6
        moved = wanted[random.integers(len(wanted), size=count)] + random.integers(
            -1, 2, (count, 4)
        )
        boxes = np.where(near[:, None], moved, boxes)
        boxes = np.concatenate([boxes[:, :2].clip(0), boxes[:, 2:].clip(1)], axis=1)
    found = Detections(
        images=random.choice(ids, count),
        categories=np.zeros(count, int),
        scores=random.integers(0, 8, count) / 7,
        boxes=boxes if kind == "bbox" else None,
        masks=as_masks(boxes) if kind == "segm" else None,
    )
    return {
        "truth": truth,
        "images": images,
        "detections": found,
        "rows": np.arange(count),
        "max_detections": int(random.choice([1, 3, 100])),
        "kind": kind,
        "not_exhaustive": set(ids[random.random(len(ids)) < 0.4].tolist()),
    }


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_libraries_agree(kind):
    faster, reference = map(counting_library, BOTH)
    assert faster.evaluation.__module__.startswith("faster_coco_eval")
    seen = set()
    for seed in range(60):
        case = random_case(seed, kind)
        fast, slow = (class_precision(one, **case) for one in (faster, reference))
        np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-9, err_msg=str(seed))
        seen.add(float(np.sign(slow.max())))
    # With nothing to find, with nothing found, and with something found.
    assert seen == {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("name", BOTH)
def test_by_hand(name):
    """Two objects; the better detection is false: precision 1/2 up to recall 1/2, then none."""
    truth = [{"image_id": 7, "bbox": [x, 0, 10, 10], "area": 100, "iscrowd": 0} for x in (0, 30)]
    found = Detections(
        images=np.array([7, 7]),
        categories=np.array([3, 3]),
        scores=np.array([0.5, 0.9]),
        # IoU 0.6 with the first object.
        boxes=np.array([[0.0, 0, 10, 6], [70, 70, 9, 9]]),
    )
    case = dict(truth=truth, images={7: SIZE, 8: SIZE}, detections=found, max_detections=100)
    library = counting_library(name)
    precision = class_precision(library, rows=np.arange(2), **case)
    expected = np.zeros((10, 101))
    expected[:3, :51] = 0.5
    np.testing.assert_allclose(precision, expected, atol=1e-12)
    # What may be there unseen is no false detection.
    precision = class_precision(library, rows=np.arange(2), not_exhaustive={7}, **case)
    np.testing.assert_allclose(precision, expected * 2, atol=1e-12)
    # A lower score that does not count finds nothing.
    precision = class_precision(library, rows=np.arange(2), **{**case, "max_detections": 1})
    assert not precision.any()


def test_rows_of_categories():
    categories = np.array([5, 2, 5, 9, 2])
    found = Detections(np.zeros(5), categories, np.zeros(5), np.zeros((5, 4)))
    assert [rows.tolist() for rows in found.rows_of([9, 2, 7, 5])] == [[3], [1, 4], [], [0, 2]]


def test_choice(monkeypatch):
    assert counting_library("auto").name == "faster-coco-eval"
    with pytest.raises(ValueError, match=says("'fast'", "'auto'", "'pycocotools'")):
        counting_library("fast")
    said = []
    monkeypatch.setattr(MMLogger.get_current_instance(), "info", said.append)
    monkeypatch.setattr(importlib, "import_module", broken_import)
    libraries._announce_fallback.cache_clear()
    assert [counting_library("auto").name for _ in range(2)] == ["pycocotools"] * 2
    assert len(said) == 1 and "faster-coco-eval is not installed" in said[0]
    with pytest.raises(ValueError, match=says("gone", "fgclip-det[fasteval]", "'auto'")):
        counting_library("faster-coco-eval")
    libraries._announce_fallback.cache_clear()


def broken_import(name):
    raise builtins.ImportError(f"{name} is gone")
