"""Predictions of any detector: what is written reads back, what is broken is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fgclip_det.fg_ovd.predictions import read_predictions, write_predictions


@pytest.fixture
def predictions() -> list[tuple[int, np.ndarray, np.ndarray]]:
    random = np.random.default_rng(0)
    boxes = [(random.random((number, 4)) * 500).astype(np.float32) for number in (3, 0, 1)]
    for one in boxes:
        one[:, 2:] += one[:, :2]
    scores = [(random.random((len(one), 3)) * 1e-6).astype(np.float32) for one in boxes]
    return list(zip((5, 2, 9), boxes, scores, strict=True))


@pytest.mark.parametrize("name", ["new/out.json", "out.json.gz"])
def test_what_is_written_reads_back_to_the_bit(
    predictions: list, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    write_predictions(path, (one for one in predictions), 2)
    read = read_predictions(path)
    assert read.n_negatives == 2 and read.has_all_scores
    assert [one.annotation_id for one in read.items] == [5, 2, 9]
    for (_, boxes, scores), one in zip(predictions, read.items, strict=True):
        assert one.boxes.dtype == one.scores.dtype == np.float32
        assert one.boxes.shape == boxes.shape and (one.boxes == boxes).all()
        assert one.scores.tolist() == scores.tolist()
    written = path.read_bytes()
    values = json.loads(gzip.decompress(written) if name.endswith("gz") else written)
    assert values["format"] == "fgclip_det/fg_ovd_predictions" and values["version"] == 1
    assert values["predictions"][2]["annotation_id"] == 9
    assert len(values["predictions"][0]["boxes"][0]) == 4
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_labels_are_written_where_scores_do_not_tell_them(tmp_path: Path) -> None:
    box, path = [0, 0, 5, 5], tmp_path / "out.json"
    tied = [[0.5, 0.5], [0.2, 0.1]]
    write_predictions(path, [(1, [box, box], tied, [1, 0]), (2, [box, box], tied, [0, 0])], 1)
    entries = json.loads(path.read_text())["predictions"]
    assert entries[0]["labels"] == [1, 0] and "labels" not in entries[1]
    write_predictions(path, read_predictions(path).items, 1)
    assert [one.labels.tolist() for one in read_predictions(path).items] == [[1, 0], [0, 0]]
    entries[0]["labels"] = [2, 0]
    values = {**json.loads(path.read_text()), "predictions": entries}
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"out\.json'.*label 2 of annotation 1"):
        read_predictions(path)


def test_a_failed_write_leaves_what_was_there(predictions: list, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    write_predictions(path, predictions, 2)
    before = path.read_bytes()
    broken = (4, [[0, 0, 1, 1]], [[float("nan"), 0, 0]])
    for wrong, message in (
        ([*predictions, broken], "scores of annotation 4 are not all finite"),
        ([*predictions, predictions[0]], "two predictions are for annotation 5"),
        ([(4, [[0, 0, 1, 1]], [[1, 2, 3, 4]])], "have 4 columns, but with n_negatives 2"),
    ):
        with pytest.raises(ValueError, match=message):
            write_predictions(path, wrong, 2)
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["out.json"]
    with pytest.raises(OSError, match=r"out\.json"):
        write_predictions(path / "no folder.json", predictions, 2)
    with pytest.raises(ValueError, match=r"a prediction is tuple: give \(annotation_id, boxes, s"):
        write_predictions(path, [(1, [])], 2)
    write_predictions(path, predictions, np.int64(2))
    assert path.read_bytes() == before


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "annotation_id": 1,
        "boxes": [[0.0, 0.0, 5.0, 5.0]],
        "scores": [[0.5, 0.1]],
        **changes,
    }


def content(*entries: Any, **changes: Any) -> dict[str, Any]:
    head = {"format": "fgclip_det/fg_ovd_predictions", "version": 1, "n_negatives": 1}
    return {**head, "predictions": list(entries), **changes}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "format 'list'"),
        (content(format="coco"), "format 'coco': 'fgclip_det/fg_ovd_predictions' is needed"),
        (content(version=2), "version 2: this is for version 1"),
        (content(n_negatives="1"), "n_negatives is '1'"),
        (content(predictions={}), "no list 'predictions'"),
        (content(3), "number 0 has no 'annotation_id'"),
        (content({"annotation_id": 1, "boxes": []}), "number 0 has no 'scores'"),
        (content(entry(annotation_id=1.0)), "annotation id 1.0: no int"),
        (content(entry(annotation_id=True)), "annotation id True: no int"),
        (content(entry(scores=[[float("nan"), 0.1]])), "NaN, which is no number"),
        (content(entry(scores=[[1e300, 0.1]])), "annotation 1 are not all finite"),
        (content(entry(scores=[[0.5, None]])), "no array of numbers"),
        (content(entry(scores=[[0.5, 0.1, 0.2]])), "have 3 columns, .* there are 2 captions"),
        (content(entry(scores=[[]])), r"shape \(1, 0\) for 1 boxes"),
        (content(entry(boxes=[[9.0, 9.0, 5.0, 5.0]])), "look like x, y, width, height"),
        (content(entry(boxes=[[0.0, 0.0, 5.0]])), r"\(B, 4\) is needed"),
        (content(entry(boxes=0)), "no array of numbers"),
        (content(entry(), entry()), "two predictions are for annotation 1"),
    ],
)
def test_broken_files_are_named(values: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message) as error:
        read_predictions(path)
    assert "broken.json" in str(error.value)


def test_files_that_are_no_json(predictions: list, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    with pytest.raises(ValueError, match=r"out\.json' cannot be read"):
        read_predictions(path)
    write_predictions(path, predictions, 2)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"out\.json' is no complete JSON .*truncated"):
        read_predictions(path)
    path.write_bytes(b"\x80\x04\x95")
    with pytest.raises(ValueError, match=r"out\.json' is no text"):
        read_predictions(path)
    zipped = tmp_path / "out.json.gz"
    write_predictions(zipped, predictions, 2)
    zipped.write_bytes(zipped.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"out\.json\.gz' cannot be read"):
        read_predictions(zipped)
    zipped.write_bytes(b"{}")
    with pytest.raises(ValueError, match=r"out\.json\.gz' cannot be read"):
        read_predictions(zipped)
