"""Asked again, or from a file, a picture's regions answer what the detector would."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fgclip_det.apis import Detections, ImageRegions, OpenVocabInferencer, read_image
from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from tests.messages import says

PICTURES = sorted((BUNDLED / "images").glob("*.png"))
NAMES = list(Vocabulary.parse(BUNDLED / "vocabulary.json").names)
QUESTIONS = [NAMES, NAMES[:7], "a blue dotted star. a cross", ["red"]]


def assert_equal(one: Detections, other: Detections) -> None:
    """To the last bit."""
    assert vars(one).keys() == vars(other).keys()
    for key, value in vars(one).items():
        if torch.is_tensor(value):
            assert torch.equal(value, getattr(other, key)), key
        else:
            assert value == getattr(other, key), key


@pytest.fixture
def detect(bundled_detector: OpenVocabInferencer) -> OpenVocabInferencer:
    return bundled_detector


def test_answers_are_those_of_the_detector(detect: OpenVocabInferencer, tmp_path: Path) -> None:
    rgb = read_image(PICTURES[0])
    # A long picture is padded for the network, which must not show.
    pictures = [*PICTURES, rgb[:96], rgb[:4]]
    images = detect.propose(pictures, progress=False)
    assert [image.image_path for image in images] == [*map(str, PICTURES), None, None]
    for number, image in enumerate(images):
        image.save(tmp_path / f"{number}.safetensors")
    loaded = [detect.load_regions(tmp_path / f"{n}.safetensors") for n in range(len(images))]
    for texts in QUESTIONS:
        expected = detect(pictures, texts, score_thr=0.05, progress=False)
        assert sum(map(len, expected))
        for image, kept, wanted in zip(images, loaded, expected, strict=True):
            assert len(kept) == len(image) > 0
            assert_equal(image.classify(texts, score_thr=0.05), wanted)
            assert_equal(kept.classify(texts, score_thr=0.05), wanted)


def test_the_network_runs_once(detect: OpenVocabInferencer, monkeypatch) -> None:
    (image,) = detect.propose(PICTURES[0], progress=False)

    def never(*_, **__):
        raise AssertionError("the image tower was run again")

    monkeypatch.setattr(detect.model.backbone, "forward", never)
    monkeypatch.setattr(detect, "pipeline", never)
    assert image.classify(NAMES).names


def test_settings_of_the_detector_hold(detect: OpenVocabInferencer) -> None:
    (image,) = detect.propose(PICTURES[0], progress=False)
    assert image.classify().vocabulary == NAMES
    try:
        detect.set_vocabulary("ring, star")
        detect.set_negatives(BUNDLED / "vocabulary.json")
        assert_equal(image.classify(score_thr=0.1), detect(PICTURES[0], score_thr=0.1)[0])
        assert image.classify().vocabulary == ["ring", "star"]
    finally:
        detect.texts = None
        detect.set_negatives(None)
    encoded = TextEmbeddings.encode(Vocabulary.parse("ring"), detect.model.encoder)
    assert image.classify(encoded).vocabulary == ["ring"]


def test_batches_and_bad_pictures(detect: OpenVocabInferencer, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(PICTURES[0].read_bytes()[:2000])
    pictures = [PICTURES[0], tmp_path / "bad.png", PICTURES[1]]
    with pytest.raises(ValueError, match=r"bad\.png"):
        detect.propose(pictures, progress=False)
    images = detect.propose(pictures, batch_size=2, on_error="collect", progress=False)
    assert [image.image_path for image in images] == [str(PICTURES[0]), str(PICTURES[1])]
    assert [path for path, _ in images.failures] == [str(tmp_path / "bad.png")]
    for options in (dict(batch_size=0), dict(on_error="x")):
        with pytest.raises(ValueError, match=next(iter(options))):
            detect.propose(PICTURES, **options)


def test_questions_that_make_no_sense_are_refused(detect: OpenVocabInferencer) -> None:
    (image,) = detect.propose(PICTURES[0], progress=False)
    with pytest.raises(ValueError, match="names nothing to look for"):
        image.classify(" . ")
    for score_thr in (1.5, float("nan")):
        with pytest.raises(ValueError, match="score_thr is"):
            image.classify("ring", score_thr)
    foreign = TextEmbeddings(Vocabulary.parse("a"), torch.ones(1, 128), "0" * 16)
    with pytest.raises(ValueError, match="encode the vocabulary again"):
        image.classify(foreign)


def test_another_detector_is_not_asked(detect: OpenVocabInferencer, tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    (image,) = detect.propose(PICTURES[0], progress=False)
    image.save(path)
    other = OpenVocabInferencer(device="cpu")
    assert isinstance(other.load_regions(path), ImageRegions)
    with torch.no_grad():
        other.model.roi_head.bbox_head.fc_embed.bias += 1e-3
    del other.weights_hash
    with pytest.raises(ValueError, match=says("propose them again")):
        other.load_regions(path)
    with torch.no_grad():
        other.model.encoder.logit_scale += 1.0
    other.model.encoder._fingerprint = None
    with pytest.raises(ValueError, match=r"regions of encoder .* cannot be compared"):
        other.load_regions(path)
    image.regions.save(path)
    with pytest.raises(ValueError, match=says("Regions.load")):
        detect.load_regions(path)


def test_all_that_makes_regions_is_told(detect: OpenVocabInferencer, tmp_path: Path) -> None:
    """Each part of the two-stage detector, and settings of the first stage."""
    path = tmp_path / "r.safetensors"
    detect.propose(PICTURES[0], progress=False)[0].save(path)

    def change(part: str) -> None:
        model = other.model
        if part == "rpn":
            model.test_cfg.rpn["max_per_img"] = 7
            return
        with torch.no_grad():
            next(getattr(model, part).parameters()).add_(1e-3)

    for part in ("neck", "rpn_head", "roi_head", "rpn"):
        other = OpenVocabInferencer(device="cpu")
        assert other.weights_hash == detect.weights_hash
        other = OpenVocabInferencer(device="cpu")
        change(part)
        with pytest.raises(ValueError, match=says("weights or settings", "propose them again")):
            other.load_regions(path)
    # Thresholds of detections are asked for anew.
    other = OpenVocabInferencer(device="cpu")
    other.model.roi_head.test_cfg["score_thr"] = 0.5
    assert len(other.load_regions(path)) > 0
