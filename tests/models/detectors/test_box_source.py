"""Functions that give boxes, as detectors: exact boxes, every form, and numbers that make none."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from mmdet.registry import MODELS
from mmengine.config import Config
from PIL import Image
from torch import nn

from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.models import BoxSource, OpenVocabWrapper, RegionTextHead
from tests.messages import says
from tests.tiny_encoders import NAMES, tiny_fgclip

BOXES = np.array([[1.25, 2.5, 31.75, 20.0], [0.0, 0.0, 50.0, 34.0], [7.0, 3.0, 9.0, 33.5]])
SCORES = np.array([0.75, 0.5, 0.25])
PIPELINE = [{"type": "LoadImageFromFile"}, {"type": "PackDetInputs"}]


def find(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    return BOXES, SCORES


def make_config(**model) -> Config:
    settings = {
        "type": "OpenVocabWrapper",
        "detector": {"type": "BoxSource", "source": f"{__name__}.find"},
        "encoder": tiny_fgclip(speaks=True),
        "region_head": {"test_cfg": {"nms": {"iou_threshold": 1.0, "class_agnostic": True}}},
        **model,
    }
    dataloader = {"dataset": {"pipeline": PIPELINE}}
    cfg = Config({"test_dataloader": dataloader})
    cfg._cfg_dict["model"] = settings
    return cfg


def inferencer(**model) -> OpenVocabInferencer:
    detector = OpenVocabInferencer(make_config(**model), device="cpu")
    detector.set_negatives(None)
    return detector


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (34, 50, 3), np.uint8)


FORMS = {
    "arrays": lambda: (BOXES, SCORES),
    "lists": lambda: [BOXES.tolist(), SCORES.tolist()],
    "tensors": lambda: (torch.tensor(BOXES), torch.tensor(SCORES).requires_grad_()),
    "torchvision": lambda: {
        "boxes": torch.tensor(BOXES),
        "scores": torch.tensor(SCORES),
        "labels": torch.ones(3),
    },
    "ultralytics": lambda: [
        SimpleNamespace(boxes=SimpleNamespace(xyxy=torch.tensor(BOXES), conf=torch.tensor(SCORES)))
    ],
    "sam": lambda: [
        {
            "segmentation": np.zeros((34, 50), bool),
            "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]],
            "predicted_iou": s,
        }
        for b, s in zip(BOXES.tolist(), SCORES.tolist(), strict=True)
    ],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_boxes(form: str, picture: np.ndarray) -> None:
    source = BoxSource(lambda pixels: FORMS[form]())
    boxes, scores = source.find_boxes(torch.from_numpy(picture).permute(2, 0, 1))
    torch.testing.assert_close(boxes, torch.tensor(BOXES).float())
    torch.testing.assert_close(scores, torch.tensor(SCORES).float())


@pytest.mark.parametrize("nothing", [([], []), {"boxes": [], "scores": []}, []])
def test_no_boxes_are_no_detections(nothing, picture: np.ndarray) -> None:
    detector = inferencer(detector=lambda pixels: nothing)
    assert [len(found) for found in detector([picture, picture], NAMES)] == [0, 0]


@pytest.mark.parametrize("size", [(34, 50), (50, 34), (3, 200), (200, 3)])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_boxes_come_back_exactly(size: tuple[int, int], batch_size: int) -> None:
    """Through padding of a batch, and that of very long pictures."""
    pictures = [np.full((*size, 3), 90, np.uint8), np.full((17, 70, 3), 9, np.uint8)]

    def inner(pixels: np.ndarray) -> tuple[list, list]:
        height, width = pixels.shape[:2]
        return [[0.125 * width, 0.25 * height, 0.75 * width, 0.875 * height]], [0.5]

    detector = inferencer(detector=inner)
    found = detector(pictures, NAMES, score_thr=0.0, batch_size=batch_size)
    for one, pixels in zip(found, pictures, strict=True):
        height, width = pixels.shape[:2]
        limit = 16
        shown = max(height, -(-width // limit)), max(width, -(-height // limit))
        expected = [0.125 * shown[1], 0.25 * shown[0], 0.75 * shown[1], 0.875 * shown[0]]
        expected = torch.tensor(expected).minimum(torch.tensor([width, height] * 2))
        if (expected[2:] > expected[:2]).all():
            torch.testing.assert_close(one.boxes[0], expected, atol=1e-4, rtol=0)


def test_the_source_sees_the_stored_pixels(picture: np.ndarray, tmp_path: Path) -> None:
    seen = []
    detector = inferencer(detector=lambda pixels: (seen.append(pixels.copy()), (BOXES, SCORES))[1])
    Image.fromarray(picture).save(tmp_path / "x.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(tmp_path / "turned.png", exif=exif)
    detector([tmp_path / "x.png", tmp_path / "turned.png"], NAMES, batch_size=2)
    assert np.array_equal(seen[0], picture)
    assert np.array_equal(seen[1], np.rot90(picture, -1))


def test_a_name_a_function_and_a_config_are_one(picture: np.ndarray) -> None:
    answers = [
        inferencer(detector=detector)(picture, NAMES, score_thr=0.0)[0]
        for detector in (find, BoxSource(find), {"type": "BoxSource", "source": find})
    ]
    answers.append(inferencer()(picture, NAMES, score_thr=0.0)[0])
    assert len(answers[0]) == 3
    for answer in answers[1:]:
        assert torch.equal(answer.boxes, answers[0].boxes)
        assert answer.names == answers[0].names


class _Network(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.detector = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
            weights=None, weights_backbone=None, num_classes=3, box_score_thresh=0.0, min_size=64
        )

    def forward(self, pixels: np.ndarray) -> dict:
        with torch.no_grad():
            return self.detector([torch.from_numpy(pixels).permute(2, 0, 1) / 255])[0]


def test_a_torchvision_detector(picture: np.ndarray) -> None:
    network = _Network(0)
    detector = inferencer(detector=network)
    # A copy: a config's parts are not changed.
    assert not detector.model.detector.source.training
    found = detector(picture, NAMES, score_thr=0.0)[0]
    assert len(found)
    expected = network.eval()(picture)["boxes"]
    distances = torch.cdist(found.boxes, expected, p=float("inf")).amin(dim=1)
    assert distances.max() < 1e-4


def test_regions_of_other_sources_are_told_apart() -> None:
    def hash_of(detector) -> str:
        return OpenVocabWrapper(detector, tiny_fgclip()).regions_hash

    def other(pixels: np.ndarray):
        return find(pixels)

    hashes = [
        hash_of(find),
        hash_of(other),
        hash_of(BoxSource(find, name="thr=0.3")),
        hash_of(_Network(0)),
        hash_of(_Network(1)),
    ]
    assert len({*hashes}) == len(hashes)
    assert hash_of(BoxSource(find)) == hashes[0]
    assert hash_of({"type": "BoxSource", "source": f"{__name__}.find"}) == hashes[0]
    assert hash_of(_Network(0)) == hashes[3]


BROKEN = {
    "nan": ((BOXES * np.nan, SCORES), ("boxes", "NaN")),
    "infinite scores": ((BOXES, SCORES / 0), ("scores",)),
    "another shape": ((BOXES[:, :3], SCORES), ("(3, 3)", "xyxy")),
    "fewer scores": ((BOXES, SCORES[:2]), ("(2,)",)),
    "percent": ((BOXES, SCORES * 100), ("75", "[0, 1]")),
    "below zero": ((BOXES, SCORES - 1), ("-0.75", "[0, 1]")),
    "sizes": ((np.array([[20.0, 20, 5, 5]]), SCORES[:1]), ("xyxy",)),
    "beside": ((BOXES + 500, SCORES), ("50x34", "pixels of the picture")),
    "fractions": ((BOXES / 100, SCORES), ("fractions",)),
    "text": (("boxes", "scores"), ("numbers",)),
    "nothing": (None, ("NoneType", "BoxSource")),
    "one thing": ((BOXES,), ("tuple", "BoxSource")),
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("case", BROKEN)
def test_what_makes_no_sense_is_refused(case: str, picture: np.ndarray) -> None:
    given, words = BROKEN[case]
    with pytest.raises(ValueError, match=says(*words)):
        inferencer(detector=lambda pixels: given)(picture, NAMES)


@pytest.mark.parametrize("source", ["nowhere.find", "os.nothing", "find", "os.sep", 3])
def test_sources_that_are_none(source) -> None:
    with pytest.raises(ValueError, match=says("source", repr(source))):
        BoxSource(source)
    assert os.sep


class _HalvedHead(RegionTextHead):
    """A fusion of its own: half of the objectness, whatever the text."""

    def score(self, regions, text_embeddings, is_base, classes=None):
        return regions.objectness[:, None].expand(-1, len(text_embeddings)) / 2


class _OwnWrapper(OpenVocabWrapper):
    """A detector of its own."""


@pytest.fixture
def registered():
    with pytest.MonkeyPatch.context() as patch:
        for cls in (_HalvedHead, _OwnWrapper):
            patch.setitem(MODELS._module_dict, cls.__name__, cls)
        yield


@pytest.mark.usefixtures("registered")
def test_own_heads_and_own_wrappers(picture: np.ndarray) -> None:
    config = make_config(type="_OwnWrapper", region_head={"type": "_HalvedHead"})
    # What would compete is not asked of a head that has scores of its own.
    detector = OpenVocabInferencer(config, device="cpu")
    assert type(detector.model) is _OwnWrapper
    found = detector(picture, NAMES, score_thr=0.0)[0]
    torch.testing.assert_close(found.scores[0], torch.tensor(0.375))


@pytest.mark.parametrize("kind", ["FasterRCNN", "NoSuchDetector", 3, None])
def test_other_models_are_refused(kind) -> None:
    with pytest.raises(ValueError, match=says("OpenVocabTwoStageDetector", "OpenVocabWrapper")):
        inferencer(type=kind)
