"""One picture in two frames: sizes, pixels and boxes, for upright, lying and padded pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import Pad, Resize
from mmdet.registry import MODELS
from mmengine.model import BaseDataPreprocessor

from fgclip_det.models.regions.detector_pixels import check_preprocessor, picture_size, to_rgb

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


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
