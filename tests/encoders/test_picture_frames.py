"""One picture in two frames: pixels and boxes, for upright and lying pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from fgclip_det.encoders.picture_frames import map_boxes, normalize_and_pad, resize_picture

SIZES = [(64, 96), (96, 64), (75, 50), (33, 127), (201, 40)]


def ramps(height, width):
    """(3, height, width): the x of each pixel's centre, its y, and a constant."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x, y, torch.full_like(x, 50.0)])


def test_boxes_scale_with_each_side():
    boxes = torch.tensor([[0.0, 0.0, 96.0, 64.0], [24.0, 16.0, 48.0, 40.0]])
    squashed = map_boxes(boxes, (64, 96), (224, 224))
    expected = [[0, 0, 224, 224], [56, 56, 112, 140]]
    torch.testing.assert_close(squashed, torch.tensor(expected, dtype=torch.float32))
    assert map_boxes(boxes[:0].double(), (3, 4), (5, 6)).dtype == torch.float32


@pytest.mark.parametrize("source", SIZES)
@pytest.mark.parametrize("target", [(224, 224), (48, 160), (1024, 16)])
def test_boxes_come_back(source, target):
    limits = torch.tensor([*reversed(source)] * 2, dtype=torch.float32)
    boxes = torch.rand(50, 4) * limits
    there = map_boxes(boxes, source, target)
    torch.testing.assert_close(map_boxes(there, target, source), boxes, rtol=1e-6, atol=1e-5)
    whole = map_boxes(torch.cat([torch.zeros(2), limits[:2]])[None], source, target)
    torch.testing.assert_close(whole[0, 2:], torch.tensor([*reversed(target)]).float())


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("source", SIZES)
@pytest.mark.parametrize("target", [(224, 224), (32, 48), (48, 32), (80, 16)])
@pytest.mark.parametrize(("resampler", "off"), [("tensor", 0.08), ("pillow", 1.1)])
def test_pixels_move_as_boxes_do(source, target, mode, resampler, off):
    resized = resize_picture(ramps(*source), target, mode, resampler)
    assert resized.shape == (3, *target)
    centres = ramps(*target)[:2].flatten(1).T
    boxes = torch.cat([centres, centres], dim=1)
    expected = map_boxes(boxes, target, source)[:, :2].T.unflatten(1, target)
    # Beside the edges, which a window reaches beyond, a ramp stays a ramp; filters have rounded
    # weights where they shrink a picture, and Pillow rounds before, between and after its passes.
    y, x = (int(3 * max(1, t / s)) + 1 for s, t in zip(source, target, strict=True))
    inner = (slice(None), slice(y, -y), slice(x, -x))
    assert expected[inner].numel()
    torch.testing.assert_close(resized[:2][inner], expected[inner], atol=off, rtol=0)
    assert (resized[:2][inner] - expected[inner]).mean().abs() < 0.1
    torch.testing.assert_close(resized[2], torch.full(target, 50.0), atol=1e-3, rtol=0)


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_resizes_as_image_processors_do(mode):
    # Far from the limits, where Pillow would cut what overshoots between its two passes.
    picture = np.random.default_rng(0).integers(64, 192, (61, 90, 3), np.uint8)
    pillow = Image.fromarray(picture).resize((48, 32), Image.Resampling[mode.upper()])
    expected = torch.from_numpy(np.array(pillow)).permute(2, 0, 1).float()
    tensor = torch.from_numpy(picture).permute(2, 0, 1).float()
    # Pillow rounds to whole values after each of its two passes.
    resized = resize_picture(tensor, (32, 48), mode, "tensor")
    torch.testing.assert_close(resized, expected, atol=1.5, rtol=0)
    edge = torch.zeros(3, 8, 8)
    edge[:, :, 4:] = 255
    large = resize_picture(edge, (64, 64), mode, "tensor")
    assert large.min() == 0 and large.max() == 255
    assert resize_picture(tensor, (61, 90), mode) is tensor


def test_padding_is_the_mean_and_whole_patches():
    picture = torch.full((3, 20, 32), 255.0)
    pixels = normalize_and_pad(picture, (0.5, 0.25, 0.0), (0.5, 0.25, 1.0), 16)
    assert pixels.shape == (3, 32, 32)
    assert pixels[:, 0, 0].tolist() == [1.0, 3.0, 1.0]
    assert pixels[:, 20:].abs().sum() == 0


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(32, 48), (128, 130)])
def test_pillows_resize_is_pillows(mode, size):
    picture = np.random.default_rng(0).integers(0, 256, (61, 90, 3), np.uint8)
    pillow = Image.fromarray(picture).resize(size[::-1], Image.Resampling[mode.upper()])
    whole = torch.from_numpy(picture).permute(2, 0, 1)
    expected = torch.from_numpy(np.array(pillow)).permute(2, 0, 1).float()
    for given in (whole, whole.float(), whole.float() + 0.3):
        assert torch.equal(resize_picture(given, size, mode), expected)
    assert torch.equal(resize_picture(whole, (61, 90), mode), whole.float())


def test_whole_numbers_are_resized_as_torchvision_does_it():
    from torchvision.transforms.v2 import functional

    picture = torch.randint(0, 256, (3, 61, 90), dtype=torch.uint8)
    expected = functional.resize(picture, [32, 48], antialias=True)
    resized = resize_picture(picture, (32, 48), "bilinear", "tensor")
    assert resized.dtype == torch.float32
    assert torch.equal(resized, expected.float())
    rounded_late = resize_picture(picture.float(), (32, 48), "bilinear", "tensor")
    assert not torch.equal(resized, rounded_late)
