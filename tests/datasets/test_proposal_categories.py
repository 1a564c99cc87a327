"""Category ids of boxes are those of the annotation file, or the difference is told."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from fgclip_det.datasets.annotation_files import AnnotationFile
from fgclip_det.datasets.proposal_categories import check_categories
from fgclip_det.datasets.proposal_files import ImageProposals, Proposals
from tests.messages import says

# As of COCO, with a gap.
IDS = [1, 2, 3, 4, 6, 7, 8, 9, 10, 11]


def file_of(objects: list[int], ids: list[int] | None = None) -> AnnotationFile:
    """One picture with an object of each category, side by side."""
    ids = IDS if ids is None else ids
    annotations = [
        dict(image_id=1, category_id=c, bbox=[20 * k, 0, 10, 10]) for k, c in enumerate(objects)
    ]
    categories = [dict(id=i, name=f"c{i}") for i in ids]
    images = [dict(id=1, width=20 * len(objects), height=20)]
    return AnnotationFile(Path("val.json"), images, annotations, categories, {})


def boxes_of(categories: list[int], shift: float = 1.0) -> Proposals:
    """A box on each object, in the same order."""
    count = len(categories)
    boxes = np.array([[20 * k + shift, 0, 20 * k + 10 + shift, 10] for k in range(count)])
    own = ImageProposals(
        boxes.astype(np.float32).reshape(-1, 4),
        np.full(count, 0.5, np.float32),
        np.array(categories, np.int64),
        (None,) * count,
    )
    return Proposals({1: own} if count else {})


def test_ids_of_the_file_and_none_at_all() -> None:
    objects = [6, 7, 8, 9, 10, 11]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_categories(boxes_of(objects), file_of(objects), IDS)
        check_categories(boxes_of([]), file_of(objects), IDS)
        # A detector that is often wrong is no other list.
        check_categories(boxes_of([6, 7, 9, 10, 11, 1]), file_of(objects), IDS)
        # Nor are boxes of no object.
        check_categories(boxes_of([5 + k for k in (1, 2, 3, 4)], 8.0), file_of([7, 8, 9, 10]), IDS)


@pytest.mark.parametrize(("first", "objects"), [(0, [2, 3, 4, 7, 8]), (1, [7, 8, 9, 10, 11])])
def test_places_are_told_from_ids(first: int, objects: list[int]) -> None:
    places = [IDS.index(one) + first for one in objects]
    assert places == ([1, 2, 3, 5, 6] if first == 0 else [6, 7, 8, 9, 10])
    file = file_of(objects, [*IDS, 50])
    if first == 0:
        places[3], file.annotations[3]["category_id"] = 7, 9
    words = says("0 have its category_id", f"5 have its place, counted from {first}")
    with pytest.raises(ValueError, match=words):
        check_categories(boxes_of(places), file, IDS)


@pytest.mark.parametrize(
    ("categories", "base", "message"),
    [
        ([1, -1, 2], IDS, "1 of 3"),
        ([0, 1, 2], IDS, "1 of 3 boxes have a category_id .* the first has 0; .* from 0 to 2"),
        ([5, 1, 1203], IDS, "2 of 3 boxes .* the file's 10 from 1 to 11"),
        ([1, 2], [10, 11], "none of the 2 boxes is of a category of the vocabulary's base group"),
    ],
)
def test_foreign_ids_are_named(categories: list[int], base: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_categories(boxes_of(categories), file_of([9] * 3), base)


def test_some_outside_the_base_group_are_told() -> None:
    with pytest.warns(UserWarning, match="1 of 3 boxes are of categories outside"):
        check_categories(boxes_of([1, 2, 3]), file_of([1, 2, 3]), [1, 2])
