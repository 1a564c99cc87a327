"""Which true boxes and which found ones belong to a vocabulary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fgclip_det.fg_ovd import read_fg_ovd
from fgclip_det.fg_ovd.files import FGOVDFile
from fgclip_det.fg_ovd.predictions import FGOVDPrediction
from fgclip_det.fg_ovd.vocabulary_boxes import found_boxes, true_boxes


def annotation(number: int, image: int, category: int, negatives: list[int]) -> dict[str, Any]:
    box = [number, 0.1, 0.2, 10]
    return dict(
        id=number, image_id=image, category_id=category, neg_category_ids=negatives, bbox=box
    )


@pytest.fixture
def file() -> FGOVDFile:
    """Caption 1 twice in image 0 and once elsewhere, caption 4 before and after it."""
    return read_fg_ovd(
        {
            "images": [{"id": 0}, {"id": 1}],
            "categories": [{"id": i, "name": str(i)} for i in range(7)],
            "annotations": [
                annotation(3, 0, 4, [5, 6]),
                annotation(4, 0, 1, [2, 3]),
                annotation(5, 1, 1, [2, 3]),
                annotation(6, 0, 1, [2]),
                annotation(7, 0, 4, [5, 6]),
            ],
        }
    )


def test_true_boxes_are_those_of_the_image_with_enough_negatives(file: FGOVDFile) -> None:
    found = true_boxes(file, file.vocabularies(2))
    assert found.annotation_ids.tolist() == [3, 4, 7] and found.vocabulary.tolist() == [0, 1, 0]
    corners = np.array([3, 0.1, 3 + 0.2, 0.1 + 10], np.float32)
    assert found.boxes.dtype == np.float32 and (found.boxes[0] == corners).all()
    assert true_boxes(file, file.vocabularies(1)).annotation_ids.tolist() == [3, 4, 6, 7]
    assert true_boxes(file, file.vocabularies(2)[1:]).annotation_ids.tolist() == [4]
    assert true_boxes(file, []).boxes.shape == (0, 4)


def test_found_boxes_keep_the_first_scores(file: FGOVDFile) -> None:
    boxes = np.array([[0, 0, 5, 5], [1, 1, 6, 6]], np.float32)
    scores = np.array([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1]], np.float32)
    given = {4: FGOVDPrediction(4, boxes, scores), 5: FGOVDPrediction(5, boxes, scores[:, :1])}
    found = found_boxes(file.vocabularies(1), given, 1)
    assert found.vocabulary.tolist() == [1, 1] and (found.scores == scores[:, :2]).all()
    assert found.labels.tolist() == [0, 1]
    nothing = found_boxes(file.vocabularies(1), {}, 1)
    assert [len(part) for part in nothing] == [0, 0, 0, 0] and nothing.scores.shape == (0, 2)
    given[4] = FGOVDPrediction(4, boxes, scores[:, :1])
    with pytest.raises(ValueError, match="annotation 4 have 1 columns, but 2 are needed"):
        found_boxes(file.vocabularies(1), given, 1)
