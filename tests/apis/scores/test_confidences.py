"""Confidences of the bundled model: what changes them (nothing), and what is reported."""

from __future__ import annotations

import dataclasses
import warnings

import pytest
import torch

from fgclip_det.apis import Detections, OpenVocabInferencer
from fgclip_det.apis.detections import Closest
from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.apis.scores.competing import Negatives, competition_of
from fgclip_det.calibration import NEVER, Calibration, Threshold
from fgclip_det.vocabulary import Vocabulary
from fgclip_det.vocabulary.attributes import Attributes
from fgclip_det.vocabulary.competition import Competition
from tests.messages import says

PICTURES = sorted((BUNDLED / "images").glob("*.png"))
NAMES = list(Vocabulary.parse(BUNDLED / "vocabulary.json").names)
SHOWN = ["blue dotted star", "cyan striped ring", "green checkered star"]
# Of the version before anything competed by default.
BEFORE = [
    {"a blue dotted star": [0.999999, 0.43258, 0.102297]},
    {"a green ring": [0.974595, 0.633121], "a blue dotted star": [0.116284]},
    {"a green ring": [0.979038], "a blue dotted star": [0.737349, 0.468827, 0.417883]},
]


@pytest.fixture
def detect(calibrated_detector: OpenVocabInferencer) -> OpenVocabInferencer:
    return calibrated_detector


def ask(detect: OpenVocabInferencer, texts, **settings) -> list[Detections]:
    return detect(PICTURES, texts, progress=False, **settings)


def confidences(answers: list[Detections]) -> dict[tuple, float]:
    """Of each picture, name and box."""
    return {
        (place, name, tuple(round(value, 1) for value in box)): confidence
        for place, answer in enumerate(answers)
        for name, box, confidence in zip(
            answer.names, answer.boxes.tolist(), answer.confidences.tolist(), strict=True
        )
    }


def test_texts_of_other_lengths_do_not_even_round_a_confidence(
    detect: OpenVocabInferencer,
) -> None:
    regions = [image.regions for image in detect.propose(PICTURES, progress=False)]

    def features(*texts: str) -> list[torch.Tensor]:
        asked = detect.encode([*texts])
        found = detect.model.evidence(regions, asked, detect.competition.against(asked))
        return [torch.stack([one.features["detector"], one.features["encoder"]]) for one in found]

    asked = ["a blue plain star", "white dotted ring", "a mug with a very long handle, and a lid"]
    detect.competition = competition_of(detect.model)
    together = features(*asked)
    for place, name in enumerate(asked):
        # Nothing is kept of what was encoded together.
        detect.competition = competition_of(detect.model)
        for one, every in zip(features(name), together, strict=True):
            torch.testing.assert_close(one[..., 0], every[..., place], atol=1e-9, rtol=0)


@pytest.mark.parametrize("calibration", [5, {}, b"x"])
def test_what_is_no_calibration_is_refused(detect: OpenVocabInferencer, calibration) -> None:
    with pytest.raises(ValueError, match=says("calibration cannot be", type(calibration).__name__)):
        detect.set_calibration(calibration)


def with_thresholds(detect: OpenVocabInferencer, **thresholds: float) -> Calibration:
    made = {
        name.replace("_", " "): Threshold(value, 0.1, 0.1, "pictures", 100, 3)
        for name, value in thresholds.items()
    }
    return dataclasses.replace(detect.calibration, thresholds=made)


def test_what_is_asked_beside_a_name_changes_nothing(detect: OpenVocabInferencer) -> None:
    asked = ["a star", "a ring", "a cross", "a dotted one", "something odd", *SHOWN]
    known = confidences(ask(detect, [*NAMES, *asked[:5]], conf_thr=0))
    assert len(known) > 10
    others = [
        *([name] for name in asked),
        NAMES[::-1],
        [*asked, "a cat", "something odd", "a red mug with a straw"],
    ]
    seen = 0
    for texts in others:
        found = confidences(ask(detect, texts, conf_thr=0))
        common = [key for key in found if key in known]
        seen += len(common)
        assert all(abs(found[key] - known[key]) <= 1e-6 for key in common)
    assert seen > 15
    # A batch rounds what the network computes otherwise.
    found = confidences(ask(detect, [*asked, *NAMES], conf_thr=0, batch_size=3))
    assert found.keys() == known.keys()
    assert all(abs(found[key] - known[key]) <= 1e-5 for key in known)


@pytest.mark.parametrize("negatives", [None, "a red circle. a blue dotted cross", "a dog"])
def test_negatives_change_no_confidence(detect: OpenVocabInferencer, negatives) -> None:
    known = confidences(ask(detect, SHOWN, conf_thr=0.5))
    assert len(known) == 3
    detect.set_negatives(negatives)
    found = confidences(ask(detect, SHOWN, conf_thr=0.5))
    assert found.keys() == known.keys()
    assert all(abs(found[key] - known[key]) <= 1e-6 for key in known)


def test_negatives_hide_what_they_fit_better(detect: OpenVocabInferencer) -> None:
    known = ask(detect, ["a plus"])[0]
    assert len(known) == 1 and known.confidences[0] > 0.8
    for negatives, left in (("a purple dotted cross", 0), ("a red ring", 1), (None, 1)):
        detect.set_negatives(negatives)
        assert len(ask(detect, ["a plus"])[0]) == left


@pytest.mark.parametrize(
    ("asked", "negatives", "left"),
    [
        ("a cross", "a purple cross", [["yellow"], [], ["cyan"]]),
        ("a cross", "crosses", [["purple", "yellow"], [], ["cyan"]]),  # the same in other words
        ("a cross", "a dotted cross. a cyan cross", [["yellow"], [], []]),
        ("a dotted cross", "a purple cross", [[], [], []]),
        # Who asks for a kind of it means that kind.
        ("a purple cross", "a cross", [["purple"], [], []]),
        ("a purple cross", "a dotted cross", [[], [], []]),
        ("a purple cross", "a yellow cross", [["purple"], [], []]),
        ("a plus", "a purple cross", [[], [], []]),
        ("a cross", "a ring. a star", [["purple", "yellow"], [], ["cyan"]]),
        # Nobody knows of small ones.
        ("a cross", "a small cross", [["purple", "yellow"], [], ["cyan"]]),
    ],
)
def test_what_is_a_kind_of_a_name_is_told_apart(
    detect: OpenVocabInferencer, asked: str, negatives: str, left: list
) -> None:
    places = {"purple": (63, 19), "yellow": (30, 66), "cyan": (5, 66)}
    detect.set_negatives(negatives)
    found = [
        sorted(
            min(places, key=lambda color: abs(x1 - places[color][0]) + abs(y1 - places[color][1]))
            for x1, y1, *_ in answer.boxes.tolist()
        )
        for answer in ask(detect, asked)
    ]
    assert found == left


def test_regions_that_were_kept_have_the_same_confidences(
    detect: OpenVocabInferencer, tmp_path
) -> None:
    expected = ask(detect, SHOWN, conf_thr=0)
    for place, image in enumerate(detect.propose(PICTURES, progress=False)):
        image.save(tmp_path / "x.safetensors")
        kept = detect.load_regions(tmp_path / "x.safetensors")
        for one in (image, kept):
            found = one.classify(SHOWN, conf_thr=0)
            assert found.names == expected[place].names
            torch.testing.assert_close(found.confidences, expected[place].confidences)


def test_what_a_user_sees(detect: OpenVocabInferencer) -> None:
    answers = ask(detect, SHOWN)
    assert [answer.names for answer in answers] == [[name] for name in SHOWN]
    for answer in answers:
        assert answer.confidences.dtype == torch.float32 and answer.confidences[0] > 0.9
        assert answer.conf_thr == detect.calibration.conf_thr and answer.closest == ()
        assert answer.to_dict()["detections"][0]["confidence"] == answer.confidences[0].item()
    many = ask(detect, NAMES, conf_thr=0)
    assert all((answer.confidences.diff() <= 0).all() for answer in many)
    assert any((answer.scores.diff() > 0).any() for answer in many)


@pytest.mark.parametrize("place", range(len(SHOWN)))
def test_names_that_say_less_are_found(detect: OpenVocabInferencer, place: int) -> None:
    color, pattern, shape = SHOWN[place].split()
    shorter = [f"a {shape}", f"{shape}s", f"a {color} {shape}", f"{pattern} {shape}s"]
    for name in (*shorter, f"{color} {pattern} {shape}s"):
        answer = ask(detect, [name])[place]
        assert answer.names[:1] == [name], name


@pytest.mark.parametrize("texts", ["a cat", "a red mug", "a red mug. a dog", "a red striped ring"])
def test_what_is_absent_is_not_found(detect: OpenVocabInferencer, texts: str) -> None:
    for calibration in ("auto", None):
        detect.set_calibration(calibration)
        for answer in ask(detect, texts):
            assert len(answer) == 0 and 0 < len(answer.closest) <= 3
            assert all(isinstance(one, Closest) for one in answer.closest)
            assert {one.name for one in answer.closest} <= {*Vocabulary.parse(texts).names}
            figures = [one.certainty for one in answer.closest]
            assert figures == sorted(figures, reverse=True) and figures[0] < 0.5


def test_what_came_closest_is_like_what_is_there(detect: OpenVocabInferencer) -> None:
    # There is a blue dotted one.
    closest = ask(detect, "a red dotted star")[0].closest
    assert [one.name for one in closest] == ["a red dotted star"]
    assert closest[0].rival.removeprefix("a ") == "blue dotted star"
    told = ask(detect, "a red dotted star")[0].to_dict()
    assert told["closest"] == [dataclasses.asdict(closest[0])]
    # What fits at least as well as anything else has no rival.
    found = ask(detect, "blue dotted star", conf_thr=1)[0]
    assert len(found) == 0 and found.closest[0].rival is None
    assert found.closest[0].certainty > 0.9


def test_all_is_as_before_where_nothing_competes(detect: OpenVocabInferencer) -> None:
    detect.set_negatives(None)
    texts = "a blue dotted star. a green ring"
    detect.set_calibration(None)
    shares = ask(detect, texts, score_thr=0.1)
    for answer, expected in zip(shares, BEFORE, strict=True):
        assert answer.closest == () and answer.confidences is None
        found = sorted(zip(answer.names, answer.scores.tolist(), strict=True), reverse=True)
        for name, scores in expected.items():
            own = [score for other, score in found if other == name]
            assert own[: len(scores)] == pytest.approx(scores, abs=2e-6)
    detect.set_calibration("auto")
    images = detect.propose(PICTURES, progress=False)
    for image, answer in zip(images, ask(detect, texts, conf_thr=0), strict=True):
        # What is reported is chosen by confidence; its score is the share among the two names.
        assert answer.closest == () and (answer.confidences.diff() <= 0).all()
        ready = detect.model._ready(detect.encode(Vocabulary.parse(texts)))
        every = detect.model.region_classifier.score(image.regions, **ready)
        for score, label in zip(answer.scores, answer.labels, strict=True):
            assert (every[:, label] - score).abs().min() <= 1e-6


def test_ones_own_negatives_compete(detect: OpenVocabInferencer) -> None:
    # Of the package's nothing is in the pictures.
    detect._competing = Negatives(Competition(detect.model.encoder, [["dog"]], attributes=None))
    detect.set_calibration(None)
    texts = ["star", "ring"]
    plain = ask(detect, texts, score_thr=0.1)
    own = detect.encode(SHOWN)
    detect._competing = Negatives(detect._competing.competition, own)
    for answer in ask(detect, texts, score_thr=0.0):
        assert {*answer.names} <= {*texts} and answer.vocabulary == texts
    found = ask(detect, texts, score_thr=0.1)
    assert sum(map(len, found)) < sum(map(len, plain))
    rivals = {one.rival for answer in ask(detect, texts, score_thr=1) for one in answer.closest}
    assert rivals & {*SHOWN}


def test_a_name_that_is_asked_for_is_no_negative_of_itself(detect: OpenVocabInferencer) -> None:
    plain = [answer.names for answer in ask(detect, SHOWN)]
    detect.set_negatives([f"a {name}" for name in NAMES])
    assert [answer.names for answer in ask(detect, SHOWN)] == plain


def test_thresholds_of_names(detect: OpenVocabInferencer) -> None:
    strict = with_thresholds(detect, blue_dotted_star=NEVER, cyan_striped_ring=0.01)
    detect.set_calibration(dataclasses.replace(strict, conf_thr=1.0))
    answers = ask(detect, SHOWN)
    assert [answer.names for answer in answers] == [[], ["cyan striped ring"], []]
    # What is asked for holds for all.
    assert [answer.names for answer in ask(detect, SHOWN, conf_thr=0.5)] == [[n] for n in SHOWN]
    # Thresholds of scores hold beside it.
    best = answers[1].scores[0].item()
    assert not len(ask(detect, SHOWN, conf_thr=0.5, score_thr=min(best + 0.001, 1))[1])


def test_thresholds_of_evidence_without_confidences(detect: OpenVocabInferencer) -> None:
    known = ask(detect, SHOWN)
    plain = dataclasses.replace(detect.calibration, is_fitted=False)
    detect.set_calibration(plain)
    for answer, one in zip(ask(detect, SHOWN), known, strict=True):
        assert answer.names == one.names and answer.boxes.equal(one.boxes)
        assert answer.confidences is None and answer.conf_thr is None
        assert answer.to_dict()["detections"][0]["confidence"] is None
    assert all((a.scores.diff() <= 0).all() for a in ask(detect, NAMES, conf_thr=0))
    assert not any(map(len, ask(detect, SHOWN, conf_thr=1)))


def test_contradictions_and_one_name(detect: OpenVocabInferencer) -> None:
    texts = ["blue dotted star", "dotted one", "star or ring"]
    lists = Attributes({}, contradictions=(tuple(texts),))
    competition = Competition(detect.model.encoder, [], attributes=lists)
    detect.set_calibration(None)
    detect._competing = Negatives(Competition(detect.model.encoder, [], attributes=Attributes({})))
    several = ask(detect, texts, score_thr=0.0)[0]
    detect._competing = Negatives(competition)
    one = ask(detect, texts, score_thr=0.0)[0]
    alone = ask(detect, texts, score_thr=0.0, one_name=True)[0]
    assert len(several) > len(one) >= len(alone) > 0


def test_calibrations_that_do_not_fit(detect: OpenVocabInferencer, tmp_path) -> None:
    own = detect.calibration
    for change, words in (
        ({"detector": "0" * 16}, ("detector", "0" * 16, "fgclip-det calibrate")),
        ({"encoder": "0" * 16}, ("encoder", "0" * 16)),
        ({"competition": {**own.competition, "max_cosine": 0.5}}, ("max_cosine", "0.5")),
    ):
        dataclasses.replace(own, **change).save(tmp_path / "c.json")
        with pytest.raises(ValueError, match=says(*words)):
            detect.set_calibration(tmp_path / "c.json")
        assert detect.calibration is own
    with pytest.raises(ValueError, match=says("none.json")):
        detect.set_calibration("none.json")
    with pytest.raises(ValueError, match=says("conf_thr", "not calibrated")):
        detect.set_calibration(None)
        ask(detect, SHOWN, conf_thr=0.5)


def test_no_warnings(detect: OpenVocabInferencer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(detect, [*SHOWN, "a cat"])


def test_an_article_changes_no_confidence_and_scores_are_of_what_was_typed(
    detect: OpenVocabInferencer,
) -> None:
    names = ["blue dotted star", "cyan striped ring", "green checkered star"]
    bare, full = ask(detect, names, conf_thr=0), ask(detect, [f"a {n}" for n in names], conf_thr=0)
    found, same = confidences(bare), confidences(full)
    plain = {(place, name.removeprefix("a "), *rest): v for (place, name, *rest), v in same.items()}
    assert found and {*found} == {*plain}
    assert all(abs(found[key] - plain[key]) < 1e-6 for key in found)
    assert any(
        one.scores.tolist() != other.scores.tolist() for one, other in zip(bare, full, strict=True)
    )
