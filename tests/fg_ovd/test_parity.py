"""`evaluate_fg_ovd` against the official answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fgclip_det.fg_ovd import evaluate_fg_ovd, sweep_fg_ovd

TESTS = Path(__file__).resolve().parents[1]
NAMES = ("easy_first200_n10", "easy_first200_n5", "transparency_n2")
KEYS = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")
KEYS += ("mar_1", "mar_10", "mar_100")


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
        for key in KEYS:
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
