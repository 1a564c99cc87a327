"""What is told of one inference, of one for each number, and of the best scores alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from fgclip_det.fg_ovd import evaluate_fg_ovd, read_fg_ovd, summarize, sweep_fg_ovd
from fgclip_det.fg_ovd.files import FGOVDFile
from fgclip_det.fg_ovd.predictions import FGOVDPrediction, FGOVDPredictions
from fgclip_det.fg_ovd.references import ALONE, ORACLE, RANDOM, TEXT_ONLY
from fgclip_det.fg_ovd.text_prior import CaptionScorer, read_scorer

# Scores of the right caption and its two negatives: right, second, third.
SCORES = [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.3, 0.1, 0.6]]
COLORS = ("red", "blue", "green")


def ground_truth() -> dict[str, Any]:
    """Three boxes in three images, each with two negatives of other colours."""
    names = [f"a {color} {thing}" for thing in ("cup", "hat", "bag") for color in COLORS]
    return {
        "images": [{"id": i} for i in range(3)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "annotations": [
            {
                "id": i,
                "image_id": i,
                "category_id": 3 * i,
                "neg_category_ids": [3 * i + 1, 3 * i + 2],
                "bbox": [10, 10, 40, 40],
            }
            for i in range(3)
        ],
    }


@pytest.fixture
def file() -> FGOVDFile:
    return read_fg_ovd(ground_truth())


def found(width: int = 3, shift: float = 0) -> tuple[FGOVDPrediction, ...]:
    box = np.array([[10, 10, 50, 50]], np.float32) + np.float32(shift)
    return tuple(
        FGOVDPrediction(i, box, np.array([row[:width]], np.float32)) for i, row in enumerate(SCORES)
    )


def test_one_inference_serves_every_number(file: FGOVDFile) -> None:
    told = summarize(file, FGOVDPredictions(2, found()), 2, sweep=True)
    assert told.result == evaluate_fg_ovd(file, found(), 2) and told.result["map"] > 0
    assert told.sweep == sweep_fg_ovd(file, found(), 2)
    assert list(told.references) == [ALONE, ORACLE, RANDOM]
    assert told.references[ALONE] == told.sweep[0] and told.references[ORACLE]["map"] == 1
    assert told.words["attributes"]["color"]["mistaken"] == pytest.approx(2 / 3)
    assert [(one["right"], one["taken_for"]) for one in told.words["confused"]] == [
        ("red", "blue"),
        ("red", "green"),
    ]


def test_what_was_asked_anew_is_not_cut_from_more(file: FGOVDFile) -> None:
    # Asked for less, this detector finds nothing.
    asked = {0: found(1, shift=500), 1: found(2, shift=500), 2: found()}
    told = summarize(file, asked, 2, sweep=True)
    assert [round(told.sweep[n]["map"], 2) for n in range(3)] == [0, 0, 0.33]
    assert told.references[ALONE]["map"] == 0
    # Without the sweep the numbers between are not needed.
    assert summarize(file, {0: asked[0], 2: asked[2]}, 2).result == told.result
    assert summarize(file, {2: asked[2]}, 2, references=False).result == told.result


def test_best_scores_alone_have_no_ranks(file: FGOVDFile) -> None:
    best = FGOVDPredictions(2, found(), has_all_scores=False)
    told = summarize(file, best, 2, words=False)
    assert told.result["ranks"] is None and list(told.references) == [ORACLE, RANDOM]
    assert told.result["map"] == evaluate_fg_ovd(file, found(), 2)["map"]
    for name in ("sweep", "words"):
        with pytest.raises(ValueError, match=f"{name} needs every caption's score"):
            summarize(file, best, 2, **{"words": False, name: True})


def test_strict_and_the_scorer_are_handed_on(file: FGOVDFile) -> None:
    scorer = CaptionScorer([["a red cup", "a blue cup", "a green cup"]])
    some = FGOVDPredictions(2, found()[:1])
    told = summarize(file, some, 2, strict=True, scorer=scorer)
    assert told.result["map"] == pytest.approx(1 / 3) and told.result["strict"]
    assert told.references[ALONE]["strict"] and told.references[TEXT_ONLY]["map"] == 1
    assert summarize(file, some, 2).result["map"] == 1


def test_values_and_tables_hold_what_was_asked_for(file: FGOVDFile) -> None:
    given = FGOVDPredictions(2, found())
    told = summarize(file, given, 2, sweep=True)
    assert list(told.values) == ["result", "references", "attributes", "confused", "sweep"]
    assert json.loads(json.dumps(told.values))["result"] == told.result
    page = told.page("mine")
    for line in ("| mine | 2 | 33.33 |", f"| {ORACLE} | 2 | 100.00 |", "\n| 0 | 100.00 |"):
        assert line in page
    assert page.endswith("\n\n".join(told.details())) and "| red -> blue | color |" in page
    bare = summarize(file, given, 2, words=False, references=False)
    assert bare.values == {"result": told.result, "references": {}} and bare.details() == []


def test_faults_are_told(file: FGOVDFile) -> None:
    given = FGOVDPredictions(2, found())
    with pytest.raises(ValueError, match="has 3 negatives: use at most 2"):
        summarize(file, given, 3)
    with pytest.raises(ValueError, match="n_negatives is -1"):
        summarize(file, given, -1)


def test_the_scorer_never_reads_what_it_is_to_score(tmp_path) -> None:
    validation, scored = tmp_path / "validation.json", tmp_path / "scored.json"
    for path in (validation, scored):
        path.write_text(json.dumps(ground_truth()), encoding="utf-8")
    scorer = read_scorer(validation, scored)
    assert scorer.score(["a red cup", "a blue cup"]).argmax() == 0
    with pytest.raises(ValueError, match=r"scored\.json' is the file to be scored"):
        read_scorer(tmp_path / "." / "scored.json", scored)
