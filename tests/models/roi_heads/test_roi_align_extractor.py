import pytest
import torch
import torchvision
from mmdet.registry import MODELS

from fgclip_det.models import RoIAlignExtractor

STRIDES = (4, 8, 16)


@pytest.fixture
def extractor():
    config = dict(type="RoIAlignExtractor", out_channels=2, featmap_strides=STRIDES)
    return MODELS.build(dict(config, output_size=2, finest_scale=16))


def feats(dtype=torch.float32, size=2048):
    """Maps that hold each cell's centre, in pixels."""
    maps = []
    for stride in STRIDES:
        centres = (torch.arange(size // stride) + 0.5) * stride
        x, y = centres.expand(16 // 4, -1), torch.zeros(4, size // stride)
        maps.append(torch.stack([x, y])[None].to(dtype))
    return maps


def test_levels_by_size(extractor):
    sides = torch.tensor([1.0, 31.9, 32.1, 63.9, 64.1, 5000.0, -3.0])
    rois = torch.zeros(7, 5)
    rois[:, 3:] = sides[:, None]
    assert extractor.map_roi_levels(rois).tolist() == [0, 0, 1, 1, 2, 2, 0]


def test_pools_coordinates_in_the_order_given(extractor):
    rois = torch.tensor([[0, 100.0, 0, 180, 16], [0, 200.0, 0, 210, 16], [0, 40, 0, 72, 32.0]])
    pooled = extractor(feats(), rois)
    # A ramp's average over a bin is its value in the middle.
    expected = torch.tensor([[120.0, 160], [202.5, 207.5], [48, 64]])
    torch.testing.assert_close(pooled[:, 0].mean(dim=1), expected)


def test_boxes_stay_float32_for_bfloat16_features(extractor):
    step = [torch.zeros(1, 2, 4, 2048 // s, dtype=torch.bfloat16) for s in STRIDES]
    # The picture changes at x = 1336, to which bfloat16 rounds 1333.
    step[0][..., 1336 // 4 :] = 1.0
    pooled = extractor(step, torch.tensor([[0, 1325.0, 0, 1333, 8]]))
    assert pooled.dtype == torch.bfloat16
    assert float(pooled.abs().max()) <= 0.5
    assert float(pooled[..., 0].abs().max()) == 0.0


def test_no_boxes_and_gradients_on_every_level(extractor):
    maps = [m.requires_grad_() for m in feats(size=64)]
    empty = extractor(maps, torch.zeros(0, 5))
    assert empty.shape == (0, 2, 2, 2)
    extractor(maps, torch.tensor([[0, 0.0, 0, 8, 8]])).sum().backward()
    assert all(m.grad is not None for m in maps)
    assert float(maps[0].grad.sum()) == pytest.approx(2 * 4)


@pytest.mark.parametrize("patch", [14, 16])
def test_a_box_of_whole_cells_takes_a_sample_of_each(patch):
    # Strides of a pyramid on the patches of an encoder: 3.5, 7, 14 and 28 pixels, or 4 to 32.
    strides = [patch / 4, patch / 2, patch, 2 * patch]
    extractor = RoIAlignExtractor(3, strides, output_size=7, finest_scale=3.5 * patch)
    maps = [torch.randn(2, 3, 96, 96) for _ in strides]
    for level, stride in enumerate(strides):
        # As many cells as bins, from 1 to 8 for each.
        cells = torch.tensor([[0.0, 0, 7 * n, 7 * n] for n in range(1, 9)])
        cells = torch.cat([cells, cells + 3])
        rois = torch.cat([torch.ones(len(cells), 1), cells * stride], dim=1)
        extractor.map_roi_levels = lambda rois, own=level: torch.full((len(rois),), own)
        expected = torchvision.ops.roi_align(maps[level][1:], [cells], 7, 1.0, -1, True)
        torch.testing.assert_close(extractor(maps, rois), expected, atol=1e-6, rtol=1e-6)


def test_levels_and_strides_must_fit():
    with pytest.raises(ValueError, match="2 levels for 3 featmap_strides"):
        RoIAlignExtractor(2, STRIDES)(feats()[:2], torch.zeros(0, 5))
