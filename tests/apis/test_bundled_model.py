"""The bundled model finds what it is bundled for: compositions its detector never trained on."""

import pytest
from mmengine.config import Config

from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.datasets.shapes.generator import generate
from fgclip_det.evaluation.region_accuracy.accuracy import region_accuracy
from tests.tools.conftest import load_tool


def test_the_demo_finds_the_three_novel_shapes(calibrated_detector) -> None:
    answers = calibrated_detector(
        BUNDLED / "images",
        texts="a blue dotted star. a green checkered star. a cyan striped ring",
        progress=False,
    )
    assert [answer.names for answer in answers] == [
        ["a blue dotted star"],
        ["a cyan striped ring"],
        ["a green checkered star"],
    ]
    assert all(answer.confidences.item() > 0.9 for answer in answers)


def test_what_belongs_to_the_bundle_fits_it(calibrated_detector) -> None:
    competition, calibration = calibrated_detector.competition, calibrated_detector.calibration
    assert len(competition.bank) == 192 and competition.max_cosine == 1
    # Its own closed lists, and none of a world that it has never seen.
    assert {*competition.attributes.lists} == {"color", "pattern", "shape"}
    assert calibration.is_fitted and calibration.thresholds == {}
    assert calibration.features == ("detector", "objectness")
    config = Config.fromfile(BUNDLED / "config.py").model.test_cfg
    assert config.negatives == load_tool("bundle_model").NEGATIVES
    assert config.calibration == "calibration.json"


def test_size_of_the_bundle() -> None:
    total = sum(file.stat().st_size for file in BUNDLED.rglob("*") if file.is_file())
    assert total < 6e6


@pytest.mark.slow
def test_hard_negatives_of_fresh_pictures(bundled_detector, tmp_path) -> None:
    generate(tmp_path, {"val": 60}, seed=7)
    found = region_accuracy(
        bundled_detector.model.encoder, tmp_path / "annotations" / "val_fgovd.json", tmp_path
    )
    assert found["n"] > 100
    assert found["accuracy"] > 0.8
