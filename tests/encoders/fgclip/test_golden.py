"""Equality with the authors' own implementation, to the tolerance the numbers were made for."""

import pytest
import torch
from safetensors.torch import load_file

from fgclip_det.encoders import FGCLIP

TOLERANCE = dict(atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def model(golden_dir):
    return FGCLIP.from_pretrained(golden_dir / "fgclip_tiny")


@pytest.fixture(scope="module")
def expected(golden_dir):
    return load_file(golden_dir / "fgclip_tiny" / "expected.safetensors")


@pytest.mark.parametrize("size", ["", "_48x96", "_112x80"])
def test_image_and_dense_features(model, expected, size):
    pixels = expected[f"pixel_values{size}"]
    torch.testing.assert_close(
        model.encode_image(pixels), expected[f"image_features{size}"], **TOLERANCE
    )
    dense = model.encode_dense(pixels)
    assert dense.shape[1:3] == (pixels.shape[2] // 16, pixels.shape[3] // 16)
    torch.testing.assert_close(dense.flatten(1, 2), expected[f"dense_features{size}"], **TOLERANCE)


def test_region_features(model, expected):
    rois = expected["roi_boxes_feature_coords"]
    boxes = [rois[rois[:, 0] == image, 1:] * model.patch_size for image in range(2)]
    regions = model.encode_regions(expected["pixel_values"], boxes)
    by_image = torch.argsort(rois[:, 0], stable=True)
    torch.testing.assert_close(regions, expected["roi_features"][by_image], **TOLERANCE)


@pytest.mark.parametrize("text_length", ["short", "long"])
def test_text_features(model, expected, text_length):
    features = model.encode_tokens(expected[f"input_ids_{text_length}"], text_length)
    torch.testing.assert_close(features, expected[f"text_features_{text_length}"], **TOLERANCE)


def test_one_pass_gives_class_and_dense(model, expected):
    pixels = expected["pixel_values_48x96"]
    class_token, dense = model.vision_model.forward_class_and_dense(pixels)
    torch.testing.assert_close(model.visual_projection(class_token), model.encode_image(pixels))
    torch.testing.assert_close(model.visual_projection(dense), model.encode_dense(pixels))


def test_last_tap_projects_to_the_dense_map(model, expected):
    pixels = expected["pixel_values"]
    taps = model.vision_model.forward_taps(pixels, [0, 2])
    assert [tuple(tap.shape) for tap in taps] == [(2, 4, 4, 32)] * 2
    torch.testing.assert_close(model.project_dense(taps[-1]), model.encode_dense(pixels))
