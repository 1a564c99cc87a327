"""FG-CLIP 2: equality with the authors' own implementation, to the golden tolerance."""

import pytest
import torch
from safetensors.torch import load_file

from fgclip_det.encoders import FGCLIP2, PackedImages

TOLERANCE = dict(atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def model(golden_dir):
    return FGCLIP2.from_pretrained(golden_dir / "fgclip2_tiny")


@pytest.fixture(scope="module")
def expected(golden_dir):
    return load_file(golden_dir / "fgclip2_tiny" / "expected.safetensors")


@pytest.fixture(scope="module")
def packed(expected):
    names = ("pixel_values", "pixel_attention_mask", "spatial_shapes")
    return PackedImages(**{name: expected[name] for name in names})


def unpacked(expected, index):
    """(1, 3, H, W) pixels of one of the packed images."""
    rows, columns = expected["spatial_shapes"][index].tolist()
    cells = expected["pixel_values"][index, : rows * columns].reshape(rows, columns, 8, 8, 3)
    return torch.einsum("yxvuc->cyvxu", cells).reshape(1, 3, rows * 8, columns * 8)


def test_two_shapes_in_one_batch(model, expected, packed):
    torch.testing.assert_close(model.encode_image(packed), expected["image_pooler"], **TOLERANCE)
    torch.testing.assert_close(model.encode_dense(packed), expected["dense_features"], **TOLERANCE)


def test_regions_in_pixels_of_the_original_pictures(model, expected, packed):
    boxes = [expected["regions_0"], expected["regions_1"]]
    sizes = expected["image_sizes_hw"]
    regions = model.encode_regions(packed, boxes, image_sizes=sizes)
    wanted = torch.cat([expected["region_features_0"], expected["region_features_1"]])
    torch.testing.assert_close(regions, wanted, **TOLERANCE)


@pytest.mark.parametrize("index", [0, 1])
def test_pixels_of_one_picture_give_the_same(model, expected, index):
    images = unpacked(expected, index)
    rows, columns = expected["spatial_shapes"][index].tolist()
    torch.testing.assert_close(
        model.encode_image(images)[0], expected["image_pooler"][index], **TOLERANCE
    )
    dense = model.encode_dense(images)
    assert dense.shape == (1, rows, columns, 32)
    torch.testing.assert_close(
        dense[0].flatten(0, 1), expected["dense_features"][index, : rows * columns], **TOLERANCE
    )
    boxes, size = expected[f"regions_{index}"], expected["image_sizes_hw"][index]
    wanted = expected[f"region_features_{index}"]
    regions = model.encode_regions(images, [boxes], image_sizes=[size.tolist()])
    torch.testing.assert_close(regions, wanted, **TOLERANCE)
    x, y = columns * 8 / size[1], rows * 8 / size[0]
    in_pixels = boxes * torch.stack([x, y, x, y])
    torch.testing.assert_close(model.encode_regions(images, [in_pixels]), wanted, **TOLERANCE)


@pytest.mark.parametrize("text_length", ["short", "box", "long"])
def test_text_features(model, expected, text_length):
    ids = expected["input_ids_long" if text_length == "long" else "input_ids_short"]
    features = model.encode_tokens(ids, text_length)
    torch.testing.assert_close(features, expected[f"text_features_{text_length}"], **TOLERANCE)


def test_masked_text_features(model, expected):
    ids, mask = expected["input_ids_short"], expected["attention_mask_short"]
    features = model.encode_tokens(ids, "box", attention_mask=mask)
    torch.testing.assert_close(features, expected["text_features_box_masked"], **TOLERANCE)


def test_last_tap_projects_to_the_dense_map(model, expected):
    images = unpacked(expected, 0)
    taps = model.vision_model.forward_taps(images, [0, 2])
    assert [tuple(tap.shape) for tap in taps] == [(1, 4, 6, 32)] * 2
    projected = model.project_dense(taps[-1])[0].flatten(0, 1)
    torch.testing.assert_close(projected, expected["dense_features"][0, :24], **TOLERANCE)
