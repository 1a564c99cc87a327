"""The bag of words that guesses captions without a picture."""

import numpy as np
import pytest

from fgclip_det.fg_ovd.files import read_fg_ovd
from fgclip_det.fg_ovd.text_prior import CaptionScorer, caption_groups


def test_word_pairs_are_learned_where_words_say_nothing():
    # Both words are right as often as wrong; only together they tell.
    groups = [
        ["A red car.", "A blue car."],
        ["A blue sky.", "A red sky."],
    ] * 5
    scorer = CaptionScorer(groups)
    assert scorer.accuracy(groups) == 1
    red_car, blue_car, red_sky, blue_sky = scorer.score(
        ["the red car", "the blue car", "a RED sky!", "blue sky"]
    )
    assert red_car > blue_car and blue_sky > red_sky


def test_captions_without_words_are_refused():
    with pytest.raises(ValueError, match="no caption has a word"):
        CaptionScorer([["!", "?"]])


def test_what_tells_nothing_is_a_guess():
    scorer = CaptionScorer([["a b", "a c"], ["a c", "a b"]])
    assert scorer.accuracy([["a b", "a c", "a d", "b"]]) == pytest.approx(1 / 4)
    assert scorer.accuracy([["x y", "z"], ["z", "x"]]) == pytest.approx(1 / 2)
    assert scorer.score(["never seen", ""]).tolist() == [0, 0]
    assert scorer.score([]).shape == (0,)


def test_the_same_groups_give_the_same_scores_and_order_leaks_nothing():
    random = np.random.default_rng(0)
    words = [f"w{i}" for i in range(30)]
    groups = [[" ".join(random.choice(words, 4)) for _ in range(5)] for _ in range(40)]
    scorer, again = CaptionScorer(groups), CaptionScorer(groups)
    texts = [text for group in groups for text in group]
    assert (scorer.score(texts) == again.score(texts)).all()
    assert scorer.accuracy(groups) == 1  # enough word pairs to know each by heart
    others = [[" ".join(random.choice(words, 4)) for _ in range(5)] for _ in range(500)]
    assert scorer.accuracy(others) == pytest.approx(0.2, abs=0.054)


def test_groups_of_a_file():
    names = ["zero", "one", "two", "three"]
    data = {
        "images": [{"id": 0}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "annotations": [
            {"id": i, "image_id": 0, "category_id": c, "neg_category_ids": n, "bbox": [0, 0, 1, 1]}
            for i, (c, n) in enumerate(((3, [1, 2]), (0, []), (3, [0]), (1, [2])))
        ],
    }
    file = read_fg_ovd(data)
    assert caption_groups(file) == [["three", "one", "two"], ["zero"], ["one", "two"]]
    assert caption_groups(file, 1) == [["three", "one"], ["one", "two"]]
    assert caption_groups(file, 2) == [["three", "one", "two"]]


@pytest.mark.parametrize(
    ("groups", "options", "message"),
    [
        ([], {}, "no caption has a negative"),
        ([["a"], ["b"]], {}, "no caption has a negative"),
        ([["a", "b"]], {"steps": 0}, "steps 0"),
        ([["a", "b"]], {"weight_decay": -1.0}, "weight_decay -1.0"),
    ],
)
def test_user_errors(groups, options, message):
    with pytest.raises(ValueError, match=message):
        CaptionScorer(groups, **options)
    with pytest.raises(ValueError, match="no group"):
        CaptionScorer([["a", "b"]]).accuracy([])
