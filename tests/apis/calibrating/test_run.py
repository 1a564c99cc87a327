"""Calibrations of a made-up source: which boxes count, halves, and bounds that hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fgclip_det.apis.calibrating.evidence import Evidence, Found, best_of_each
from fgclip_det.apis.calibrating.run import Calibrator, calibrate, halves
from fgclip_det.apis.calibrating.truth import KnownPicture
from fgclip_det.calibration import NEVER, Calibration, Goal
from fgclip_det.io import write_image
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary

NAMES = ("mug", "cup")
BOX = [10.0, 10.0, 20.0, 20.0]
FAR = [50.0, 50.0, 60.0, 60.0]


def texts(names: tuple[str, ...] = NAMES) -> TextEmbeddings:
    vocabulary = Vocabulary(names, tuple((name,) for name in names))
    return TextEmbeddings(vocabulary, torch.eye(len(names), 8), "e")


class Made:
    """A detector and a source whose pictures tell the evidence: (K, C) log-odds of boxes."""

    detector, encoder, competition, iou_threshold = "d", "e", {"bank": "b"}, 0.5

    def __init__(self, evidence_of: Callable[[str], Evidence]) -> None:
        self.evidence_of = evidence_of
        self.seen: list[str] = []

    def propose(self, pictures: list[Any], batch_size: int, progress: bool) -> list[Any]:
        self.seen += pictures
        return [SimpleNamespace(path=path) for path in pictures]

    def evidence(self, image: Any, _: TextEmbeddings) -> Evidence:
        return self.evidence_of(image.path)

    def found(self, image: Any, _: TextEmbeddings, calibration: Calibration) -> Found:
        evidence = self.evidence_of(image.path)
        kept, _ = best_of_each(evidence, calibration, self.iou_threshold)
        return kept


def one_box(logits: list[list[float]], boxes: list[list[float]]) -> Evidence:
    table = torch.tensor(logits)
    features = {"x": table, "objectness": torch.zeros(len(boxes), 1)}
    return Evidence(torch.tensor(boxes), features, torch.zeros_like(table, dtype=torch.bool))


def calibrator(made: Made, conf_thr: float | None = 0.0, **options: Any) -> Calibrator:
    return Calibrator(made, made, texts(), conf_thr=conf_thr, progress=False, **options)


def law(path: str) -> Evidence:
    """A right box of the first name and a wrong one of each, their log-odds by the picture."""
    rng = np.random.default_rng(int(path))
    return one_box([[rng.normal(2, 2), -9.0], rng.normal(-2, 2, 2).tolist()], [BOX, FAR])


def pictures(count: int) -> list[KnownPicture]:
    return [
        KnownPicture(str(place), boxes={0: np.array([BOX], np.float32)}) for place in range(count)
    ]


def test_halves_are_all_pictures_once() -> None:
    for count in (0, 1, 2, 9):
        first, second = halves(count, 3)
        assert sorted([*first, *second]) == [*range(count)]
        assert len(second) - len(first) == count % 2
    assert not np.array_equal(halves(100, 0)[0], halves(100, 1)[0])


def test_a_curve_of_one_half_and_thresholds_of_the_other() -> None:
    made = Made(law)
    goal = Goal(0.2, 0.1)
    found = calibrate(calibrator(made, features=["x"]), pictures(1200), goal, seed=5)
    first, second = halves(1200, 5)
    assert made.seen == [str(place) for place in (*first, *second)]
    assert found.is_fitted and found.features == ("x",)
    assert (found.detector, found.encoder, found.competition) == ("d", "e", {"bank": "b"})
    # Right and wrong are normal with means 2 and -2 and a variance of 4: the log-odds are x. The
    # second name's boxes of the same picture are all wrong, and move the bias.
    assert found.confidence({"x": np.array([9.0])})[0] > 0.95
    assert found.confidence({"x": np.array([-9.0])})[0] < 0.02
    assert found.about["curve"]["pictures"] == found.thresholds["mug"].pictures == 600
    assert found.about["curve"]["right"] == 600
    for name, one in found.thresholds.items():
        assert (one.on, one.risk, one.delta, one.kind) == ("confidence", 0.2, 0.05, "pictures")
        assert one.words == texts().vocabulary.subset([name]).hash
        # False alarms have log-odds of mean -2: one in five is above -2 + 0.84 * 2.
        at = found.confidence({"x": np.array([-0.32])})[0]
        assert at < one.value < found.confidence({"x": np.array([1.0])})[0]


def test_knots_only_where_enough_is_right_and_wrong() -> None:
    many = calibrator(Made(law), features=["x"]).fitted(pictures(900))
    few = calibrator(Made(law), features=["x"]).fitted(pictures(90))
    assert many.knots and not few.knots
    assert few.is_fitted and not few.thresholds


def test_absent_things_bound_evidence_alone() -> None:
    absent = [KnownPicture(str(place)) for place in range(60)]

    def alarms(path: str) -> Evidence:
        return one_box([[5.0 if int(path) < 2 else -5.0, -3.0]], [BOX])

    found = calibrate(calibrator(Made(alarms)), absent, Goal(0.1, 0.2), with_curve=False)
    assert not found.is_fitted and found.features == ("x", "objectness")
    assert found.weights == (0.5, 0.5)
    # Two pictures of sixty may have an alarm at delta 0.1; the third needs 0.14.
    mug, cup = found.thresholds["mug"], found.thresholds["cup"]
    assert mug.alarms == 2 and mug.on == "evidence"
    assert mug.value == pytest.approx(1 / (1 + math.exp(2.5)), abs=2e-3)
    assert mug.value > 1 / (1 + math.exp(2.5))
    assert cup.value == pytest.approx(1 / (1 + math.exp(1.5)), abs=5e-3)


def test_alarms_are_counted_up_to_the_clip() -> None:
    boxes = [[20.0 * k, 0.0, 20.0 * k + 10, 10.0] for k in range(9)]
    absent = [KnownPicture(str(place)) for place in range(200)]

    def alarms(path: str) -> Evidence:
        return one_box([[4.0 if int(path) < 20 else -9.0, -20.0]] * 9, boxes)

    goal = Goal(0.9, 0.2, "alarms", 5)
    found = calibrate(calibrator(Made(alarms), features=["x"]), absent, goal, with_curve=False)
    # Twenty pictures of nine alarms each count five of them.
    assert found.thresholds["mug"].alarms == 100
    assert found.thresholds["mug"].value > 1 / (1 + math.exp(9))
    assert found.thresholds["cup"].alarms == 0


def test_more_names_join_a_calibration() -> None:
    made = Made(law)
    first = calibrate(calibrator(made, features=["x"]), pictures(400), Goal(0.3, 0.2))
    first = replace(first, thresholds={"plate": first.thresholds["mug"]})
    more = calibrate(calibrator(made), pictures(80), Goal(0.3, 0.2), first)
    assert [*more.thresholds] == ["plate", "mug", "cup"]
    assert (more.weights, more.bias, more.knots) == (first.weights, first.bias, first.knots)
    assert more.thresholds["mug"].pictures == 80
    assert more.about["curve"] == first.about["curve"]
    made.competition = {"bank": "other"}
    with pytest.raises(ValueError, match="bank 'b', not 'other'"):
        calibrate(calibrator(made), pictures(80), Goal(0.3, 0.2), first)


def test_no_threshold_is_below_that_of_other_names() -> None:
    absent = [KnownPicture(str(place)) for place in range(60)]
    quiet = Made(lambda _: one_box([[-5.0, -5.0]], [BOX]))
    goal = Goal(0.1, 0.2)
    for given, least in ((None, 0.5), (0.25, 0.25)):
        found = calibrate(calibrator(quiet, conf_thr=given), absent, goal, with_curve=False)
        assert found.conf_thr == found.thresholds["mug"].value == least
    more = calibrate(calibrator(quiet, conf_thr=None), absent, goal, found)
    assert more.conf_thr == more.thresholds["mug"].value == 0.25
    fitted = calibrate(calibrator(Made(law), conf_thr=0.75), pictures(200), None)
    assert fitted.conf_thr == 0.75


def test_too_few_pictures_are_refused_before_the_first_is_seen() -> None:
    made = Made(law)
    with pytest.raises(ValueError, match=r"28 pictures cannot.*2 name.*29 are needed"):
        calibrate(calibrator(made), pictures(56), Goal(0.1, 0.1))
    with pytest.raises(ValueError, match=r"29 are needed"):
        calibrate(calibrator(made), pictures(28), Goal(0.1, 0.1), with_curve=False)
    assert made.seen == []
    with pytest.raises(ValueError, match="--risk"):
        calibrate(calibrator(made), pictures(28), None, with_curve=False)
    with pytest.raises(ValueError, match="no pictures"):
        calibrate(calibrator(made), [], None)


def test_features_that_are_not_there() -> None:
    with pytest.raises(ValueError, match=r"no feature 'y': it has x, objectness"):
        calibrate(calibrator(Made(law), features=["y"]), pictures(9), None)


def test_nothing_right_is_said() -> None:
    wrong = [KnownPicture(str(place)) for place in range(9)]
    with pytest.raises(ValueError, match=r"0 right and .* wrong"):
        calibrate(calibrator(Made(law)), wrong, None)


def test_pictures_without_regions_and_alarms_in_all() -> None:
    def empty(_: str) -> Evidence:
        table = torch.zeros(0, 2)
        features = {"x": table, "objectness": torch.zeros(0, 1)}
        return Evidence(torch.zeros(0, 4), features, table.bool())

    absent = [KnownPicture(str(place)) for place in range(40)]
    found = calibrate(calibrator(Made(empty)), absent, Goal(0.1, 0.1), with_curve=False)
    assert found.thresholds["mug"].value < 1e-5
    loud = Made(lambda _: one_box([[99.0, 99.0]], [BOX]))
    found = calibrate(calibrator(loud, features=["x"]), absent, Goal(0.1, 0.1), with_curve=False)
    assert found.thresholds["mug"].value == NEVER


def test_nan_is_said() -> None:
    made = Made(lambda _: one_box([[math.nan, 0.0]], [BOX]))
    with pytest.raises(ValueError, match="'x' holds NaN"):
        calibrate(calibrator(made), pictures(60), Goal(0.1, 0.1), with_curve=False)


def test_the_best_of_a_name_suppress_its_others_alone() -> None:
    near = [10.0, 10.0, 20.0, 21.0]
    evidence = one_box([[1.0, 3.0], [2.0, 0.0], [0.5, 0.0]], [BOX, near, FAR])
    plain = Calibration("d", "e", {}, ("x", "objectness"), (1.0, 1.0), is_fitted=False)
    kept, features = best_of_each(evidence, plain, 0.5)
    assert kept.labels.tolist() == [1, 0, 0, 1]
    assert kept.boxes.tolist() == [BOX, near, FAR, FAR]
    assert features.tolist() == [[3.0, 0.0], [2.0, 0.0], [0.5, 0.0], [0.0, 0.0]]


def test_a_curve_sees_the_best_boxes_of_a_name_and_of_a_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    boxes = [[20.0 * k, 0.0, 20.0 * k + 10, 10.0] for k in range(50)]
    table = [[3.0 - 0.01 * k, 1.0 - 0.01 * k] for k in range(50)]
    known = [KnownPicture("0", boxes={0: np.array(boxes[:10], np.float32)})]

    def fitted() -> dict[str, Any]:
        made = Made(lambda _: one_box(table, boxes))
        return calibrate(calibrator(made, features=["x"]), known, None).about["curve"]

    assert (fitted()["boxes"], fitted()["right"]) == (40, 10)
    monkeypatch.setattr("fgclip_det.apis.calibrating.run._MOST_OF_A_PICTURE", 60)
    # Fifty of the first name come first, of which twenty count.
    assert (fitted()["boxes"], fitted()["right"]) == (30, 10)


def test_a_curve_of_a_few_right_boxes_is_told_of(recwarn: pytest.WarningsRecorder) -> None:
    made = calibrator(Made(law), features=["x"])
    made.fitted(pictures(20))
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"fitted to 19 right box\(es\)"):
        made.fitted(pictures(19))


def test_pictures_of_another_size_than_their_truth(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_image(path, Image.new("RGB", (16, 8)))
    made = Made(lambda _: one_box([[1.0, 1.0]], [BOX]))
    for size, told in (((16, 9), "16 x 8 pixels"), ((8, 16), "is stored with 16 x 8")):
        with pytest.raises(ValueError, match=told):
            calibrate(calibrator(made), [KnownPicture(str(path), size)], None)


def test_a_prior_says_how_often_things_will_be_there() -> None:
    """In every picture is a mug and in none a cup; a prior of a fifth has four cups asked a mug."""

    def chance(prior: float | None) -> float:
        made = calibrator(Made(law), features=["x"]).fitted(pictures(150), prior=prior)
        return float(made.confidence({"x": np.array([0.0])})[0])

    assert chance(0.5) == pytest.approx(chance(None), abs=1e-6)
    assert chance(0.2) < chance(0.5) - 0.05 < chance(0.9) - 0.1
    for prior in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="prior is"):
            chance(prior)
