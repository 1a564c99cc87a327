import pytest
import torch
from PIL import Image
from transformers import Siglip2ImageProcessor

from fgclip_det.encoders import PackedImages, pack_images
from fgclip_det.encoders.fgclip2.packed_images import keep_ratio_size, resized_shape, to_patches


def test_a_patch_is_its_pixels_row_by_row_channels_together():
    image = torch.arange(3 * 4 * 6.0).view(1, 3, 4, 6)
    patches, grid = to_patches(image, 2)
    assert grid == (2, 3)
    assert patches.shape == (1, 6, 12)
    # Patch (1, 2): pixels (2..3, 4..5) of three channels of 24 pixels each.
    first = [2 * 6 + 4 + 24 * channel for channel in range(3)]
    expected = [v + offset for offset in (0, 1, 6, 7) for v in first]
    assert patches[0, 5].tolist() == expected


def test_pixels_behind_the_last_patch_are_left_out():
    image = torch.randn(1, 3, 5, 7)
    patches, grid = to_patches(image, 2)
    assert grid == (2, 3)
    assert patches.equal(to_patches(image[:, :, :4, :6], 2)[0])


def test_shapes_are_packed_and_padded():
    images = [torch.randn(3, 4, 6), torch.randn(3, 8, 2)]
    packed = pack_images(images, 2, max_num_patches=7)
    assert len(packed) == 2
    assert packed.grids == [(2, 3), (4, 1)]
    assert packed.pixel_attention_mask.tolist() == [[1] * 6 + [0], [1] * 4 + [0] * 3]
    assert packed.pixel_values[1, :4].equal(to_patches(images[1][None], 2)[0][0])
    assert not packed.pixel_values[1, 4:].any()
    assert pack_images(images, 2).pixel_values.shape == (2, 6, 12)


def packed_with(values=(2, 6, 12), mask=(6, 4), shapes=((2, 3), (4, 1))):
    marks = torch.arange(values[1])[None] < torch.tensor(mask)[:, None]
    return PackedImages(torch.zeros(values), marks, torch.tensor(shapes))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: packed_with(values=(1, 2, 6, 12)), r"\(N, L, p \* p \* 3\)"),
        (lambda: packed_with(values=(3, 6, 12)), r"pixel_attention_mask \(3, 6\)"),
        (lambda: packed_with(shapes=((2, 3, 1), (4, 1, 1))), r"spatial_shapes \(2, 2\)"),
        (
            lambda: packed_with(shapes=((2, 3), (7, 1))),
            r"spatial_shapes\[1\] .*7 x 1 .*1 to 6 .*larger max_num_patches",
        ),
        (lambda: packed_with(shapes=((2, 3), (0, 4))), r"spatial_shapes\[1\] is 0 x 4"),
        (lambda: packed_with(shapes=((2, 3), (-2, -2))), r"spatial_shapes\[1\] is -2 x -2"),
        (lambda: packed_with(mask=(6, 3)), "pixel_attention_mask.* spatial_shapes"),
        (lambda: pack_images([], 2), "images is empty"),
        (lambda: pack_images([torch.zeros(3, 1, 9)], 2), "1x9 pixels.* 2-pixel patch.*resize"),
        (
            lambda: pack_images([torch.zeros(3, 2, 2), torch.zeros(3, 4, 8)], 2, 7),
            "image 1 .*8 patches .* 7.*raise max_num_patches",
        ),
    ],
)
def test_what_does_not_fit_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_resized_as_the_image_processor_does():
    processor = Siglip2ImageProcessor(patch_size=16)
    sides = torch.randint(1, 700, (40, 2)).tolist()
    budgets = [1, 2, 7, 16, 128, 256, 576, 1024] * 5
    for (height, width), budget in zip(sides, budgets, strict=True):
        picture = Image.new("RGB", (width, height))
        batch = processor(images=[picture], max_num_patches=budget, return_tensors="pt")
        rows, columns = batch["spatial_shapes"][0].tolist()
        assert resized_shape(height, width, 16, budget) == (16 * rows, 16 * columns)
    assert resized_shape(1, 10_000, 16, 4) == (16, 64)


@pytest.mark.parametrize(
    ("size", "longest", "expected"),
    [
        ((480, 640), 224, (160, 224)),
        ((640, 480), 224, (224, 160)),
        ((100, 100), 224, (224, 224)),
        ((3, 1000), 64, (16, 64)),
    ],
)
def test_keep_ratio(size, longest, expected):
    assert keep_ratio_size(size, longest, 16) == expected
