"""Values, gradients and refusals of the public `roi_align`."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor

from fgclip_det.ops import RoIAlign, reference, roi_align

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10, torch.bfloat16: 2e-2, torch.float16: 2e-3}
NAN, INF = float("nan"), float("inf")
REVERSED = [5.0, 5.0, 2.0, 8.0]
BROKEN = [
    REVERSED,
    [2.0, 8.0, 5.0, 5.0],
    [NAN, 0.0, 4.0, 4.0],
    [0.0, 0.0, 4.0, NAN],
    [0.0, 0.0, INF, 4.0],
    [-INF, -INF, INF, INF],
    [INF, 0.0, INF, 4.0],
]


def random_rois(
    count: int, images: int, size: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """(K, 5) ordered rois in pixels; some reach, some lie outside, some have no area."""
    height, width = size
    ends = torch.rand(count, 2, 2, generator=generator) * 1.6 - 0.3
    low, high = ends.amin(dim=1), ends.amax(dim=1)
    kind = torch.rand(count, generator=generator)
    high[kind < 0.1] = low[kind < 0.1]
    high[kind > 0.9, 0] = low[kind > 0.9, 0]
    low[(kind > 0.1) & (kind < 0.15)] += 3
    high[(kind > 0.1) & (kind < 0.15)] += 3
    scale = torch.tensor([width, height])
    index = torch.randint(0, images, (count, 1), generator=generator).float()
    return torch.cat([index, low * scale, high * scale], dim=1)


def gradient_of(pooled: Tensor, features: Tensor, weights: Tensor) -> Tensor:
    return torch.autograd.grad(pooled, features, weights)[0]


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [-1, 0, 1, 2, 3])
def test_equals_torchvision(sampling_ratio: int, aligned: bool) -> None:
    # 25 cases for each of the ten settings.
    generator = torch.Generator().manual_seed(sampling_ratio + 10 * aligned)
    for case in range(25):
        images, channels, height, width, *bins = (
            int(torch.randint(low, high, (), generator=generator))
            for low, high in ((1, 4), (1, 80), (1, 20), (1, 20), (1, 8), (1, 8))
        )
        stride = (1.0, 4.0, 14.0, 16.0, 7.3)[case % 5]
        features = torch.randn(images, channels, height, width, generator=generator)
        features.requires_grad_()
        rois = random_rois(12, images, (height * stride, width * stride), generator)
        settings = (bins, 1 / stride, sampling_ratio, aligned)
        ours = roi_align(features, rois, *settings)
        theirs = torchvision.ops.roi_align(features, rois, *settings)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
        weights = torch.randn(ours.shape, generator=generator)
        torch.testing.assert_close(
            gradient_of(ours, features, weights),
            gradient_of(theirs, features, weights),
            atol=1e-5,
            rtol=1e-5,
        )


def test_known_values_on_a_slope() -> None:
    # The map is 5 y + x in cells, so each bin holds the slope's value at its centre.
    features = torch.arange(25.0).view(1, 1, 5, 5)
    boxes = [torch.tensor([[1.0, 1.0, 3.0, 3.0]])]
    centre = torch.tensor([1.25, 1.75, 2.25, 2.75])
    slope = 5 * centre[:, None] + centre
    assert torch.allclose(roi_align(features, boxes, 4, aligned=False)[0, 0], slope)
    assert torch.allclose(roi_align(features, boxes, 4)[0, 0], slope - 0.5 * 6)
    halved = [boxes[0] * 2]
    assert torch.allclose(roi_align(features, halved, 4, spatial_scale=0.5)[0, 0], slope - 3)


def test_known_values_at_the_border() -> None:
    # Between -1 and 0 the first cell counts; beyond, samples count as zero and still divide.
    features = torch.full((1, 1, 4, 4), 8.0)
    boxes = [torch.tensor([[-4.0, 0.0, 4.0, 4.0]])]
    pooled = roi_align(features, boxes, 1, aligned=False)
    assert pooled.item() == pytest.approx(8.0 * 5 / 8)


def test_whole_map_is_the_mean() -> None:
    features = torch.randn(2, 3, 6, 9)
    boxes = [torch.tensor([[0.0, 0.0, 9.0, 6.0]])] * 2
    pooled = roi_align(features, boxes, 1).flatten(1)
    torch.testing.assert_close(pooled, features.mean(dim=(2, 3)))


@pytest.mark.parametrize("bins", [1, 3])
@pytest.mark.parametrize("box", BROKEN, ids=str)
def test_broken_boxes_give_zeros_and_no_gradient(box: list[float], bins: int) -> None:
    features = torch.randn(1, 5, 8, 9, requires_grad=True)
    for sampling_ratio in (-1, 2):
        pooled = roi_align(features, [torch.tensor([box])], bins, sampling_ratio=sampling_ratio)
        assert torch.equal(pooled, torch.zeros(1, 5, bins, bins))
        weights = torch.full_like(pooled, NAN)
        assert torch.equal(gradient_of(pooled, features, weights), torch.zeros(1, 5, 8, 9))


def test_broken_boxes_leave_the_others_alone() -> None:
    features = torch.randn(1, 5, 8, 9)
    good = torch.tensor([[1.0, 1.0, 7.0, 6.0]])
    mixed = torch.cat([torch.tensor(BROKEN), good, torch.tensor(BROKEN)])
    assert torch.equal(
        roi_align(features, [mixed], 2)[len(BROKEN)], roi_align(features, [good], 2)[0]
    )


@pytest.mark.parametrize("sampling_ratio", [-1, 2])
@pytest.mark.parametrize("bins", [1, 7])
def test_huge_boxes_cost_nothing(bins: int, sampling_ratio: int) -> None:
    features = torch.randn(1, 3, 8, 9, requires_grad=True)
    huge = torch.tensor([[-1e30, -1e30, 1e30, 1e30], [0.0, 0.0, 1e30, 5.0], [-3e38, 0, 3e38, 5]])
    pooled = roi_align(features, [huge], bins, sampling_ratio=sampling_ratio)
    assert pooled.isfinite().all()
    pooled.sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    if sampling_ratio == -1:
        assert pooled.abs().max() < 1e-20


def test_large_boxes_equal_the_reference() -> None:
    features = torch.randn(1, 3, 20, 30, dtype=torch.float64)
    rois = torch.tensor([[0.0, -900, -700, 1200, 1000], [0, -5e4, 2, 5e4, 9], [0, 3, 3, 4e6, 8]])
    for bins, ratio in ((1, -1), (7, -1), (3, 50)):
        ours = roi_align(features, rois, bins, sampling_ratio=ratio)
        oracle = reference.roi_align(features, rois, 1.0, bins, bins, ratio, True)
        torch.testing.assert_close(ours, oracle, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_each_dtype(dtype: torch.dtype) -> None:
    rois = random_rois(9, 2, (40, 60), torch.Generator().manual_seed(1))
    features = torch.randn(2, 70, 10, 15).to(dtype).requires_grad_()
    exact = features.detach().double().requires_grad_()
    for bins in (1, (2, 3)):
        pooled, oracle = (roi_align(f, rois, bins, 0.25) for f in (features, exact))
        assert pooled.dtype == dtype
        # Sums are taken in float32, so the only error is that of the result.
        close = dict(atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
        torch.testing.assert_close(pooled.double(), oracle, **close)
        weights = torch.randn(pooled.shape).to(dtype)
        ours, theirs = (
            gradient_of(pooled, features, weights),
            gradient_of(oracle, exact, weights.double()),
        )
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), theirs, **close)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_boxes_stay_float32_under_half_features(dtype: torch.dtype) -> None:
    # In bfloat16 the right edge 1333 would be 1336 and the box would reach the ones.
    features = torch.zeros(1, 1, 2, 1400, dtype=dtype)
    features[..., 1334:] = 1
    box = torch.tensor([[1330.0, 0.0, 1333.0, 2.0]])
    assert roi_align(features, [box], 1).item() == 0
    assert roi_align(features, [box + torch.tensor([0.0, 0, 3, 0])], 1).item() > 0


def test_autocast_keeps_dtype_and_values() -> None:
    features = torch.randn(1, 4, 6, 6)
    boxes = [torch.tensor([[0.3, 0.7, 5.1, 4.9]])]
    expected = roi_align(features, boxes, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(roi_align(features, boxes, 2), expected)
        assert roi_align(features.bfloat16(), boxes, 2).dtype == torch.bfloat16


def test_tokens_equal_maps_on_rectangular_grids() -> None:
    tokens = torch.randn(2, 1 + 5 * 7, 12, requires_grad=True)
    boxes = [torch.tensor([[3.0, 4.0, 50.0, 60.0]]), torch.rand(3, 4).cumsum(dim=1) * 20]
    # Behind a class token the tokens of a batch are not dense.
    for some in (tokens[:, 1:], tokens[:, 1:].contiguous()):
        pooled = roi_align(some, boxes, (2, 3), 1 / 14, grid=(5, 7))
        maps = some.reshape(2, 5, 7, 12).permute(0, 3, 1, 2).contiguous()
        expected = roi_align(maps, boxes, (2, 3), 1 / 14)
        assert pooled.shape == (4, 2, 3, 12)
        torch.testing.assert_close(pooled.permute(0, 3, 1, 2), expected)
        weights = torch.randn(pooled.shape)
        torch.testing.assert_close(
            gradient_of(pooled, tokens, weights),
            gradient_of(expected, tokens, weights.permute(0, 3, 1, 2)),
        )


def test_memory_formats_and_strides() -> None:
    features = torch.randn(2, 6, 8, 10)
    rois = random_rois(7, 2, (8, 10), torch.Generator().manual_seed(2))
    expected = roi_align(features, rois, 3)
    assert expected.is_contiguous()
    last = roi_align(features.to(memory_format=torch.channels_last), rois, 3)
    assert last.is_contiguous(memory_format=torch.channels_last)
    wide = torch.randn(2, 12, 16, 10)
    wide[:, ::2, ::2] = features
    for same in (last, roi_align(wide[:, ::2, ::2], rois, 3)):
        assert torch.equal(same, expected)
    strided = torch.randn(7, 10)
    strided[:, ::2] = rois
    assert torch.equal(roi_align(features, strided[:, ::2], 3), expected)


def test_many_channels_of_a_single_cell() -> None:
    # The strides of such a map fit both layouts, those of its result only one.
    features = torch.randn(1, 200, 1, 1, generator=torch.Generator().manual_seed(0))
    whole = torch.tensor([[0.0, 0, 0, 1, 1]])
    for layout in (features, features.to(memory_format=torch.channels_last)):
        torch.testing.assert_close(roi_align(layout, whole, 7), features.expand(1, 200, 7, 7))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradient_has_the_layout_of_the_features(memory_format: torch.memory_format) -> None:
    features = torch.randn(2, 6, 8, 10).to(memory_format=memory_format).requires_grad_()
    rois = random_rois(7, 2, (8, 10), torch.Generator().manual_seed(2))
    # The gradient of a sum has stride zero everywhere.
    gradient = torch.autograd.grad(roi_align(features, rois, 3).sum(), features)[0]
    assert gradient.is_contiguous(memory_format=memory_format)


def test_list_of_boxes_equals_rois() -> None:
    features = torch.randn(3, 4, 8, 8)
    boxes = [torch.rand(2, 4).cumsum(1) * 3, torch.zeros(0, 4), torch.rand(3, 4).cumsum(1) * 3]
    index = torch.tensor([0.0, 0, 2, 2, 2])[:, None]
    rois = torch.cat([index, torch.cat(boxes)], dim=1)
    assert torch.equal(roi_align(features, boxes, 2), roi_align(features, rois, 2))
    as_double = [b.double() for b in boxes]
    assert torch.equal(roi_align(features, as_double, 2), roi_align(features, rois, 2))
    module = RoIAlign(2, spatial_scale=0.5)
    assert torch.equal(module(features, boxes), roi_align(features, boxes, 2, 0.5))
    assert "spatial_scale=0.5" in repr(module)


@pytest.mark.parametrize(
    "boxes", [torch.zeros(0, 5), [torch.zeros(0, 4)] * 2], ids=["rois", "list"]
)
def test_no_boxes(boxes: Tensor | list[Tensor]) -> None:
    features = torch.randn(2, 4, 8, 8, requires_grad=True)
    pooled = roi_align(features, boxes, 3)
    assert pooled.shape == (0, 4, 3, 3)
    assert torch.equal(gradient_of(pooled.sum(), features, torch.ones(())), torch.zeros(2, 4, 8, 8))


@pytest.mark.parametrize("boxes", [torch.zeros(0, 5), []], ids=["rois", "list"])
def test_no_images(boxes: Tensor | list[Tensor]) -> None:
    features = torch.randn(0, 4, 8, 8, requires_grad=True)
    pooled = roi_align(features, boxes, 3)
    assert pooled.shape == (0, 4, 3, 3)
    assert gradient_of(pooled.sum(), features, torch.ones(())).shape == (0, 4, 8, 8)


def test_gradcheck() -> None:
    rois = random_rois(5, 2, (5, 6), torch.Generator().manual_seed(3))
    for memory_format in (torch.contiguous_format, torch.channels_last):
        features = torch.randn(2, 3, 5, 6, dtype=torch.float64)
        features = features.to(memory_format=memory_format).requires_grad_()
        for bins, ratio, aligned in ((1, -1, True), ((2, 3), 2, False)):

            def pool(x: Tensor, bins=bins, ratio=ratio, aligned=aligned) -> Tensor:
                return roi_align(x, rois, bins, 1.0, ratio, aligned)

            assert torch.autograd.gradcheck(pool, features)
            assert torch.autograd.gradgradcheck(pool, features)


def test_backward_repeats_bit_by_bit() -> None:
    features = torch.randn(2, 70, 20, 20, requires_grad=True)
    rois = random_rois(60, 2, (20, 20), torch.Generator().manual_seed(4))
    weights = torch.randn(60, 70, 3, 3)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 3, 2, 1):
            torch.set_num_threads(count)
            pooled = roi_align(features, rois, 3)
            results.append((pooled, gradient_of(pooled, features, weights)))
    finally:
        torch.set_num_threads(threads)
    for pooled, gradient in results[1:]:
        assert torch.equal(pooled, results[0][0])
        assert torch.equal(gradient, results[0][1])


MAPS = torch.zeros(2, 3, 4, 5)
ROIS = torch.zeros(1, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(features=MAPS[0]), r"\(3, 4, 5\); tokens"),
        (dict(features=MAPS.int()), "int32"),
        (dict(features=MAPS[:, :, :0]), r"\(2, 3, 0, 5\)"),
        (dict(grid=(4, 5)), r"grid=\(4, 5\).*\(N, h\*w, C\)"),
        (dict(features=torch.zeros(2, 20, 3), grid=(4, 4)), "16 cells.*20 tokens.*mend the grid"),
        (dict(boxes=torch.zeros(1, 4)), r"rois \(K, 5\).*\(1, 4\)"),
        (dict(boxes=[torch.zeros(1, 4)]), "boxes.* 1 images.* 2; pass one"),
        (dict(boxes=[torch.zeros(1, 4), torch.zeros(4)]), r"boxes\[1\].*\(4,\)"),
        (dict(boxes=torch.tensor([[0.0] * 5, [2.0, 0, 0, 1, 1]])), r"rois\[1, 0\] names image 2"),
        (dict(boxes=torch.tensor([[-1.0, 0, 0, 1, 1]])), r"rois\[0, 0\] names image -1"),
        (dict(boxes=torch.tensor([[NAN, 0, 0, 1, 1]])), r"rois\[0, 0\] names image nan"),
        (dict(boxes=ROIS.to("meta")), "boxes.* meta .*cpu; move"),
        (dict(output_size=0), "output_size.*0"),
        (dict(output_size=(2, -1)), r"output_size.*\(2, -1\)"),
        (dict(output_size=(2, 2, 2)), r"output_size.*\(2, 2, 2\)"),
        (dict(output_size=2.0), "output_size.*2.0"),
        (dict(spatial_scale=0.0), "spatial_scale.*0.0"),
        (dict(spatial_scale=NAN), "spatial_scale.*nan"),
    ],
)
def test_bad_input_is_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        roi_align(**(dict(features=MAPS, boxes=ROIS, output_size=2) | change))
