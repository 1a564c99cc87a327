"""What is in pictures, and which boxes are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fgclip_det.apis.calibrating.truth import KnownPicture, absent_pictures, known_pictures
from fgclip_det.io import write_image, write_json
from fgclip_det.vocabulary import Attributes, TextEmbeddings, Vocabulary

CATEGORIES = {1: "mug", 2: "Cup", 3: "a cup", 7: "plate", 8: "mug"}


def asked(names: list[str] | dict[str, list[str]]) -> TextEmbeddings:
    vocabulary = Vocabulary.parse(names)
    return TextEmbeddings(vocabulary, torch.eye(len(vocabulary), 8), "e")


def written(
    folder: Path,
    annotations: list[dict[str, Any]],
    names: list[str],
    categories: dict[int, str] = CATEGORIES,
) -> Path:
    for name in names:
        write_image(folder / name, Image.new("RGB", (40, 30)))
    file = folder / "truth.json"
    images = [
        {"id": 10 * place, "file_name": name, "width": 40, "height": 30}
        for place, name in enumerate(names)
    ]
    ready = [{"id": n, "area": 1.0, "iscrowd": 0, **one} for n, one in enumerate(annotations)]
    told = [{"id": number, "name": name} for number, name in categories.items()]
    write_json(file, {"images": images, "annotations": ready, "categories": told})
    return file


def test_a_picture_counts_once(tmp_path: Path) -> None:
    written(tmp_path, [], ["a.png", "b.png"])
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    address = "https://example.org/a.png"
    given = [tmp_path / "a.png", address, tmp_path / "b.png"]
    assert [one.path for one in absent_pictures(given)] == [str(one) for one in given]
    with pytest.warns(UserWarning, match="3 of 6 pictures were given before"):
        again = absent_pictures([*given, tmp_path / "." / "b.png", tmp_path / "link.png", address])
    assert [one.path for one in again] == [str(one) for one in given]
    truth = written(tmp_path, [], ["a.png", "b.png", "a.png"])
    with pytest.raises(ValueError, match=r"lists pictures twice \(.*a\.png\): keep one each"):
        known_pictures(truth, tmp_path, asked(["mug"]))


def test_boxes_of_the_names_by_picture(tmp_path: Path) -> None:
    annotations = [
        {"image_id": 10, "category_id": 8, "bbox": [1, 2, 10, 20]},
        {"image_id": 0, "category_id": 2, "bbox": [0, 0, 5, 5]},
        {"image_id": 10, "category_id": 1, "bbox": [3, 3, 4, 4]},
        {"image_id": 10, "category_id": 3, "bbox": [5, 5, 2, 2]},
        {"image_id": 0, "category_id": 7, "bbox": [5, 5, 2, 2]},
        {"image_id": 0, "category_id": 1, "bbox": [9, 9, 3, 3], "iscrowd": 1},
    ]
    file = written(tmp_path, annotations, ["b.png", "a.png", "c.png"])
    found = known_pictures(file, tmp_path, asked(["a cup", "mug"]))
    assert [Path(one.path).name for one in found] == ["b.png", "a.png", "c.png"]
    assert {one.size for one in found} == {(40, 30)}
    boxes = [{k: v.tolist() for k, v in one.boxes.items()} for one in found]
    assert boxes == [
        {0: [[0, 0, 5, 5]]},
        {1: [[1, 2, 11, 22], [3, 3, 7, 7]], 0: [[5, 5, 7, 7]]},
        {},
    ]
    assert found[0].crowds[1].tolist() == [[9, 9, 12, 12]]


def test_prompts_and_two_names_of_one_category(tmp_path: Path) -> None:
    annotation = {"image_id": 0, "category_id": 7, "bbox": [1, 2, 10, 20]}
    file = written(tmp_path, [annotation], ["b.png"])
    names = {"dish": ["dish", "plate"], "plate": ["plate"], "mug": ["mug"]}
    (found,) = known_pictures(file, tmp_path, asked(names))
    assert [*found.boxes] == [0, 1]


def test_boxes_of_a_name_that_says_less_are_those_of_its_kinds(tmp_path: Path) -> None:
    places = {1: [1, 2, 10, 20], 2: [3, 3, 4, 4], 3: [9, 9, 3, 3], 4: [5, 5, 5, 5]}
    annotations = [{"image_id": 0, "category_id": n, "bbox": box} for n, box in places.items()]
    categories = {0: " red mug", 1: "red mug", 2: "blue mug", 3: "panda", 4: "red panda", 5: ""}
    file = written(tmp_path, annotations, ["b.png"], categories)
    lists = Attributes({"color": ("red", "blue")})
    (found,) = known_pictures(file, tmp_path, asked(["a mug", "mugs", "panda", "red mug"]), lists)
    # A category is no more than itself: not all that its words can be added to is of its kind.
    boxes = {label: own.tolist() for label, own in found.boxes.items()}
    mugs = [[1, 2, 11, 22], [3, 3, 7, 7]]
    assert boxes == {0: mugs, 1: mugs, 2: [[9, 9, 12, 12]], 3: mugs[:1]}
    with pytest.raises(ValueError, match="is a mug"):
        known_pictures(file, tmp_path, asked(["a mug"]))
    with pytest.raises(ValueError, match="is green mug"):
        known_pictures(file, tmp_path, asked(["green mug", "mug"]), lists)


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    file = written(tmp_path, [], ["b.png"])
    with pytest.raises(ValueError, match=r"truth\.json' is a cat.*--absent"):
        known_pictures(file, tmp_path, asked(["mug", "a cat"]))
    with pytest.raises(ValueError, match="1 of 1 images are missing"):
        known_pictures(file, tmp_path / "other", asked(["mug"]))
    empty = written(tmp_path, [], [])
    with pytest.raises(ValueError, match="lists no pictures"):
        known_pictures(empty, tmp_path, asked(["mug"]))


def test_verdicts() -> None:
    picture = KnownPicture(
        "a",
        boxes={0: np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32)},
        crowds={1: np.array([[0, 0, 40, 40]], np.float32)},
    )
    boxes = np.array(
        [
            [0, 0, 10, 20],  # half of it
            [0, 0, 10, 20.5],  # a little less
            [20, 0, 30, 9],
            [20, 0, 30, 10],  # the same object once more
            [20, 0, 30, 10],  # another name, in its crowd
            [35, 0, 45.5, 10],  # less than half in it
            [0, 0, 10, 10],  # a name that is not there
        ],
        np.float32,
    )
    right, counts = picture.verdicts(boxes, np.array([0, 0, 0, 0, 1, 1, 2]))
    assert right.tolist() == [True, False, True, True, False, False, False]
    assert counts.tolist() == [True, True, True, True, False, True, True]
    none, _ = picture.verdicts(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    assert none.shape == (0,)
