import pytest
import torch

from fgclip_det.models import ViTFeaturePyramid
from tests.messages import says

BN = {"type": "BN"}


@pytest.mark.parametrize(
    ("stride", "strides"), [(16, (4, 8, 16, 32, 64)), (14, (3.5, 7, 14, 28, 56))]
)
def test_recipe_levels(stride, strides):
    neck = ViTFeaturePyramid(8, stride, out_channels=4, norm_cfg=BN)
    neck.init_weights()
    levels = neck([torch.randn(2, 8, 6, 10)] * 4)
    assert neck.strides == strides
    sizes = [tuple(level.shape) for level in levels]
    assert sizes == [(2, 4, h, w) for h, w in ((24, 40), (12, 20), (6, 10), (3, 5), (2, 3))]
    for level, expected in zip(levels, strides, strict=True):
        assert level.shape[-1] == -(-10 * stride // expected)


def test_odd_grid_and_channels_last():
    neck = ViTFeaturePyramid(8, 16, out_channels=4, norm_cfg=BN).eval()
    maps = [torch.randn(1, 5, 7, 8).permute(0, 3, 1, 2)] * 4
    assert [tuple(level.shape[-2:]) for level in neck(maps)][:4] == [
        (20, 28),
        (10, 14),
        (5, 7),
        (2, 3),
    ]
    contiguous = neck([m.contiguous() for m in maps])
    for a, b in zip(neck(maps), contiguous, strict=True):
        torch.testing.assert_close(a, b)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=says("3", "use 4, 2, 1, 0.5")):
        ViTFeaturePyramid(8, 16, scales=(3, 1), norm_cfg=BN)
    with pytest.raises(ValueError, match=says("num_outs 1", "2 scales")):
        ViTFeaturePyramid(8, 16, scales=(2, 1), num_outs=1, norm_cfg=BN)
    with pytest.raises(
        ValueError, match=says("3 maps", "4 scales", "neck.scales", "backbone.out_indices")
    ):
        ViTFeaturePyramid(8, 16, norm_cfg=BN)([torch.randn(1, 8, 2, 2)] * 3)
