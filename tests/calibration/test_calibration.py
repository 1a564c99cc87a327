"""Confidences of a calibration by hand, whose it is, and its file."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fgclip_det.calibration import NEVER, Calibration, Threshold
from fgclip_det.io import write_json

BOUND = Threshold(0.75, risk=0.1, delta=0.05, kind="pictures", pictures=50, alarms=2)


def _made(**changes) -> Calibration:
    values = {
        "detector": "d1",
        "encoder": "e1",
        "competition": {"bank": "b1", "max_cosine": 0.9},
        "features": ("detector", "objectness"),
        "weights": (2.0, 0.5),
        "bias": -1.0,
    }
    return Calibration(**{**values, **changes})


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_confidence_is_the_logistic_of_the_weighted_sum() -> None:
    features = {
        "detector": np.array([[0.0, 1.0], [-1.0, 2.0]], np.float32),
        "objectness": np.array([[2.0], [-4.0]], np.float32),
        "not needed": np.array([np.nan]),
    }
    found = _made().confidence(features)
    expected = [[_sigmoid(0), _sigmoid(2)], [_sigmoid(-5), _sigmoid(1)]]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_any_float_type_gives_float32(kind: type) -> None:
    features = {name: np.zeros(3, kind) for name in ("detector", "objectness")}
    assert _made().confidence(features).dtype == np.float32


def test_infinite_evidence_is_as_good_as_very_much() -> None:
    features = {"detector": np.array([np.inf, -np.inf]), "objectness": np.zeros(2)}
    np.testing.assert_allclose(_made().confidence(features), [1, 0], atol=1e-12)


def test_tensors_are_treated_as_arrays_are() -> None:
    torch = pytest.importorskip("torch")
    numbers = np.random.default_rng(0).normal(0, 9, (2, 50, 7)).astype(np.float32)
    calibration = _made(knots=((-3.0, -1.0), (0.0, -0.5), (2.0, 4.0)))
    arrays = dict(zip(calibration.features, numbers, strict=True))
    found = calibration.confidence({k: torch.from_numpy(v) for k, v in arrays.items()})
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), calibration.confidence(arrays), atol=1e-6)
    half = calibration.confidence({k: torch.from_numpy(v).half() for k, v in arrays.items()})
    assert half.dtype == torch.float32


def test_knots_are_met_and_beyond_them_the_slope_is_one() -> None:
    knots = ((-1.0, -3.0), (0.0, -2.5), (2.0, 1.5), (2.5, 1.5))
    calibration = _made(features=("x",), weights=(1.0,), bias=0.0, knots=knots)
    x = np.array([-3.0, -1.0, -0.5, 0.0, 1.0, 2.0, 2.25, 2.5, 4.5])
    y = [-5.0, -3.0, -2.75, -2.5, -0.5, 1.5, 1.5, 1.5, 3.5]
    expected = [_sigmoid(value) for value in y]
    np.testing.assert_allclose(calibration.confidence({"x": x}), expected, rtol=1e-5)


def test_no_region_and_no_name() -> None:
    features = {"detector": np.zeros((0, 3)), "objectness": np.zeros((0, 1))}
    assert _made().confidence(features).shape == (0, 3)
    features = {"detector": np.zeros((4, 0)), "objectness": np.zeros((4, 1))}
    assert _made().confidence(features).shape == (4, 0)


def test_nan_and_missing_features_are_said() -> None:
    with pytest.raises(ValueError, match=r"'objectness'.*there are detector"):
        _made().confidence({"detector": np.zeros(2)})
    with pytest.raises(ValueError, match="'detector' holds NaN"):
        _made().confidence({"detector": np.array([0, np.nan]), "objectness": np.zeros(2)})


def test_without_a_fit_there_is_evidence_and_no_confidence() -> None:
    calibration = _made(is_fitted=False)
    features = {"detector": np.zeros(1), "objectness": np.full(1, 2.0)}
    np.testing.assert_allclose(calibration.evidence(features), [0.5])
    with pytest.raises(ValueError, match="no confidences"):
        calibration.confidence(features)
    with pytest.raises(ValueError, match="not on its evidence: mug"):
        replace(calibration, thresholds={"mug": BOUND})


def test_the_least_figure_is_the_name_s_own_where_it_was_made_for_its_words() -> None:
    never = replace(BOUND, value=NEVER, words="of cup")
    other = replace(BOUND, words="other")
    calibration = _made(
        conf_thr=0.4, thresholds={"mug": BOUND, "cup": never, "plate": other, "unasked": BOUND}
    )
    vocabulary = SimpleNamespace(
        names=("a bowl", "cup", "mug", "plate"),
        subset=lambda names: SimpleNamespace(hash=f"of {names[0]}"),
        thresholds=None,
    )
    assert calibration.least(vocabulary) == [0.4, NEVER, 0.75, 0.4]
    own = {"mug": replace(BOUND, value=0.5), "a bowl": replace(BOUND, words="other")}
    saved = {"of": calibration.figures_hash, "names": {k: one.to_dict() for k, one in own.items()}}
    vocabulary.thresholds = saved
    assert calibration.least(vocabulary) == [0.4, NEVER, 0.5, 0.4]
    # More thresholds are of the same figures, another curve is not.
    assert calibration.with_thresholds(own, {"more": 1}).least(vocabulary)[2] == 0.5
    with pytest.raises(ValueError, match=r"and the detector's is .*save the vocabulary again"):
        replace(calibration, bias=calibration.bias + 1).least(vocabulary)
    vocabulary.thresholds = {**saved, "names": {"mug": {"value": 0.5}}}
    with pytest.raises(ValueError, match="the vocabulary's threshold of 'mug' is"):
        calibration.least(vocabulary)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("d2", "e1", {"bank": "b1", "max_cosine": 0.9}), "detector d1, not of d2"),
        (("d1", "e2", {"bank": "b1", "max_cosine": 0.9}), "encoder e1, not of e2"),
        (("d1", "e1", {"bank": "b2", "max_cosine": 0.9}), "bank 'b1', not 'b2'"),
        (("d1", "e1", {"bank": "b1"}), "max_cosine 0.9, not None"),
        (("d1", "e1", {"bank": "b1", "max_cosine": 0.9, "lists": "l"}), "lists None, not 'l'"),
    ],
)
def test_check_names_what_differs_and_the_mend(given: tuple, told: str) -> None:
    _made().check("d1", "e1", {"max_cosine": 0.9, "bank": "b1"})
    with pytest.raises(ValueError, match=f"{told}.*calibrate"):
        _made().check(*given)


def test_more_thresholds_replace_those_of_the_same_names() -> None:
    first = _made(thresholds={"mug": BOUND, "cup": BOUND}, about={"by": "me"})
    looser = replace(BOUND, value=0.5)
    made = first.with_thresholds({"cup": looser, "plate": BOUND}, {"date": "today"})
    assert made.thresholds == {"mug": BOUND, "cup": looser, "plate": BOUND}
    assert made.about == {"by": "me", "date": "today"}
    assert first.thresholds["cup"] == BOUND


def test_what_is_written_is_read(tmp_path: Path) -> None:
    alarms = Threshold(NEVER, 0.5, 0.1, "alarms", 40, 30, clip=5, words="w")
    made = _made(
        knots=((-1.0, -2.0), (1.0, 0.3)),
        thresholds={"ein Käse 🧀": BOUND, "mug": alarms},
        about={"pictures": 50},
    )
    path = tmp_path / "deep" / "calibration.json"
    made.save(path)
    found = Calibration.load(path)
    assert vars(found) == vars(made)
    assert found.hash == made.hash == json.loads(path.read_text())["hash"]
    assert replace(made, conf_thr=0.25).hash != made.hash
    features = {name: np.linspace(-9, 9, 99) for name in made.features}
    np.testing.assert_array_equal(found.confidence(features), made.confidence(features))


def _file(tmp_path: Path, change) -> Path:
    """A file that was changed by someone who knew how to make its hash."""
    from fgclip_det.calibration import files

    path = tmp_path / "calibration.json"
    _made(thresholds={"mug": BOUND}, knots=((0.0, 0.0), (1.0, 2.0))).save(path)
    told = json.loads(path.read_text())
    change(told)
    told["hash"] = files._hash(told)
    write_json(path, told)
    return path


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.update(kind="fgclip_det.Regions"), "no calibration of fgclip_det"),
        (lambda t: t.update(version=2), "version 2, and this package reads 1"),
        (lambda t: t.update(version=True), "version True"),
        (lambda t: t.update(more=1), "'more'"),
        (lambda t: t.pop("bias"), "'bias'"),
        (lambda t: t.update(weights=[1.0]), "weights of a calibration is"),
        (lambda t: t.update(weights=[1.0, "2"]), "weights of a calibration is"),
        (lambda t: t.update(weights=None), "no list"),
        (lambda t: t.update(bias=True), "bias of a calibration"),
        (lambda t: t.update(features=["a", "a"]), "distinct names"),
        (lambda t: t.update(features=[], weights=[]), "distinct names"),
        (lambda t: t.update(features=[["a"], "b"]), "distinct names"),
        (lambda t: t.update(conf_thr=1.5), "conf_thr of a calibration is 1.5"),
        (lambda t: t.update(is_fitted=1), "is_fitted"),
        (lambda t: t.update(detector=""), "detector of a calibration"),
        (lambda t: t.update(knots=[[0, 1]]), "knots of a calibration"),
        (lambda t: t.update(knots=[[0, 1], [0, 2]]), "knots of a calibration"),
        (lambda t: t.update(knots=[[0, 1], [1, 0]]), "knots of a calibration"),
        (lambda t: t.update(knots=[[0, 1], [1]]), "no pairs"),
        (lambda t: t.update(thresholds=[]), "no dict"),
        (lambda t: t["thresholds"].update(mug=0.5), "threshold of 'mug' is 0.5"),
        (lambda t: t["thresholds"]["mug"].update(value=1.5), "value of a threshold is 1.5"),
        (lambda t: t["thresholds"]["mug"].update(value=-0.1), "value of a threshold"),
        (lambda t: t["thresholds"]["mug"].update(value=None), "value of a threshold"),
        (lambda t: t["thresholds"]["mug"].update(kind="boxes"), "pictures or alarms"),
        (lambda t: t["thresholds"]["mug"].update(clip=5), "clip of a threshold is 5"),
        (lambda t: t["thresholds"]["mug"].update(kind="alarms"), "clip of a threshold is None"),
        (lambda t: t["thresholds"]["mug"].update(risk=1), "risk of a threshold is 1"),
        (lambda t: t["thresholds"]["mug"].update(delta=0), "delta of a threshold is 0"),
        (lambda t: t["thresholds"]["mug"].update(pictures=0), "pictures of a threshold is 0"),
        (lambda t: t["thresholds"]["mug"].update(alarms=51), "alarms of a threshold is 51"),
        (lambda t: t["thresholds"]["mug"].update(on="score"), "on of a threshold"),
        (lambda t: t["thresholds"]["mug"].update(on="evidence"), "not on its confidence"),
        (lambda t: t["thresholds"]["mug"].update(new=1), "make the file again"),
    ],
)
def test_files_of_another_make_are_refused(tmp_path: Path, change, told: str) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        Calibration.load(_file(tmp_path, change))
    assert "calibration.json" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", '{"kind": NaN}', '{"kind": "fgclip_det.Calib', "3"])
def test_what_is_no_calibration_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"calibration\.json"):
        Calibration.load(path)
    with pytest.raises(ValueError, match=r"other\.json"):
        Calibration.load(tmp_path / "other.json")


def test_a_threshold_altered_by_hand_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    _made(thresholds={"mug": BOUND}).save(path)
    path.write_text(path.read_text().replace("0.75", "0.25"))
    with pytest.raises(ValueError, match=r"altered.*guarantees are void"):
        Calibration.load(path)


def test_nan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bias of a calibration is nan"):
        _made(bias=math.nan)
    with pytest.raises(ValueError, match="cannot be written"):
        _made(about={"ece": math.nan}).save(tmp_path / "c.json")
    assert not [*tmp_path.iterdir()]
