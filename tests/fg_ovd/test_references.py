"""Oracle, random captions and text alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fgclip_det.fg_ovd import evaluate_fg_ovd, read_fg_ovd
from fgclip_det.fg_ovd.references import (
    ORACLE,
    RANDOM,
    TEXT_ONLY,
    oracle_predictions,
    reference_rows,
)
from fgclip_det.fg_ovd.text_prior import CaptionScorer, caption_groups

COLORS = ("white", "lilac", "mauve", "khaki", "azure", "ochre")
THINGS = ("plate", "chair", "lamp", "spoon", "sofa", "vase", "desk", "drum")


def make(seed: int, number: int, n_negatives: int = 5) -> dict[str, Any]:
    """Captions in which white is frequent, against negatives of all colours alike."""
    random = np.random.default_rng(seed)
    annotations, categories = [], []
    for index in range(number):
        color = "white" if random.random() < 0.8 else random.choice(COLORS[1:])
        others = [other for other in COLORS if other != color]
        thing = random.choice(THINGS)
        first = len(categories)
        categories += [
            {"id": first + i, "name": f"A {word} {thing}."}
            for i, word in enumerate((color, *others))
        ]
        corner = (random.random(2) * 100).round(2).tolist()
        annotations.append(
            {
                "id": index,
                "image_id": index // 2,
                "category_id": first,
                "neg_category_ids": list(range(first + 1, first + 1 + n_negatives)),
                "bbox": [*corner, 40.5, 50.25],
            }
        )
    images = [{"id": i} for i in range(number // 2 + 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def test_rows_are_what_they_claim_to_be() -> None:
    file, validation = read_fg_ovd(make(0, 600)), read_fg_ovd(make(1, 600))
    scorer = CaptionScorer(caption_groups(validation))
    rows = reference_rows(file, 5, scorer)
    assert list(rows) == [ORACLE, RANDOM, TEXT_ONLY]
    assert rows[ORACLE]["map"] == 1
    # 600 draws: three standard deviations are 0.046.
    assert rows[RANDOM]["map"] == pytest.approx(1 / 6, abs=0.046)
    assert rows[RANDOM]["ranks"]["mean"] == pytest.approx(3.5, abs=0.21)
    # It never saw these captions, and knows white.
    assert rows[TEXT_ONLY]["map"] == pytest.approx(0.8, abs=0.05)
    assert reference_rows(file, 5, scorer) == rows
    assert reference_rows(file, 5, seed=1)[RANDOM] != rows[RANDOM]
    assert list(reference_rows(file, 5)) == [ORACLE, RANDOM]


def test_boxes_of_one_caption_suppress_each_other_even_for_the_oracle() -> None:
    data = make(0, 2)
    # A second box of caption 0 that covers three quarters of the first.
    twin = {**data["annotations"][0], "id": 9}
    x, y, width, height = twin["bbox"]
    twin["bbox"] = [x, y, width, height * 0.75]
    data["annotations"].append(twin)
    row = reference_rows(read_fg_ovd(data), 5)[ORACLE]
    # Recall ends at 1/2 for one of two captions: 51 of 101 points.
    assert row["map"] == pytest.approx((1 + 51 / 101) / 2)
    assert row["ranks"]["histogram"] == [3, 0, 0, 0, 0, 0]


def test_annotations_with_too_few_negatives_have_no_box() -> None:
    data = make(0, 4)
    data["annotations"][1]["neg_category_ids"] = data["annotations"][1]["neg_category_ids"][:2]
    oracle = oracle_predictions(read_fg_ovd(data), 5)
    assert [one.annotation_id for one in oracle] == [0, 2, 3]
    assert oracle[0].scores.tolist() == [[1, 0, 0, 0, 0, 0]]
    x, y, width, height = data["annotations"][0]["bbox"]
    assert oracle[0].boxes[0].tolist() == pytest.approx([x, y, x + width, y + height])
    assert evaluate_fg_ovd(data, oracle, 5)["map"] == 1
