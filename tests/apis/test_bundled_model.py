"""The bundled model finds what it is bundled for: compositions its detector never trained on."""

import pytest

from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.datasets.shapes.generator import generate
from fgclip_det.evaluation.region_accuracy.accuracy import region_accuracy


def test_the_demo_finds_the_three_novel_shapes(bundled_detector) -> None:
    bundled_detector.set_negatives(BUNDLED / "vocabulary.json")
    try:
        answers = bundled_detector(
            BUNDLED / "images",
            texts="a blue dotted star. a green checkered star. a cyan striped ring",
            progress=False,
        )
    finally:
        bundled_detector.set_negatives(None)
    assert [answer.names for answer in answers] == [
        ["a blue dotted star"],
        ["a cyan striped ring"],
        ["a green checkered star"],
    ]
    assert all(float(score) > 0.9 for answer in answers for score in answer.scores)


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
