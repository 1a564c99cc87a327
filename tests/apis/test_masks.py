"""Masks of boxes, against transformers' own forward."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import Sam2Config, Sam2Model, Sam2Processor

from fgclip_det.apis import Detections, MaskPredictor, masks
from tests.messages import says
from tests.tiny_sam2 import change_json, change_weights, write_tiny_sam2

FIRST = "shared_image_embedding.positional_embedding"
SECOND = "prompt_encoder.shared_embedding.positional_embedding"


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    """A checkpoint that tests share: copy what you change."""
    return write_tiny_sam2(tmp_path_factory.mktemp("sam2"))


@pytest.fixture
def own(directory, tmp_path) -> Path:
    """A checkpoint of the test alone."""
    return Path(shutil.copytree(directory, tmp_path / "own"))


@pytest.fixture(scope="module")
def predictor(directory) -> MaskPredictor:
    return MaskPredictor(directory, device="cpu")


def picture_of(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def boxes_of(number: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand((number, 2, 2), generator=generator).sort(dim=1).values
    return (corners * torch.tensor([width, height])).reshape(number, 4)


@torch.no_grad()
def by_hand(directory: Path, picture: np.ndarray, boxes: torch.Tensor) -> torch.Tensor:
    """All boxes at once, through the whole network."""
    network = Sam2Model(Sam2Config.from_pretrained(directory))
    weights = load_file(directory / "model.safetensors")
    weights[SECOND] = weights[FIRST]
    network.load_state_dict({key: weights[key] for key in network.state_dict()})
    processor = Sam2Processor.from_pretrained(directory)
    inputs = processor(
        images=Image.fromarray(picture), input_boxes=[boxes.tolist()], return_tensors="pt"
    )
    outputs = network.eval()(
        pixel_values=inputs["pixel_values"],
        input_boxes=inputs["input_boxes"],
        multimask_output=False,
    )
    (found,) = processor.post_process_masks(outputs.pred_masks, inputs["original_sizes"])
    return found[:, 0]


def detections_of(height: int, width: int, boxes: torch.Tensor) -> Detections:
    number = len(boxes)
    return Detections(
        names=["cup"] * number,
        boxes=boxes,
        scores=torch.linspace(0.9, 0.1, number),
        labels=torch.zeros(number, dtype=torch.long),
        vocabulary=["cup"],
        width=width,
        height=height,
    )


@pytest.mark.parametrize(
    ("size", "number"), [((48, 80), 1), ((130, 70), 7), ((64, 64), 40), ((200, 300), 65)]
)
def test_masks_are_those_of_transformers_own_forward(directory, predictor, size, number):
    picture, boxes = picture_of(*size), boxes_of(number, *size)
    found = predictor(picture, boxes)
    assert found.shape == (number, *size)
    assert found.dtype == torch.bool and found.device.type == "cpu"
    expected = by_hand(directory, picture, boxes)
    # Rounding may move single pixels where a logit is nearly 0.
    assert (found != expected).float().mean() < 1e-4
    assert 0.02 < found.float().mean() < 0.98
    if number > 1:
        assert (found[0] != found[1]).float().mean() > 0.001  # else all of them could be one


def test_chunks_of_boxes_and_of_pixels_change_nothing(predictor, monkeypatch):
    picture, boxes = picture_of(90, 50), boxes_of(9, 90, 50)
    whole = predictor(picture, boxes)
    monkeypatch.setattr(masks, "_CHUNK", 4)
    monkeypatch.setattr(masks, "_CHUNK_PIXELS", 3 * 90 * 50)
    assert (predictor(picture, boxes) != whole).float().mean() < 1e-4
    monkeypatch.setattr(masks, "_CHUNK_PIXELS", 1)
    assert (predictor(picture, boxes) != whole).float().mean() < 1e-4


def test_a_picture_is_encoded_once_and_boxes_come_in_chunks(predictor, monkeypatch):
    calls: list[int] = []
    network = predictor._network
    encode, decode = network.get_image_embeddings, network.mask_decoder.forward
    monkeypatch.setattr(
        network, "get_image_embeddings", lambda pixels: calls.append(0) or encode(pixels)
    )
    monkeypatch.setattr(
        network.mask_decoder,
        "forward",
        lambda **given: calls.append(given["sparse_prompt_embeddings"].shape[1]) or decode(**given),
    )
    predictor(picture_of(40, 40), boxes_of(70, 40, 40))
    assert calls == [0, 32, 32, 6]


@pytest.mark.parametrize("boxes", [torch.zeros(0, 4), np.zeros((0, 4)), []])
def test_no_boxes_give_no_masks_and_cost_nothing(predictor, monkeypatch, boxes):
    monkeypatch.setattr(predictor, "_network", None)
    found = predictor(picture_of(30, 20), boxes)
    assert found.shape == (0, 30, 20) and found.dtype == torch.bool


def test_boxes_are_cut_at_the_border(predictor):
    picture = picture_of(60, 90)
    over = torch.tensor([[-20.0, -5, 200, 300], [80, 50, 95, 61], [70, 10, 90, 60]])
    inside = torch.tensor([[0.0, 0, 90, 60], [80, 50, 90, 60], [70, 10, 90, 60]])
    assert predictor(picture, over).equal(predictor(picture, inside))


@pytest.mark.parametrize("size", [(3, 40), (40, 3), (1, 1), (1, 500)])
def test_a_picture_of_few_pixels_keeps_its_channels(directory, predictor, size):
    picture = picture_of(*size)
    found = predictor(picture, [[0, 0, size[1], size[0]]])
    assert found.shape == (1, *size)
    # Pillow's pictures have no axes to be guessed.
    pixels = Sam2Processor.from_pretrained(directory)(
        images=Image.fromarray(picture), return_tensors="pt"
    )["pixel_values"]
    got = predictor._processor(
        images=picture, input_data_format="channels_last", return_tensors="pt"
    )["pixel_values"]
    assert got.equal(pixels)


def test_boxes_of_no_area_and_kinds_of_arrays(predictor):
    picture = picture_of(50, 50)
    rows = [[10, 10, 10, 10], [5, 5, 30, 40]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = predictor(Image.fromarray(picture), rows)
    assert found.equal(predictor(Image.fromarray(picture), np.array(rows)))
    assert found.equal(predictor(picture[:, ::-1].copy()[:, ::-1], torch.tensor(rows)))


def test_detections_keep_all_else(predictor):
    picture = picture_of(50, 70)
    plain = detections_of(50, 70, boxes_of(3, 50, 70))
    found = predictor.with_masks(plain, picture)
    assert plain.masks is None
    assert found.masks.equal(predictor(picture, plain.boxes))
    assert found.boxes is plain.boxes and found.names == plain.names
    with pytest.raises(ValueError, match=says("70 x 50", "50 x 70", "EXIF")):
        predictor.with_masks(plain, picture_of(70, 50))


@pytest.mark.parametrize(
    ("picture", "boxes", "told"),
    [
        (np.zeros((9, 9), np.uint8), [[0, 0, 1, 1]], says("(9, 9)", "uint8")),
        (np.zeros((9, 9, 4), np.uint8), [[0, 0, 1, 1]], says("(9, 9, 4)")),
        (np.zeros((9, 9, 3)), [[0, 0, 1, 1]], says("float64", "uint8")),
        (np.zeros((0, 9, 3), np.uint8), [[0, 0, 1, 1]], says("(0, 9, 3)")),
        (picture_of(9, 9), [[0, 0, 1]], says("(1, 3)", "xyxy")),
        (picture_of(9, 9), [0, 0, 1, 1], says("(4,)", "xyxy")),
        (picture_of(9, 9), [[0, 0, 1, 1], [0, float("nan"), 1, 1]], says("box 1", "nan")),
        (picture_of(9, 9), [[0, 0, float("inf"), 1]], says("box 0", "inf")),
        (picture_of(9, 9), "boxes", says("boxes")),
    ],
)
def test_bad_input_is_named(predictor, picture, boxes, told):
    with pytest.raises(ValueError, match=told):
        predictor(picture, boxes)


@pytest.mark.parametrize("stored", ["once", "twice"])
def test_the_matrix_of_two_names_is_one(own, predictor, stored):
    first = load_file(own / "model.safetensors")[FIRST]
    if stored == "once":
        change_weights(own, removed=SECOND)
    else:
        change_weights(own, **{SECOND: first})
    assert (SECOND in load_file(own / "model.safetensors")) == (stored == "twice")
    read = MaskPredictor(own, device="cpu")
    assert read._network.state_dict()[SECOND].equal(first)
    picture, boxes = picture_of(50, 50), boxes_of(4, 50, 50)
    assert read(picture, boxes).equal(predictor(picture, boxes))


def test_a_network_of_pictures_alone_is_read_too(own, tmp_path, predictor):
    network = predictor._network
    network.save_pretrained(tmp_path / "pictures")
    for name in ("preprocessor_config.json", "processor_config.json"):
        shutil.copy(own / name, tmp_path / "pictures" / name)
    config = json.loads((tmp_path / "pictures" / "config.json").read_text())
    assert config["model_type"] == "sam2"
    picture, boxes = picture_of(50, 50), boxes_of(4, 50, 50)
    read = MaskPredictor(tmp_path / "pictures", device="cpu")
    assert read(picture, boxes).equal(predictor(picture, boxes))


def test_loading_is_silent_frozen_and_leaves_the_generator(directory, capfd, recwarn):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    network = MaskPredictor(directory, device="cpu")._network
    assert torch.rand(3).equal(expected)
    assert not network.training
    assert not any(value.requires_grad for value in network.parameters())
    assert capfd.readouterr() == ("", "")
    assert not list(recwarn)


def test_weights_are_read_strictly(own):
    key = "mask_decoder.iou_token.weight"
    change_weights(own, removed=key, **{"mask_decoder.more": torch.zeros(2)})
    with pytest.raises(ValueError, match=says(f"missing {key}", "unexpected mask_decoder.more")):
        MaskPredictor(own, device="cpu")


def test_weights_of_another_size_and_those_that_are_not_finite(own):
    key = "no_memory_embedding"
    change_weights(own, **{key: torch.zeros(1, 1, 5)})
    with pytest.raises(ValueError, match=says(key, "(1, 1, 5)", "(1, 1, 32)")):
        MaskPredictor(own, device="cpu")
    change_weights(own, **{key: torch.full((1, 1, 32), float("nan"))})
    with pytest.raises(ValueError, match=says(key)):
        MaskPredictor(own, device="cpu")


def test_another_architecture_is_refused(own):
    change_json(own, "config.json", model_type="d_fine", auto_map={"AutoModel": "code.Model"})
    with pytest.raises(ValueError, match=says("d_fine", "SAM 2", "facebook/sam2.1-hiera-tiny")):
        MaskPredictor(own, device="cpu")


def test_pickles_are_not_read(own):
    weights = load_file(own / "model.safetensors")
    (own / "model.safetensors").unlink()
    torch.save(weights, own / "pytorch_model.bin")
    with pytest.raises(ValueError, match="safetensors"):
        MaskPredictor(own, device="cpu")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_weights_that_are_cut_off_are_named(own, share):
    path = own / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=says("model.safetensors")):
        MaskPredictor(own, device="cpu")


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("content", [None, "", "[]", "{", "\x00\xff"])
def test_broken_settings_are_named(own, name, content):
    (own / name).unlink() if content is None else (own / name).write_text(content)
    with pytest.raises(ValueError, match=says(name)):
        MaskPredictor(own, device="cpu")


@pytest.mark.parametrize("part", ["vision_config", "prompt_encoder_config", "mask_decoder_config"])
@pytest.mark.parametrize("value", [7, {"hidden_size": "wide"}, {"hidden_size": -1}])
def test_broken_sizes_are_named(own, part, value):
    change_json(own, "config.json", **{part: value})
    with pytest.raises(ValueError, match="config"):
        MaskPredictor(own, device="cpu")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("preprocessor_config.json", {"size": {"height": 32, "width": 32}}),
        ("preprocessor_config.json", {"size": {"height": 64, "width": 32}}),
        ("preprocessor_config.json", {"size": {"longest_edge": 64}}),
        ("processor_config.json", {"target_size": 32}),
    ],
)
def test_sizes_of_two_networks_are_refused(own, name, changes):
    change_json(own, name, **changes)
    with pytest.raises(ValueError, match=says("preprocessor_config.json")):
        MaskPredictor(own, device="cpu")


@pytest.mark.parametrize("name", ["", None, 3, "nowhere", "a/b/c"])
def test_names_that_lead_nowhere(name):
    with pytest.raises(ValueError, match=says(repr(name)) if name else "name"):
        MaskPredictor(name, device="cpu")


def test_unknown_devices_are_named(directory):
    with pytest.raises(ValueError, match=says("tpu")):
        MaskPredictor(directory, device="tpu")
