import json

import numpy as np
import pytest

from fgclip_det.evaluation.coco_style.class_precision import Detections
from fgclip_det.evaluation.coco_style.libraries import counting_library
from fgclip_det.evaluation.ov_coco.average_precision import average_precision
from fgclip_det.evaluation.ov_coco.ground_truth import category_ids, read_ground_truth
from tests.messages import says

ANNOTATION = {
    "id": 1,
    "image_id": 7,
    "category_id": 2,
    "bbox": [1, 2, 30, 40],
    "area": 1200,
    "iscrowd": 0,
}
FILE = {
    "images": [{"id": 7}],
    "categories": [{"id": 2, "name": "ant"}, {"id": 5, "name": "bee"}],
    "annotations": [ANNOTATION],
}


def write(path, values):
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return str(path)


def detections(boxes):
    """Of category 2 in image 7."""
    count = len(boxes)
    boxes = np.array(boxes, float).reshape(-1, 4)
    return Detections(np.full(count, 7), np.full(count, 2), np.full(count, 0.5), boxes)


@pytest.mark.parametrize("ids", [(0, 1), (3, 3), ("a", "b")], ids=str)
def test_ids_of_annotations_decide_nothing(tmp_path, ids):
    """pycocotools by itself loses the box with the id 0 and one of two with the same id."""
    boxes = [[1, 2, 30, 40], [50, 50, 20, 20]]
    annotations = [{**ANNOTATION, "id": i, "bbox": b} for i, b in zip(ids, boxes, strict=True)]
    truth = read_ground_truth(write(tmp_path / "a.json", {**FILE, "annotations": annotations}))
    library = counting_library("pycocotools")
    assert average_precision(truth, detections(boxes), [2], library) == pytest.approx(1.0)
    found = average_precision(truth, detections(boxes[:1]), [2], library)
    assert found == pytest.approx(51 / 101)


def test_a_file_without_annotations_will_do(tmp_path):
    values = {key: FILE[key] for key in ("images", "categories")}
    truth = read_ground_truth(write(tmp_path / "a.json", values))
    library = counting_library("pycocotools")
    assert average_precision(truth, detections([]), [2, 5], library).tolist() == [[-1, -1]] * 2


def test_ids_come_in_the_order_of_the_names(tmp_path):
    truth = read_ground_truth(write(tmp_path / "a.json", FILE))
    assert category_ids(truth, ["bee", "ant"]) == [5, 2]
    with pytest.raises(ValueError, match=says("'yak'", "use the vocabulary")):
        category_ids(truth, ["ant", "yak"])
    FILE_TWICE = {**FILE, "categories": [*FILE["categories"], {"id": 6, "name": "ant"}]}
    truth = read_ground_truth(write(tmp_path / "b.json", FILE_TWICE))
    with pytest.raises(ValueError, match=says("2 categories", "'ant'", "its own name")):
        category_ids(truth, ["ant"])


WHOLE = json.dumps(FILE)


def test_a_missing_area_is_that_of_the_box(tmp_path):
    plain = {name: value for name, value in ANNOTATION.items() if name != "area"}
    values = {**FILE, "annotations": [plain, {**ANNOTATION, "area": 3}]}
    truth = read_ground_truth(write(tmp_path / "a.json", values))
    width, height = ANNOTATION["bbox"][2:]
    assert [one["area"] for one in truth.dataset["annotations"]] == [width * height, 3]


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        (WHOLE[: len(WHOLE) // 2], ("JSON", "line 1", "Get it again")),
        ("", ("JSON", "Get it again")),
        ("[" * 100_000, ("JSON",)),
        ([], ("COCO", "list", "object")),
        ({**FILE, "images": None}, ("'images'",)),
        ({**FILE, "categories": {}}, ("'categories'",)),
        ({**FILE, "annotations": [1]}, ("'annotations'",)),
        ({**FILE, "images": [{}]}, ("images[0]", "'id'")),
        ({**FILE, "categories": [{"id": 1}]}, ("categories[0]", "'name'")),
        *(
            (
                {
                    **FILE,
                    "annotations": [
                        ANNOTATION,
                        {name: value for name, value in ANNOTATION.items() if name != key},
                    ],
                },
                ("annotations[1]", f"'{key}'"),
            )
            for key in ("image_id", "category_id", "bbox", "iscrowd")
        ),
        ({**FILE, "annotations": [{**ANNOTATION, "bbox": [1, 2, 3, float("nan")]}]}, ("NaN",)),
        *(
            (
                {**FILE, "annotations": [{**ANNOTATION, "bbox": box}]},
                ("annotations[0]", "bbox", "four"),
            )
            for box in ([1, 2, 3], "box", [1, 2, 3, None], [1, 2, 3, True, 4])
        ),
    ],
)
def test_files_that_cannot_be_used(tmp_path, values, parts):
    path = write(tmp_path / "a.json", values)
    with pytest.raises(ValueError, match=says("a.json", *parts)) as error:
        read_ground_truth(path)
    assert path in str(error.value) and "\n" not in str(error.value)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\x1f\x8b\x08\x00\xff\xfe")
    with pytest.raises(ValueError, match=says("a.json", "text", "unpack")):
        read_ground_truth(str(tmp_path / "a.json"))


def test_missing_file(tmp_path):
    with pytest.raises(ValueError, match=says("a.json", "val_evaluator.ann_file")):
        read_ground_truth(str(tmp_path / "a.json"))
