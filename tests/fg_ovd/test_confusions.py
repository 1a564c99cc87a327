"""Which words are mistaken for which."""

import pytest

from fgclip_det.fg_ovd import tables
from fgclip_det.fg_ovd.confusions import (
    attribute_breakdown,
    confused_words,
    mistakes,
    word_changes,
)
from fgclip_det.fg_ovd.files import read_fg_ovd

GROUPS = [
    ["A light grey plastic pipe.", "A pink plastic pipe.", "A light grey wool pipe."],
    ["A white plastic cup.", "A black plastic cup.", "A white striped cup."],
    ["A white wool hat.", "A black paper hat.", "A dark red wool hat."],
]


@pytest.mark.parametrize(
    ("one", "other", "changes"),
    [
        ("A light grey plastic pipe.", "A dark pink plastic pipe", [("light grey", "dark pink")]),
        ("a light grey pipe", "A pink pipe.", [("light grey", "pink")]),
        ("A light lamp", "A dark lamp", [("light", "dark")]),
        ("An opaque vase", "A transparent vase", [("opaque", "transparent")]),
        ("red cup, red lid", "blue cup, blue lid", [("red", "blue")]),
        ("red metal cup", "blue wood cup", [("red", "blue"), ("metal", "wood")]),
        ("a red cup", "a big red cup", [("", "big")]),
        ("a red old cup", "a blue cup", [("red old", "blue")]),
        ("A cup.", "a cup", []),
    ],
)
def test_changes_are_whole_attributes(one, other, changes):
    assert word_changes(one, other) == changes


def test_breakdown_by_hand():
    found = attribute_breakdown(GROUPS, [1, 0, 1])
    # Colour: all three groups offer it; two are wrong, both in the colour (the last in two ways).
    assert found["color"] == pytest.approx(
        {"n": 3, "accuracy": 1 / 3, "mistaken": 2 / 3, "chance": (1 / 3 + 1 / 3 + 2 / 3) / 3}
    )
    assert found["material"] == pytest.approx(
        {"n": 2, "accuracy": 0, "mistaken": 1 / 2, "chance": 1 / 3}
    )
    # "striped" takes the place of "plastic": the word that is new tells the attribute.
    assert found["pattern"] == pytest.approx(
        {"n": 1, "accuracy": 1, "mistaken": 0, "chance": 1 / 3}
    )
    assert set(found) == {"color", "material", "pattern"}
    # A box that was not found has no choice.
    assert attribute_breakdown(GROUPS, [1, -1, 1])["color"]["n"] == 2
    shapes = {"shape": {"circle", "star"}}
    own = attribute_breakdown([["red circle", "red star", "blue circle"]], [1], shapes)
    assert own["shape"]["mistaken"] == 1 and own["other"]["mistaken"] == 0


def test_confusions_by_hand():
    groups = [GROUPS[0], GROUPS[0], GROUPS[1], GROUPS[2]]
    found = confused_words(groups, [1, 1, 1, 1])
    first = {"right": "light grey", "taken_for": "pink", "attribute": "color"}
    assert found[0] == {**first, "times": 2, "offered": 2}
    rest = [(one["right"], one["taken_for"], one["times"], one["offered"]) for one in found[1:]]
    assert rest == [("wool", "paper", 1, 1), ("white", "black", 1 + 1, 2)] or rest == [
        ("white", "black", 2, 2),
        ("wool", "paper", 1, 1),
    ]
    assert confused_words(groups, [0, 0, -1, 0]) == []
    assert len(confused_words(groups, [1, 1, 1, 1], top=1)) == 1


def test_choices_must_fit():
    with pytest.raises(ValueError, match="3 groups of captions but 2 choices"):
        attribute_breakdown(GROUPS, [0, 0])
    with pytest.raises(ValueError, match="choice 3 of group 1 is none of its 3 captions"):
        confused_words(GROUPS, [0, 3, 0])


def test_mistakes_of_a_detector():
    names = [name for group in GROUPS for name in group]
    data = {
        "images": [{"id": 0}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "annotations": [
            {
                "id": 7 + i,
                "image_id": 0,
                "category_id": 3 * i,
                "neg_category_ids": [3 * i + 1, 3 * i + 2],
                "bbox": [0, 0, 9, 9],
            }
            for i in range(3)
        ],
    }
    choices = {
        7: {"rank": 2, "chosen": 1},
        8: {"rank": 1, "chosen": 0},
        9: {"rank": 3, "chosen": -1},
    }
    found = mistakes(read_fg_ovd(data), choices, 2)
    assert found["attributes"] == attribute_breakdown(GROUPS[:2], [1, 0])
    assert [one["taken_for"] for one in found["confused"]] == ["pink"]
    # With one negative the wool pipe is not asked for.
    assert "material" not in mistakes(read_fg_ovd(data), choices, 1)["attributes"]
    # Another box of the first caption is asked with the negatives of the first one.
    data["annotations"].append({**data["annotations"][0], "id": 1, "neg_category_ids": [2, 1]})
    (again,) = mistakes(read_fg_ovd(data), {1: {"rank": 2, "chosen": 1}}, 2)["confused"]
    assert again["taken_for"] == "pink"


def test_tables():
    page = tables.attribute_table(attribute_breakdown(GROUPS, [1, 0, 1]))
    assert "| color | 3 | 33.33 | 66.67 | 44.44 |" in page
    page = tables.confusion_table(confused_words(GROUPS, [1, 0, 0]))
    assert page.splitlines()[2:] == ["| light grey -> pink | color | 1 | 1 |"]
