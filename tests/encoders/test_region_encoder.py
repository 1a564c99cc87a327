"""What the encoder sees in a box is what is in the box, at whatever size it reads the picture."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fgclip_det.encoders import RegionEncoder
from tests.encoders.test_picture_frames import SIZES, ramps
from tests.tiny_encoders import tiny_fgclip, tiny_fgclip2

FRAMES = [
    dict(resize="canvas"),
    dict(resize="squash", size=320),
    dict(resize="keep_ratio", size=320),
    dict(resize="patches", max_patches=300),
]


def mean_colors(encoder):
    """Make an encoder see the mean colour of each patch, and nothing else."""
    encoder.image_mean, encoder.image_std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    encoder.encode_dense = lambda pixels: F.avg_pool2d(pixels, 16).permute(0, 2, 3, 1)
    return encoder


@pytest.fixture
def first():
    return tiny_fgclip()


@pytest.fixture
def second():
    return tiny_fgclip2()


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame["resize"])
@pytest.mark.parametrize("size", [(200, 240), (240, 200), (97, 251), (251, 97)])
@pytest.mark.parametrize(("resampler", "off"), [("tensor", 0.05), ("pillow", 0.5)])
def test_boxes_mean_the_same_place_in_each_frame(
    second, frame, size, interpolation, resampler, off
):
    # The mean of a ramp over a box is where the box's centre is; Pillow rounds it.
    encoder = RegionEncoder(
        mean_colors(second), interpolation=interpolation, resampler=resampler, **frame
    )
    height, width = size
    x, y = torch.meshgrid(torch.linspace(0.3, 0.6, 4), torch.linspace(0.35, 0.65, 3), indexing="xy")
    corners = torch.stack([x.flatten() * width, y.flatten() * height], dim=1)
    boxes = torch.cat([corners, corners + torch.tensor([0.1 * width, 0.08 * height])], dim=1)
    (found,) = encoder([ramps(height, width)], [boxes])
    assert found.shape == (12, 3)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(12))
    centres = 50.0 * found[:, :2] / found[:, 2:]
    torch.testing.assert_close(centres, (boxes[:, :2] + boxes[:, 2:]) / 2, atol=off, rtol=0)


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame["resize"])
def test_pictures_of_other_sizes_change_nothing(second, frame):
    encoder = RegionEncoder(second, **frame)
    pictures = [torch.rand(3, *size) * 255 for size in [*SIZES, SIZES[0]]]
    boxes = [
        torch.tensor([[2.0, 3, 30, 20], [0, 0, 20, 33], [5, 5, 6, 6]])[: index % 4]
        for index in range(len(pictures))
    ]
    together = encoder(pictures, boxes)
    assert [len(found) for found in together] == [0, 1, 2, 3, 0, 1]
    for picture, own, found in zip(pictures, boxes, together, strict=True):
        (alone,) = encoder([picture], [own])
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=0)


def test_squash_is_the_encoders_own_protocol(first):
    from PIL import Image

    picture = torch.randint(0, 256, (3, 90, 61), dtype=torch.uint8)
    boxes = torch.tensor([[3.0, 10, 50, 80], [20, 20, 60, 30]])
    (found,) = RegionEncoder(first)([picture.float()], [boxes])
    pixels = first.preprocess([Image.fromarray(picture.permute(1, 2, 0).numpy())])
    side = first.image_size
    scale = torch.tensor([side / 61, side / 90] * 2)
    expected = first.encode_regions(pixels, [boxes * scale], normalize=True)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
    (features,) = RegionEncoder(first)([picture], [boxes], normalize=False)
    torch.testing.assert_close(found, F.normalize(features, dim=-1))


def test_a_map_of_one_picture(second):
    encoder = RegionEncoder(second, "keep_ratio", 100)
    picture = torch.rand(3, 90, 61) * 255
    dense = encoder.encode_dense(picture)
    assert dense.shape[:2] == (6, 4)
    boxes = torch.tensor([[5.0, 5, 40, 60]])
    (found,) = encoder([picture], [boxes], normalize=False)
    scaled = boxes * torch.tensor([64 / 61, 96 / 90] * 2)
    torch.testing.assert_close(found, second.pool_regions(dense[None], [scaled]))


@pytest.mark.parametrize("max_patches", [None, 9, 64])
def test_patches_are_the_second_generations_own_protocol(second, max_patches):
    from PIL import Image

    picture = torch.randint(0, 256, (3, 90, 61), dtype=torch.uint8)
    boxes = torch.tensor([[3.0, 10, 50, 80], [20, 20, 60, 30]])
    (found,) = RegionEncoder(second, max_patches=max_patches)([picture.float()], [boxes])
    packed = second.preprocess([Image.fromarray(picture.permute(1, 2, 0).numpy())], max_patches)
    expected = second.encode_regions(packed, [boxes], normalize=True, image_sizes=[(90, 61)])
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


def test_more_patches_than_the_position_table_has(second):
    rows, columns = second.config.vision.grid
    encoder = RegionEncoder(second, max_patches=8 * rows * columns)
    height, width = encoder.frame_size((300, 500), (300, 500))
    assert 4 * rows * columns < height * width / 256 <= 8 * rows * columns
    (found,) = encoder([torch.rand(3, 300, 500) * 255], [torch.tensor([[9.0, 9, 400, 200]])])
    assert found.isfinite().all() and found.norm() == pytest.approx(1.0)


def test_the_budget_is_that_of_the_original_picture(second):
    encoder = RegionEncoder(second)
    small, large = (encoder.frame_size((60, 80), size) for size in ((60, 80), (600, 800)))
    assert small == second.resized_shape(60, 80, 128)
    assert large == second.resized_shape(60, 80, 1024)


def test_defaults_follow_the_generation(first, second):
    assert RegionEncoder(first).resize == "squash"
    assert RegionEncoder(first).interpolation == "bicubic"
    assert RegionEncoder(second).resize == "patches"
    assert RegionEncoder(second).interpolation == "bilinear"
    assert RegionEncoder(first).resampler == RegionEncoder(second).resampler == "pillow"
    assert int(first.image_processor.resample) == 3  # Pillow's bicubic
    assert int(second.image_processor.resample) == 2  # Pillow's bilinear


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(resize="crop"), "resize is 'crop': choose"),
        (dict(resize="patches"), "FG-CLIP 2's: choose another"),
        (dict(resize="canvas", size=64), "size is for"),
        (dict(size=40), "size is 40: it must be a multiple of the 16-pixel patch"),
        (dict(size=0), "size is 0"),
        (dict(max_patches=9), 'max_patches is for resize="patches"'),
        (dict(interpolation="area"), "interpolation is 'area'"),
        (dict(resampler="opencv"), "resampler is 'opencv'"),
        (dict(resize="keep_ratio", size=15), "size is 15"),
    ],
)
def test_wrong_settings_are_named(first, settings, words):
    with pytest.raises(ValueError, match=words):
        RegionEncoder(first, **settings)


def test_what_does_not_fit_is_named(first, second):
    with pytest.raises(ValueError, match="max_patches is 0"):
        RegionEncoder(second, max_patches=0)
    picture = torch.zeros(3, 64, 64)
    with pytest.raises(ValueError, match="1 pictures, 2 box tensors and 1 sizes"):
        RegionEncoder(first)([picture], [torch.zeros(0, 4)] * 2)
