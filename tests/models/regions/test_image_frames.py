"""One picture in two frames: sizes, pixels and boxes, for upright, lying and padded pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import Pad, Resize
from mmdet.registry import MODELS
from mmengine.model import BaseDataPreprocessor
from PIL import Image

from fgclip_det.models.regions.image_frames import (
    check_preprocessor,
    map_boxes,
    normalize_and_pad,
    picture_size,
    resize_picture,
    to_rgb,
)

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
SIZES = [(64, 96), (96, 64), (75, 50), (33, 127), (201, 40)]


def ramps(height, width):
    """(3, height, width): the x of each pixel's centre, its y, and a constant."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x, y, torch.full_like(x, 50.0)])


@pytest.mark.parametrize("keep_ratio", [True, False])
@pytest.mark.parametrize("pad", [None, dict(size=(160, 160)), dict(size_divisor=32)])
def test_picture_size_is_what_the_pipeline_left(keep_ratio, pad):
    generator = np.random.default_rng(0)
    for _ in range(100):
        height, width = (int(side) for side in generator.integers(1, 900, 2))
        results = dict(img=np.zeros((height, width, 3), np.uint8), img_shape=(height, width))
        results = Resize(scale=(151, 97), keep_ratio=keep_ratio)(results)
        resized = results["img"].shape[:2]
        if pad is not None:
            results = Pad(**pad)(results)
        meta = dict(ori_shape=(height, width), **{k: results[k] for k in ("img_shape",)})
        assert picture_size({**meta, "scale_factor": results["scale_factor"]}) == resized
    # Nothing is known beyond the shape where nothing was resized.
    assert picture_size(dict(img_shape=(7, 5, 3))) == (7, 5)


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
def test_pixels_move_as_boxes_do(source, target, mode):
    resized = resize_picture(ramps(*source), target, mode)
    assert resized.shape == (3, *target)
    centres = ramps(*target)[:2].flatten(1).T
    boxes = torch.cat([centres, centres], dim=1)
    expected = map_boxes(boxes, target, source)[:, :2].T.unflatten(1, target)
    # Beside the edges, which a window reaches beyond, a ramp stays a ramp; filters have rounded
    # weights where they shrink a picture.
    y, x = (int(3 * max(1, t / s)) + 1 for s, t in zip(source, target, strict=True))
    inner = (slice(None), slice(y, -y), slice(x, -x))
    assert expected[inner].numel()
    torch.testing.assert_close(resized[:2][inner], expected[inner], atol=0.08, rtol=0)
    torch.testing.assert_close(resized[2], torch.full(target, 50.0), atol=1e-3, rtol=0)


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_resizes_as_image_processors_do(mode):
    # Far from the limits, where Pillow would cut what overshoots between its two passes.
    picture = np.random.default_rng(0).integers(64, 192, (61, 90, 3), np.uint8)
    pillow = Image.fromarray(picture).resize((48, 32), Image.Resampling[mode.upper()])
    expected = torch.from_numpy(np.array(pillow)).permute(2, 0, 1).float()
    tensor = torch.from_numpy(picture).permute(2, 0, 1).float()
    # Pillow rounds to whole values after each of its two passes.
    torch.testing.assert_close(resize_picture(tensor, (32, 48), mode), expected, atol=1.5, rtol=0)
    edge = torch.zeros(3, 8, 8)
    edge[:, :, 4:] = 255
    large = resize_picture(edge, (64, 64), mode)
    assert large.min() == 0 and large.max() == 255
    assert resize_picture(tensor, (61, 90), mode) is tensor


@pytest.mark.parametrize("bgr_to_rgb", [True, False])
@pytest.mark.parametrize("statistics", [dict(mean=MEAN, std=STD), {}])
def test_a_preprocessor_is_undone(bgr_to_rgb, statistics):
    preprocessor = MODELS.build(
        dict(type="DetDataPreprocessor", bgr_to_rgb=bgr_to_rgb, pad_size_divisor=32, **statistics)
    )
    bgr = torch.randint(0, 256, (3, 50, 40), dtype=torch.uint8)
    inputs = preprocessor(dict(inputs=[bgr], data_samples=None))["inputs"]
    pixels = to_rgb(inputs, preprocessor)
    assert pixels.shape == (1, 3, 64, 64)
    torch.testing.assert_close(pixels[0, :, :50, :40], bgr.flip(0).float(), atol=1e-4, rtol=0)


def test_unknown_preprocessors_are_refused():
    check_preprocessor(MODELS.build(dict(type="DetDataPreprocessor")))
    with pytest.raises(ValueError, match="BaseDataPreprocessor: FG-CLIP needs the pixels"):
        check_preprocessor(BaseDataPreprocessor())


def test_padding_is_the_mean_and_whole_patches():
    encoder = torch.nn.Module()
    encoder.image_mean, encoder.image_std, encoder.patch_size = (0.5, 0.25, 0.0), (0.5, 0.25, 1), 16
    picture = torch.full((3, 20, 32), 255.0)
    pixels = normalize_and_pad(picture, encoder)
    assert pixels.shape == (3, 32, 32)
    assert pixels[:, 0, 0].tolist() == [1.0, 3.0, 1.0]
    assert pixels[:, 20:].abs().sum() == 0
