"""The table of several files, and what is said below it."""

from __future__ import annotations

from typing import Any

from fgclip_det.evaluation.region_accuracy.tables import region_page


def result(**changes: Any) -> dict[str, Any]:
    values = {
        "accuracy": 0.4614,
        "chance": 1 / 11,
        "text_only": None,
        "n": 3545,
        "fewer": 12,
        "undefined": 0,
        "skipped": 3,
        "missing_images": 0,
        "missing_boxes": 0,
        "captions": 900,
        "long_captions": 0,
        "max_tokens": 77,
        "attributes": {"color": {"n": 5, "accuracy": 0.5, "mistaken": 0.25, "chance": 0.75}},
        "confused": [],
        "pairwise": {"black/white": 0.5},
    }
    return {**values, **changes}


def test_one_table_of_all_files() -> None:
    other = result(
        text_only=0.8, missing_images=2, missing_boxes=7, long_captions=4, confused=[
            {"right": "red", "taken_for": "blue", "attribute": "color", "times": 2, "offered": 9}
        ] * 11,
    )  # fmt: skip
    page = region_page({"hard": result(), "easy": other}, "fg-clip-base", "224 x 224 px")
    table = page.split("\n\n")[1].splitlines()
    assert table[0] == "|  | hard | easy |"
    assert table[2:] == [
        "| fg-clip-base | 46.14 | 46.14 |",
        "| text only | - | 80.00 |",
        "| chance | 9.09 | 9.09 |",
        "| boxes | 3545 | 3545 |",
        "| of these with fewer negatives | 12 | 12 |",
        "| of these without a feature, wrong | 0 | 0 |",
        "| left out: too few negatives | 3 | 3 |",
        "| left out: picture missing | 0 | 7 |",
        "| captions cut | 0 | 4 |",
    ]
    assert "224 x 224 px" in page
    assert "easy: 2 pictures are missing; their 7 boxes are left out." in page
    assert "easy: 4 of 900 captions are longer than 77 tokens and were cut." in page
    assert "hard: " not in page
    assert page.count("| color | 5 | 50.00 | 25.00 | 75.00 |") == 2
    assert page.count("| red -> blue |") == 10
    # Attributes of FG-OVD need no words found by swapping.
    assert "black/white" not in page


def test_words_that_are_none_of_fg_ovds() -> None:
    other = {"other": {"n": 5, "accuracy": 0.5, "mistaken": 0.25, "chance": 0.75}}
    page = region_page({"val": result(attributes=other)}, "encoder", "")
    assert "| black/white | 50.00 |" in page
    assert "text only" not in page
