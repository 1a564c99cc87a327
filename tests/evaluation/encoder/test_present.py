"""Records without the pictures that are not on the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fgclip_det.evaluation.encoder.data_sets import BoxCaptions, Boxes, Classification, Retrieval
from fgclip_det.evaluation.encoder.present import without_missing


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Four paths, of which the second and the third are no files."""
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path in (paths[0], paths[3]):
        path.touch()
    paths[2].mkdir()
    return paths


def test_captions_go_with_their_pictures(files: list[Path]) -> None:
    owners = [3, 0, 1, 3, 2]
    record = Retrieval(files, list("abcde"), owners, [1, 2, 3], [0, 2, 3, 4])
    left, missing = without_missing(record)
    assert missing == [str(files[1]), str(files[2])]
    assert left == Retrieval([files[0], files[3]], ["a", "b", "d"], [1, 0, 1], [1], [0, 2])
    left, _ = without_missing(Retrieval(files, list("abcde"), owners))
    assert left.published_pictures is None and left.published_captions is None


def test_boxes_go_with_their_pictures(files: list[Path]) -> None:
    corners = np.arange(16.0).reshape(4, 4)
    record = Boxes(files, [3, 2, 0, 3], corners, [7, 8, 9, 6], ["a"], [10, 11, 12, 13], [2, 3])
    left, missing = without_missing(record)
    assert len(missing) == 2
    assert (left.owners, left.labels, left.annotation_ids) == ([1, 0, 1], [7, 9, 6], [10, 12, 13])
    assert (left.corners == corners[[0, 2, 3]]).all()
    assert (left.names, left.published_pictures) == (["a"], [1])
    captions = [("a",), ("b", "c"), ("d",), ("e",)]
    left, _ = without_missing(BoxCaptions(files, [3, 2, 0, 3], corners, captions, list("hhtt")))
    assert (left.owners, left.subsets) == ([1, 0, 1], ["h", "t", "t"])
    assert left.captions == [("a",), ("d",), ("e",)]


def test_classes_go_with_their_pictures(files: list[Path]) -> None:
    left, _ = without_missing(Classification(files, [5, 6, 7, 8], ["a"]))
    assert (left.pictures, left.labels) == ([files[0], files[3]], [5, 8])


def test_all_and_none(files: list[Path]) -> None:
    record = Retrieval([files[0], files[3]], ["a", "b"], [0, 1])
    assert without_missing(record) == (record, [])
    with pytest.raises(ValueError, match=r"none of the 2 pictures is there.*1\.png.*--images"):
        without_missing(Retrieval(files[1:3], ["a", "b"], [0, 1]))
    long = Path("x" * 5000)
    assert without_missing(Retrieval([files[0], long], ["a", "b"], [0, 1]))[1] == [str(long)]
