"""Each family against a loop over transformers' own forward, on whichever release is installed."""

from __future__ import annotations

import json

import pytest
import torch
import torchvision.transforms.v2.functional as tvF
import transformers
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoTokenizer

from fgclip_det.models.hub_families import FAMILIES as KNOWN
from fgclip_det.models.hub_families import read_family
from tests.tiny_hub_detectors import FAMILIES, IS_5, SIDE, write_tiny

SIZES = [(48, 80), (90, 40), (64, 64), (7, 3)]


def prompt_of(family):
    return "object." if "grounding" in family else None


def picture_of(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator).byte()


@pytest.fixture(scope="module", params=FAMILIES)
def tiny(request, tmp_path_factory):
    """The name of a family, and the directory of a checkpoint of it."""
    return request.param, write_tiny(request.param, tmp_path_factory.mktemp(request.param))


def own_class(family, directory):
    return getattr(transformers, KNOWN[family]).from_pretrained(directory).eval()


def processed(directory, picture):
    fast = {} if IS_5 else {"use_fast": True}
    processor = AutoImageProcessor.from_pretrained(directory, **fast)
    image = picture.permute(1, 2, 0).numpy()
    return processor(images=image, return_tensors="pt", input_data_format="channels_last")


@torch.no_grad()
def by_hand(family, directory, picture):
    """Boxes and scores, query by query, in plain numbers."""
    height, width = picture.shape[-2:]
    settings = {}
    if family == "mm-grounding-dino" and IS_5:
        settings = dict(decoder_bbox_embed_share=False, decoder_cls_embed_share=False)
    network = getattr(transformers, KNOWN[family]).from_pretrained(directory, **settings).eval()
    if family == "owlv2":
        height = width = max(height, width)
        square = torch.full((3, height, width), 0.5)
        square[:, : picture.shape[1], : picture.shape[2]] = picture / 255
        features, _ = network.image_embedder(reference_pixels(square))
        features = features.reshape(1, -1, features.shape[-1])
        shares = network.box_predictor(
            features, network.image_embedder(reference_pixels(square))[0]
        )
        logits = network.objectness_predictor(features)[..., None]
    else:
        given = dict(processed(directory, picture))
        if prompt_of(family):
            tokenizer = AutoTokenizer.from_pretrained(directory)
            given |= tokenizer("object.", return_tensors="pt", return_token_type_ids=True)
        found = network(**given)
        shares, logits = found.pred_boxes, found.logits
    boxes, scores = [], []
    for (x, y, w, h), row in zip(shares[0].tolist(), logits[0], strict=True):
        boxes.append([(x - w / 2) * width, (y - h / 2) * height])
        boxes[-1] += [(x + w / 2) * width, (y + h / 2) * height]
        scores.append(max(1 / (1 + torch.exp(-value.double())) for value in row))
    return torch.tensor(boxes), torch.tensor(scores).float()


def reference_pixels(square):
    """OWLv2's: blurred where it shrinks, resized without more smoothing, normalised."""
    shrink = square.shape[-1] / SIDE
    if shrink > 1:
        sigma = (shrink - 1) / 2
        size = 2 * int(-(-3 * sigma // 1)) + 1
        square = tvF.gaussian_blur(square, [size, size], [sigma, sigma])
    resized = tvF.resize(square, [SIDE, SIDE], antialias=False)
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    return tvF.normalize(resized, mean, std)[None]


@pytest.mark.parametrize("size", SIZES)
def test_boxes_are_those_of_the_loop(tiny, size):
    family, directory = tiny
    picture = picture_of(*size)
    boxes, scores = read_family(directory, prompt_of(family))(picture)
    expected_boxes, expected_scores = by_hand(family, directory, picture)
    assert len(boxes) == len(expected_boxes) >= 10
    torch.testing.assert_close(boxes, expected_boxes, atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(scores, expected_scores, atol=1e-6, rtol=0)
    assert boxes.std(dim=0).min() > 0.01  # else all of them could be one


@pytest.mark.parametrize("size", [(48, 80), (200, 130), (64, 64), (1, 5)])
def test_owlv2_sees_grey_around_a_picture(tmp_path, size):
    family = read_family(write_tiny("owlv2", tmp_path))
    picture, side = picture_of(*size), max(size)
    square = torch.full((3, side, side), 0.5)
    square[:, : size[0], : size[1]] = picture / 255
    got = family.pixel_values(picture)
    torch.testing.assert_close(got, reference_pixels(square), atol=1e-6, rtol=0)
    if size[0] < size[1] and side <= SIDE:
        grey = (0.5 - torch.tensor([0.48145466, 0.4578275, 0.40821073])) / torch.tensor(
            [0.26862954, 0.26130258, 0.27577711]
        )
        torch.testing.assert_close(got[0, :, -1, -1], grey)


def test_owlv2_keeps_no_text_tower(tmp_path):
    family = read_family(write_tiny("owlv2", tmp_path))
    names = [name for name, _ in family.named_parameters()]
    assert any("vision_model" in name for name in names)
    assert not [name for name in names if "text" in name or "class_head" in name]
    assert family.nms_iou == 0.7


def test_heads_of_mm_grounding_dino_stay_their_own(tmp_path):
    directory = write_tiny("mm-grounding-dino", tmp_path)
    assert "decoder_bbox_embed_share" not in json.loads((directory / "config.json").read_text())
    network = read_family(directory, "object.").network
    first, second = (head.layers[0].weight for head in network.bbox_embed)
    stored = load_file(directory / "model.safetensors")
    for row, weight in enumerate((first, second)):
        key = f"bbox_embed.{row}.layers.0.weight"  # 4.57 stores them as the decoder's
        assert weight.equal(stored.get(key, stored.get(f"model.decoder.{key}")))
    assert not first.equal(second)


@pytest.mark.skipif(not IS_5, reason="older releases know no such settings")
def test_heads_that_a_config_ties_stay_tied(tmp_path):
    sizes = dict(decoder_bbox_embed_share=True, decoder_cls_embed_share=True)
    config = transformers.MMGroundingDinoConfig.from_pretrained(
        write_tiny("mm-grounding-dino", tmp_path / "sizes"), **sizes
    )
    transformers.MMGroundingDinoForObjectDetection(config).save_pretrained(tmp_path / "tied")
    for path in (tmp_path / "sizes").iterdir():
        if not (tmp_path / "tied" / path.name).exists():
            (tmp_path / "tied" / path.name).write_bytes(path.read_bytes())
    network = read_family(tmp_path / "tied", "object.").network
    first, second = (head.layers[0].weight for head in network.bbox_embed)
    assert first.equal(second)


@pytest.mark.parametrize(
    ("family", "way", "value"),
    [
        ("owlv2", ("vision_config", "hidden_size"), 10**9),
        ("owlv2", ("vision_config", "image_size"), 10**9),
        ("owlv2", ("text_config", "num_hidden_layers"), 1000),
        ("owlv2", ("projection_dim",), 10**30),
        ("rt_detr", ("decoder_layers",), 10**6),
        ("rt_detr", ("backbone_config", "depths"), [1, 1, 10**6, 1]),
        ("rt_detr", ("num_queries",), 10**9),
        ("d_fine", ("d_model",), 10**9),
        ("grounding-dino", ("text_config", "max_position_embeddings"), 10**9),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_built(
    tmp_path, monkeypatch, family, way, value
):
    write_tiny(family, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    part = config
    for key in way[:-1]:
        part = part[key]
    part[way[-1]] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.delattr(getattr(transformers, KNOWN[family]), "__init__")
    with pytest.raises(ValueError, match=f"'{way[-1]}' of .*copy weights and config"):
        read_family(tmp_path, prompt_of(family))


def test_a_network_is_frozen_and_in_eval_mode(tiny):
    family, directory = tiny
    read = read_family(directory, prompt_of(family))
    assert not read.training
    assert not any(part.training for part in read.modules())
    assert not any(value.requires_grad for value in read.parameters())
    assert {value.dtype for value in read.parameters()} == {torch.float32}


def test_a_float16_checkpoint_computes_in_float32(tmp_path):
    write_tiny("d_fine", tmp_path)
    model = own_class("d_fine", tmp_path).half()
    model.save_pretrained(tmp_path)
    read = read_family(tmp_path)
    assert {value.dtype for value in read.parameters()} == {torch.float32}
    assert read(picture_of(48, 80))[0].dtype == torch.float32
