"""One picture in two frames: sizes, pixels and boxes, for upright, lying and padded pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import Pad, RandomCenterCropPad, Resize
from mmdet.registry import MODELS
from mmengine.model import BaseDataPreprocessor

from fgclip_det.models.regions.detector_pixels import check_preprocessor, picture_slices, to_rgb

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


@pytest.mark.parametrize("keep_ratio", [True, False])
@pytest.mark.parametrize("pad", [None, dict(size=(160, 160)), dict(size_divisor=32)])
def test_a_picture_is_what_the_pipeline_left_at_the_corner(keep_ratio, pad):
    generator = np.random.default_rng(0)
    for _ in range(100):
        height, width = (int(side) for side in generator.integers(1, 900, 2))
        results = dict(img=np.zeros((height, width, 3), np.uint8), img_shape=(height, width))
        results = Resize(scale=(151, 97), keep_ratio=keep_ratio)(results)
        resized = results["img"].shape[:2]
        if pad is not None:
            results = Pad(**pad)(results)
        meta = dict(ori_shape=(height, width), **{k: results[k] for k in ("img_shape",)})
        shown = picture_slices({**meta, "scale_factor": results["scale_factor"]})
        assert shown == (slice(0, resized[0]), slice(0, resized[1]))
    # Nothing is known beyond the shape where nothing was resized.
    assert picture_slices(dict(img_shape=(7, 5, 3))) == (slice(0, 7), slice(0, 5))


# Of CenterNet, of CornerNet and CentripetalNet, and one that mostly pads by an odd number.
CENTRE_PADS = [
    dict(test_pad_mode=("logical_or", 31), test_pad_add_pix=1),
    dict(test_pad_mode=("logical_or", 127)),
    dict(test_pad_mode=("size_divisor", 7)),
]


@pytest.mark.parametrize("settings", CENTRE_PADS)
@pytest.mark.parametrize("size", [(64, 97), (97, 64), (33, 50), (127, 31), (1, 200), (128, 128)])
def test_a_picture_is_where_the_pipeline_centred_it(size, settings):
    pad = RandomCenterCropPad(
        ratios=None, border=None, mean=[0] * 3, std=[1] * 3, to_rgb=True, test_mode=True, **settings
    )
    picture = np.random.default_rng(0).integers(1, 256, (*size, 3)).astype(np.float32)
    results = pad(dict(img=picture, img_shape=size, ori_shape=size))
    rows, columns = picture_slices(results)
    # An odd target that a picture fills loses a row or column of it, which nobody sees.
    shown = results["img"][rows, columns]
    assert (np.array(size) - shown.shape[:2]).max() <= 1
    assert np.array_equal(shown, picture[: shown.shape[0], : shown.shape[1]])
    results["img"][rows, columns] = 0
    assert not results["img"].any()


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
