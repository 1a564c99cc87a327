"""The table of parity with FG-OVD's official evaluator tells equal from different."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One picture with one box that is found, and what an evaluator says of it."""
    names = ("a red mug", "a blue mug")
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "neg_category_ids": [2]}
    content = {
        "images": [{"id": 1, "file_name": "val2017/1.jpg", "height": 200, "width": 200}],
        "annotations": [{**annotation, "bbox": [10, 10, 50, 50], "area": 2500}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, start=1)],
    }
    (tmp_path / "one.json").write_text(json.dumps(content))
    np.savez(
        tmp_path / "one_predictions.npz",
        ann_id=np.array([1]),
        boxes=np.array([[[10, 10, 60, 60]]], np.float32),
        scores=np.array([[[0.9, 0.1]]], np.float32),
    )
    scores = dict.fromkeys(("map", "map_50", "map_75", "map_medium"), 1.0)
    scores |= dict.fromkeys(("map_small", "map_large"), -1.0)
    scores |= dict.fromkeys(("mar_1", "mar_10", "mar_100"), 1.0)
    ranks = {"median_rank_official": 1, "mean_rank": 1.0, "n": 1, "hist": [1, 0]}
    expected = {"n_negatives": 1, "vocabularies": 1, "n_images": 1, "ranks": ranks, **scores}
    (tmp_path / "one_expected.json").write_text(json.dumps(expected))
    return tmp_path


def test_equal_values_and_a_page(
    benchmark: ModuleType, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    out = folder / "parity.md"
    assert benchmark.main([str(folder), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "| one, map | 1.0000000 | 1.0000000 | 0e+00 |" in printed
    assert "| one, hist | [1 0] | [1 0] | none |" in printed
    assert printed.strip() in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "row"),
    [
        ({"map_50": 0.9999}, "| one, map_50 | 0.9999000 | 1.0000000 | 1e-04 |"),
        ({"vocabularies": 2}, "| one, vocabularies | 2 | 1 | DIFFERENT |"),
    ],
)
def test_a_difference_is_an_error(
    benchmark: ModuleType,
    folder: Path,
    change: dict,
    row: str,
    capsys: pytest.CaptureFixture,
) -> None:
    path = folder / "one_expected.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert benchmark.main([str(folder)]) == 1
    assert row in capsys.readouterr().out


def test_a_folder_without_references(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert benchmark.main([str(tmp_path)]) == 2
    assert "has no *_expected.json: check the folder" in capsys.readouterr().err
