"""Pickles of the official scripts give the official numbers; hostile ones do nothing."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fgclip_det.fg_ovd import evaluate_fg_ovd, read_fg_ovd
from fgclip_det.fg_ovd.files import FGOVDFile
from fgclip_det.fg_ovd.official_pickle import read_official_predictions
from fgclip_det.io import read_pickle


@pytest.fixture
def file() -> FGOVDFile:
    """Two captions with three negatives each, whose ids are no places."""
    annotations = [
        {
            "id": 3 + image,
            "image_id": image,
            "category_id": 10 * image + 10,
            "neg_category_ids": [10 * image + i for i in (13, 12, 11)],
            "bbox": [10.0, 10.0, 40.0, 40.0],
        }
        for image in (0, 1)
    ]
    categories = [{"id": i, "name": str(i)} for i in range(30)]
    images = [{"id": 0}, {"id": 1}]
    return read_fg_ovd({"images": images, "annotations": annotations, "categories": categories})


@pytest.fixture
def entries(file: FGOVDFile) -> list[dict[str, Any]]:
    """What a script pickles with two negatives, some of it as numpy and some as lists."""
    random = np.random.default_rng(0)
    found = []
    for one in file.annotations:
        start = random.random((6, 2)) * 20
        boxes = np.concatenate([start, start + 40], axis=1).astype(np.float32)
        total = random.random((6, 3)).astype(np.float32)
        captions = np.array([one["category_id"], *one["neg_category_ids"][:2]])
        found.append(
            {
                "category_id": one["category_id"],
                "image_filepath": "val2017/0.jpg",
                "vocabulary": captions.tolist(),
                "boxes": list(boxes) if one["id"] == 3 else boxes.tolist(),
                "labels": captions[total.argmax(axis=1)],
                "scores": list(total.max(axis=1)),
                "total_scores": total if one["id"] == 3 else total.tolist(),
            }
        )
    return found


def write(tmp_path: Path, value: Any, protocol: int = pickle.HIGHEST_PROTOCOL) -> Path:
    path = tmp_path / "predictions.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_of_pickle_reads_back(
    file: FGOVDFile, entries: list, tmp_path: Path, protocol: int
) -> None:
    read = read_official_predictions(write(tmp_path, entries, protocol), file)
    assert read.n_negatives == 2 and read.has_all_scores
    assert [one.annotation_id for one in read.items] == [3, 4]
    for entry, one in zip(entries, read.items, strict=True):
        assert type(one.boxes) is np.ndarray
        assert (one.boxes == np.array(entry["boxes"], np.float32)).all()
        assert (one.scores == np.array(entry["total_scores"], np.float32)).all()


def test_plain_values_of_all_kinds(tmp_path: Path) -> None:
    values = {
        "text": "a", "int": 1 << 70, "float": 0.5, "none": None, "bytes": b"ab", "yes": True,
        "tuple": (1, [2.0, "b"]), "scalar": np.float32(0.25), "empty": np.zeros((0, 4)),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)), "big": np.arange(3, dtype=">i4"),
        "words": np.array(["a", "bc"]),
    }  # fmt: skip
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        read = read_pickle(write(tmp_path, values, protocol))
        for key, value in values.items():
            if isinstance(value, np.ndarray):
                # Up to protocol 4 numpy itself gives back the machine's own byte order.
                assert read[key].dtype.newbyteorder("=") == value.dtype.newbyteorder("=")
                assert type(read[key]) is np.ndarray
                assert (read[key] == value).all() and read[key].shape == value.shape
            else:
                assert read[key] == value and type(read[key]) is type(value)


def best_only(entries: list) -> list:
    """What the scripts that keep no scores of other captions pickle: their mAP is the official."""
    return [{k: v for k, v in one.items() if k != "total_scores"} for one in entries]


def precision(file: FGOVDFile, found: Any) -> dict[str, Any]:
    values = evaluate_fg_ovd(file, found.items, 2, with_ranks=False)
    return {k: v for k, v in values.items() if k.startswith("ma")}


@pytest.mark.parametrize("column", [0, 1, 2])
def test_of_equal_scores_the_label_counts(
    file: FGOVDFile, entries: list, tmp_path: Path, column: int
) -> None:
    # All scores of a box are equal: the first of them, which is right, must not be taken for it.
    for entry in entries:
        best = np.random.default_rng(column).random(6).astype(np.float32)
        entry["total_scores"] = np.repeat(best[:, None], 3, axis=1)
        entry["scores"], entry["labels"] = best, np.full(6, entry["vocabulary"][column])
    entries[1]["labels"][:3] = entries[1]["vocabulary"][0]
    full = read_official_predictions(write(tmp_path, entries), file)
    assert full.has_all_scores
    assert full.items[0].labels.tolist() == [column] * 6
    assert full.items[1].labels.tolist() == [0] * 3 + [column] * 3
    official = precision(
        file, read_official_predictions(write(tmp_path, best_only(entries)), file, 2)
    )
    assert precision(file, full) == official
    flattered = evaluate_fg_ovd(file, [one[:3] for one in full.items], 2)["map"]
    assert flattered > official["map"] or column == 0
    result = evaluate_fg_ovd(file, full.items, 2, with_choices=True)
    assert result["ranks"]["histogram"] == [0, 0, 2]  # by the scores, whatever the label
    assert result["choices"][3]["chosen"] == column


def test_a_label_far_below_the_best_score_counts_with_its_own(
    file: FGOVDFile, entries: list, tmp_path: Path
) -> None:
    for entry in entries:
        columns = np.argsort(entry["total_scores"], axis=1)[:, 0]
        entry["labels"] = np.array(entry["vocabulary"])[columns]
        entry["scores"] = np.array(entry["total_scores"])[np.arange(6), columns]
    full = read_official_predictions(write(tmp_path, entries), file)
    assert full.has_all_scores
    official = read_official_predictions(write(tmp_path, best_only(entries)), file, 2)
    assert precision(file, full) == precision(file, official)


def test_a_caption_that_is_its_own_negative(file: FGOVDFile, entries: list, tmp_path: Path) -> None:
    file.annotations[0]["neg_category_ids"][0] = 10
    entries[0]["labels"] = np.full(6, 10)
    total = np.array(entries[0]["total_scores"])
    entries[0]["scores"] = total[:, 1]
    full = read_official_predictions(write(tmp_path, entries), file)
    assert full.items[0].labels.tolist() == [1] * 6
    official = read_official_predictions(write(tmp_path, best_only(entries)), file, 2)
    assert precision(file, full) == precision(file, official)


def test_best_scores_give_the_precision_but_no_ranks(
    file: FGOVDFile, entries: list, tmp_path: Path
) -> None:
    full = read_official_predictions(write(tmp_path, entries), file)
    expected = evaluate_fg_ovd(file, full.items, 2)
    for entry in entries:
        del entry["total_scores"]
    path = write(tmp_path, entries)
    with pytest.raises(ValueError, match="best caption's score only: set --n-negatives"):
        read_official_predictions(path, file)
    best = read_official_predictions(path, file, 2)
    assert not best.has_all_scores and best.n_negatives == 2
    found = evaluate_fg_ovd(file, best.items, 2, with_ranks=False)
    assert 0 < found["map"] < 1
    assert {k: v for k, v in found.items() if k != "ranks"} == {
        k: v for k, v in expected.items() if k != "ranks"
    }


def test_best_scores_of_any_size_keep_their_label(
    file: FGOVDFile, entries: list, tmp_path: Path
) -> None:
    for entry, size in zip(entries, (1e9, -1e9), strict=True):
        del entry["total_scores"]
        captions = [entry["category_id"], entry["category_id"] + 3, entry["category_id"] + 2]
        entry["labels"] = captions[1:2] * 6
        entry["scores"] = [size] * 6
    best = read_official_predictions(write(tmp_path, entries), file, 2)
    assert all((one.scores.argmax(axis=1) == 1).all() for one in best.items)


def test_labels_that_do_not_follow_from_all_scores_win(
    file: FGOVDFile, entries: list, tmp_path: Path
) -> None:
    entries[0]["labels"] = np.array([13, 12, 10, 10, 12, 13])
    best = read_official_predictions(write(tmp_path, entries), file, 2)
    assert not best.has_all_scores
    assert best.items[0].scores.argmax(axis=1).tolist() == [1, 2, 0, 0, 2, 1]
    assert (best.items[0].scores.max(axis=1) == np.array(entries[0]["scores"])).all()
    entries[0]["labels"][0] = 11
    with pytest.raises(ValueError, match="label 11 is no caption of annotation 3 with its first 2"):
        read_official_predictions(write(tmp_path, entries), file, 2)


NOTHING = [
    {"boxes": [], "labels": [], "scores": []},
    {"boxes": [], "labels": [], "scores": [], "total_scores": None},
    {"boxes": np.zeros((0, 4)), "labels": np.zeros(0), "scores": np.zeros(0), "total_scores": []},
]


@pytest.mark.parametrize("nothing", NOTHING)
def test_a_detector_that_finds_nothing(
    file: FGOVDFile, entries: list, tmp_path: Path, nothing: dict[str, Any]
) -> None:
    found_nothing = {"category_id": entries[1]["category_id"], **nothing}
    full = read_official_predictions(write(tmp_path, [entries[0], found_nothing]), file)
    assert full.has_all_scores and full.n_negatives == 2
    assert [len(one.boxes) for one in full.items] == [6, 0]
    coverage = evaluate_fg_ovd(file, full.items, 2)["coverage"]
    assert coverage["evaluated"] == 2
    del entries[0]["total_scores"]
    best = read_official_predictions(write(tmp_path, [entries[0], found_nothing]), file, 2)
    assert not best.has_all_scores and [len(one.boxes) for one in best.items] == [6, 0]
    expected = evaluate_fg_ovd(file, full.items, 2)["map"]
    assert evaluate_fg_ovd(file, best.items, 2, with_ranks=False)["map"] == expected


def test_a_column_of_background_is_dropped(file: FGOVDFile, entries: list, tmp_path: Path) -> None:
    for entry in entries:
        total = np.zeros((6, 5), np.float32)
        total[:, :3], total[:, 4] = entry["total_scores"], 2.0
        entry["total_scores"] = total
    read = read_official_predictions(write(tmp_path, entries), file)
    assert read.n_negatives == 3 and read.items[0].scores.shape == (6, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: {"a": e}, "holds dict, not a list"),
        (lambda e: [*e, 3], "number 2 has no 'category_id'"),
        (lambda e: [{**e[0], "category_id": 11}], "category 11 is no caption of an annotation"),
        (lambda e: [{**e[0], "category_id": "10"}], "category '10' is no caption"),
        (lambda e: [{**e[0], "category_id": True}], "category True is no caption"),
        (lambda e: [{**e[0], "scores": [np.nan] * 6}], "scores of annotation 3 are not all finite"),
        (lambda e: [{k: v for k, v in e[0].items() if k != "boxes"}], "number 0 has no 'boxes'"),
        (lambda e: [{**e[0], "boxes": [[40, 40, 5, 5]] * 6}], "look like x, y, width, height"),
        (lambda e: [{**e[0], "total_scores": np.full((6, 3), np.nan)}], "not all finite"),
        (lambda e: [{**e[0], "labels": [10], "total_scores": None}], r"shape \(1,\)"),
        (
            lambda e: [{**e[0], "scores": 0.5, "total_scores": None}],
            r"pkl'.*scores of the shape \(\)",
        ),
        (lambda e: [{**e[0], "scores": None, "total_scores": None}], "scores of annotation 3"),
        (lambda e: [{**e[0], "scores": {}, "total_scores": None}], "scores of annotation 3"),
        (lambda e: [{**e[0], "scores": ["x"] * 6}], "scores of annotation 3"),
        (lambda e: [{**e[0], "labels": [[1], [1, 2]]}], "labels of annotation 3 are no array"),
        (lambda e: [{**e[0], "labels": ["10"] * 6}], "labels of annotation 3 are no array"),
    ],
)
def test_malformed_entries_are_named(
    file: FGOVDFile, entries: list, tmp_path: Path, change: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_official_predictions(write(tmp_path, change(entries)), file, 2)


class Hostile:
    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple:
        return self.call


def hostile_pickles(mark: Path) -> dict[str, bytes]:
    """Programs that would make the file `mark`, or get at what could."""
    command = f"touch {mark}"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    objects = b"(I1\n(I1\ntcnumpy\ndtype\n(S'O'\nI0\nI1\ntR" + b"I00\nS'12345678'\ntb."
    return {
        "system": pickle.dumps([Hostile(os.system, command)]),
        "system, oldest": pickle.dumps(Hostile(os.system, command), 0),
        "eval": pickle.dumps({"boxes": Hostile(eval, f"open({str(mark)!r}, 'w')")}),
        "getattr": b"cbuiltins\ngetattr\n(cos\nS'system'\ntR.",
        "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.",
        "persistent id": b"\x80\x02X\x01\x00\x00\x00aQ.",
        "object array": array + objects,
        "change of a class": b"cnumpy\nndarray\n(N(dS'__new__'\nI1\nstb.",
        "instance": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
    }


@pytest.mark.parametrize("name", hostile_pickles(Path("mark")))
def test_a_hostile_pickle_does_not_run(name: str, tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "hostile.pkl"
    path.write_bytes(hostile_pickles(mark)[name])
    with pytest.raises(ValueError, match=r"hostile\.pkl' is refused: "):
        read_pickle(path)
    assert not mark.exists()
    # Nor does it spoil the reader for the next file.
    assert read_pickle(write(tmp_path, [np.arange(3)]))[0].tolist() == [0, 1, 2]


def test_what_is_no_plain_pickle_is_refused(tmp_path: Path) -> None:
    tensor = tmp_path / "tensor.pkl"
    tensor.write_bytes(b"(ctorch._utils\n_rebuild_tensor_v2\n(tRl.")
    with pytest.raises(ValueError, match=r"would run 'torch\._utils\._rebuild_tensor_v2', .*lists"):
        read_pickle(tensor)
    with pytest.raises(ValueError, match="is refused"):
        read_pickle(write(tmp_path, np.array([None, 1], dtype=object)))
    path = write(tmp_path, list(range(1000)))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"predictions\.pkl' is refused"):
        read_pickle(path)
    with pytest.raises(ValueError, match=r"none\.pkl' cannot be read"):
        read_pickle(tmp_path / "none.pkl")
