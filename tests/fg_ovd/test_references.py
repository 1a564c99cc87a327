"""Oracle, random captions, text alone and the right caption alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fgclip_det.evaluation import evaluate_fg_ovd
from fgclip_det.fg_ovd import references
from fgclip_det.fg_ovd.files import read_fg_ovd
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
    data, validation = make(0, 600), make(1, 600)
    scorer = CaptionScorer(caption_groups(read_fg_ovd(validation)))
    oracle = references.oracle_predictions(data, 5)
    # A detector that finds every box and always says the second caption.
    detector = [(i, boxes, np.roll(scores, 1, axis=1)) for i, boxes, scores in oracle]
    rows = references.reference_rows(data, 5, detector, scorer)
    assert list(rows) == [
        references.ALONE,
        references.ORACLE,
        references.RANDOM,
        references.TEXT_ONLY,
    ]
    assert evaluate_fg_ovd(data, detector, 5)["map"] == 0
    assert rows[references.ALONE]["map"] == rows[references.ORACLE]["map"] == 1
    assert rows[references.ALONE]["n_negatives"] == 0
    # 600 draws: three standard deviations are 0.046.
    assert rows[references.RANDOM]["map"] == pytest.approx(1 / 6, abs=0.046)
    assert rows[references.RANDOM]["ranks"]["mean"] == pytest.approx(3.5, abs=0.21)
    # It never saw these captions, and knows white.
    assert rows[references.TEXT_ONLY]["map"] == pytest.approx(0.8, abs=0.05)
    again = references.reference_rows(data, 5, detector, scorer)
    assert again == rows
    assert references.reference_rows(data, 5, seed=1)[references.RANDOM] != rows[references.RANDOM]
    assert list(references.reference_rows(data, 5)) == [references.ORACLE, references.RANDOM]


def test_boxes_of_one_caption_suppress_each_other_even_for_the_oracle() -> None:
    data = make(0, 2)
    # A second box of caption 0 that covers three quarters of the first.
    twin = {**data["annotations"][0], "id": 9}
    x, y, width, height = twin["bbox"]
    twin["bbox"] = [x, y, width, height * 0.75]
    data["annotations"].append(twin)
    row = references.reference_rows(data, 5)[references.ORACLE]
    # Recall ends at 1/2 for one of two captions: 51 of 101 points.
    assert row["map"] == pytest.approx((1 + 51 / 101) / 2)
    assert row["ranks"]["histogram"] == [3, 0, 0, 0, 0, 0]


def test_annotations_with_too_few_negatives_have_no_box() -> None:
    data = make(0, 4)
    data["annotations"][1]["neg_category_ids"] = data["annotations"][1]["neg_category_ids"][:2]
    oracle = references.oracle_predictions(data, 5)
    assert [one.annotation_id for one in oracle] == [0, 2, 3]
    assert oracle[0].scores.tolist() == [[1, 0, 0, 0, 0, 0]]
    x, y, width, height = data["annotations"][0]["bbox"]
    assert oracle[0].boxes[0].tolist() == pytest.approx([x, y, x + width, y + height])
    assert evaluate_fg_ovd(data, oracle, 5)["map"] == 1
