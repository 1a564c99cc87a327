import json
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from fgclip_det.apis.presence import check_diagram, evaluate_presence, write_diagram
from fgclip_det.apis.presence.run import _outcome, _outcomes
from fgclip_det.apis.presence.values import Values
from fgclip_det.datasets.presence_queries import Query, read_queries
from fgclip_det.io import read_image
from fgclip_det.models.regions.regions import Regions

CFG = {"nms": {"iou_threshold": 0.5}, "max_per_img": 10}
BOXES = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 12], [30, 30, 50, 50]])


@pytest.fixture(scope="module")
def summary(bundled, queries):
    return evaluate_presence(bundled, **queries, value="score", progress=False)


def regions(boxes=BOXES, scale=1.0):
    meta = {"img_shape": (100, 100), "ori_shape": (100, 100), "scale_factor": (scale, scale)}
    count = len(boxes)
    return Regions(
        boxes=boxes,
        objectness=torch.ones(count),
        region_embeddings=torch.zeros(count, 2),
        image_meta=meta,
    )


def outcome(values, boxes=BOXES, truth=((0, 0, 10, 10),), keep=0.05, scale=1.0):
    truth = np.array(truth, dtype=np.float32).reshape(-1, 4)
    query = Query("a dog", "present" if len(truth) else "absent", truth)
    return _outcome(4, query, regions(boxes, scale), torch.tensor(values), keep, CFG)


def test_best_region_and_what_suppression_leaves():
    made = outcome([0.5, 0.75, 0.125])
    assert (made.picture, made.value, made.right) == (4, 0.75, True)
    assert made.answer.values.tolist() == [0.75, 0.125]
    assert made.answer.found.tolist() == BOXES[1:].tolist()
    assert not outcome([0.5, 0.75, 0.875]).right
    assert not outcome([0.5, 0.75, 0.875], truth=()).right


def test_a_box_of_just_the_least_value_is_kept():
    assert outcome([0.1, 0.05, 0.0], keep=0.05).answer.values.tolist() == [pytest.approx(0.1)]
    assert len(outcome([0.0, 0.0, 0.125], keep=0.125).answer.values) == 1
    assert len(outcome([0.0, 0.0, 0.125], keep=0.126).answer.values) == 0


def test_boxes_are_in_pixels_of_the_picture():
    made = outcome([0.5, 0.0, 0.0], scale=2.0, truth=((0, 0, 5, 5),))
    assert made.right and made.answer.found.tolist() == [[0, 0, 5, 5]]


def test_a_picture_without_regions_has_found_nothing():
    made = outcome([], BOXES[:0])
    assert made.value == 0 and not made.right and len(made.answer.found) == 0


class _Blind:
    """A detector that finds no region in any picture."""

    def __init__(self, model):
        self.model = model

    def propose(self, images, **options):
        return [SimpleNamespace(regions=regions(BOXES[:0])) for _ in images]


@pytest.mark.parametrize(("kind", "least"), [("score", 0.0), ("evidence", -3.4e38)])
def test_a_detector_that_is_blind_is_as_sure_of_all(bundled, queries, kind, least):
    values = Values(bundled, [q.text for p in read_queries(*queries["test"]) for q in p.queries])
    values.kind = kind
    values._own = lambda regions, names: torch.zeros(0, len(names))
    values._share = lambda regions, row: torch.zeros(0, 1)
    made = list(
        _outcomes(_Blind(bundled.model), values, read_queries(*queries["test"]), 0.05, 8, Mock())
    )
    assert [one.value for one in made] == pytest.approx([least] * len(made), rel=0.01)
    assert not any(one.right or len(one.answer.found) for one in made)


def test_figures_of_the_bundled_model(summary, queries):
    test = json.loads(queries["test"][0].read_text())
    count = sum(query["kind"] == "present" for query in test["queries"])
    assert summary["queries"] == {"present": count, "near_miss": count, "absent": count}
    assert summary["value"] == "score" and summary["target_recall"] == 0.95
    assert summary["test"] == [str(one) for one in queries["test"]]
    assert summary["recall"]["share"] > 0.7 and summary["tuned_recall"] >= 0.95
    assert summary["absent"]["AUC"][0] > 0.95 > summary["near_miss"]["alarms"]["share"]
    assert json.loads(json.dumps(summary))["pictures"] == 12


def test_threshold_is_of_the_pictures_to_tune_on(bundled, queries, summary):
    strict = evaluate_presence(bundled, **queries, recall=0.1, value="score", progress=False)
    assert strict["threshold"] > summary["threshold"]
    own = evaluate_presence(
        bundled, queries["test"], queries["test"], value="score", progress=False, batch_size=5
    )
    assert own["recall"]["share"] >= 0.95
    assert own["near_miss"]["AUC"] == pytest.approx(summary["near_miss"]["AUC"], abs=1e-4)


def test_what_is_never_reported_is_so_at_any_threshold(bundled, queries, monkeypatch):
    # As of a detector whose competitors beat everything: no recall can be had.
    monkeypatch.setattr(Values, "__call__", lambda self, regions, texts: torch.zeros(3, len(texts)))
    found = evaluate_presence(bundled, **queries, value="score", progress=False)
    assert 0 < found["threshold"] < 1e-30 and found["tuned_recall"] == 0
    assert found["recall"]["count"] == found["near_miss"]["alarms"]["count"] == 0
    assert found["counts"]["threshold"]["TP"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"recall": 0}, "recall is 0"), ({"batch_size": 0}, "batch_size"), ({"value": "x"}, "'x'")],
)
def test_bad_settings_are_named(bundled, queries, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_presence(bundled, **queries, progress=False, **options)


def test_pictures_are_looked_at_as_stored(bundled, queries, summary, tmp_path):
    # Boxes are of the pixels in the file, whatever turn EXIF tells of.
    turned = Image.Exif()
    turned[0x0112] = 6
    for path in queries["test"][1].glob("*.png"):
        Image.open(path).save(tmp_path / path.name, exif=turned)
    assert not np.array_equal(read_image(tmp_path / path.name), read_image(path))
    test = queries["test"][0], tmp_path
    found = evaluate_presence(bundled, queries["tune"], test, value="score", progress=False)
    assert found["in_place"] == summary["in_place"] and found["counts"] == summary["counts"]


def test_what_is_needed_is_said_before_the_first_picture(bundled, queries, tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "propose", Mock(side_effect=AssertionError))
    told = json.loads(queries["tune"][0].read_text())
    told["queries"] = [one for one in told["queries"] if one["kind"] != "present"]
    absent = tmp_path / "absent.json"
    absent.write_text(json.dumps(told))
    tune = absent, queries["tune"][1]
    with pytest.raises(ValueError, match=r"absent\.json' has no query of the kind 'present'"):
        evaluate_presence(bundled, tune, queries["test"], progress=False)
    with pytest.raises(ValueError, match="12 of 22 images are missing"):
        evaluate_presence(bundled, queries["tune"], (queries["test"][0], tmp_path), progress=False)
    with pytest.raises(ValueError, match="'evidence' are no probabilities to draw"):
        evaluate_presence(bundled, **queries, value="evidence", progress=False, needs_shares=True)


def test_a_missing_picture_is_named(bundled, queries, tmp_path):
    with pytest.raises(ValueError, match=r"000000\.png"):
        evaluate_presence(bundled, (queries["tune"][0], tmp_path), queries["test"], progress=False)


def test_diagram_is_a_picture_and_the_same_each_time(summary, tmp_path):
    write_diagram(summary, tmp_path / "a.png")
    write_diagram(summary, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    pixels = read_image(tmp_path / "a.png", "stored")
    assert pixels.shape[1] > 1.5 * pixels.shape[0] and pixels.std() > 10


def test_no_diagram_of_log_odds_or_of_no_png(summary, tmp_path):
    with pytest.raises(ValueError, match="'evidence' are no probabilities"):
        write_diagram({"value": "evidence", "calibration": {}}, tmp_path / "a.png")
    for path in (tmp_path / "a.pdf", tmp_path / "none" / "a.png"):
        with pytest.raises(ValueError, match=r"must be a \.png file"):
            check_diagram(path)
