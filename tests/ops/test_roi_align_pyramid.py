"""Boxes of several maps in one call equal the oracle, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import grad, jvp, vmap

from fgclip_det.ops import backend, reference, roi_align, roi_align_pyramid
from tests.messages import says

SIZES = ((12, 15), (6, 8), (3, 4))
SCALES = (0.5, 0.25, 0.125)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10, torch.bfloat16: 2e-2, torch.float16: 2e-3}
compiled_only = pytest.mark.skipif(
    backend()["cpu"] == "reference", reason="the extension is not built"
)


def maps(dtype: torch.dtype = torch.float64, channels: int = 5) -> list[Tensor]:
    """Three maps (2, C, h, w)."""
    generator = torch.Generator().manual_seed(channels)
    return [torch.randn(2, channels, *size, generator=generator).to(dtype) for size in SIZES]


def boxes(count: int = 9, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(K, 5) rois, some broken, and (K,) levels, of which one has no box."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 4, generator=generator).cumsum(dim=1) * 12 - 3
    corners[2:3, 2] = float("nan")
    index = torch.randint(0, 2, (count, 1), generator=generator).float()
    levels = torch.randint(0, 2, (count,), generator=generator) * 2
    return torch.cat([index, corners], dim=1), levels


def oracle(features: list[Tensor], rois: Tensor, levels: Tensor, bins: tuple[int, int]) -> Tensor:
    return reference.roi_align_pyramid(features, rois, levels, SCALES, *bins, -1, True)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bins", [(1, 1), (2, 3), (7, 7)])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_equals_the_oracle(
    dtype: torch.dtype, bins: tuple[int, int], layout: torch.memory_format, threads: int
) -> None:
    rois, levels = boxes(40)
    leaves = [m.to(memory_format=layout).requires_grad_() for m in maps(dtype, 70)]
    exact = [m.detach().double().requires_grad_() for m in leaves]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        pooled = roi_align_pyramid(leaves, rois, levels, bins, SCALES)
        expected = oracle(exact, rois, levels, bins)
        weights = torch.randn(pooled.shape).to(dtype)
        found = torch.autograd.grad(pooled, leaves, weights)
    finally:
        torch.set_num_threads(before)
    assert pooled.is_contiguous(memory_format=layout)
    close = dict(atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
    torch.testing.assert_close(pooled.double(), expected, **close)
    wanted = torch.autograd.grad(expected, exact, weights.double())
    assert not wanted[1].any() and wanted[0].any() and wanted[2].any()
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), theirs, **close)


def test_mixed_layouts_and_lists_of_boxes() -> None:
    rois, levels = boxes()
    mixed = maps()
    mixed[1] = mixed[1].to(memory_format=torch.channels_last)
    mixed[2] = mixed[2].transpose(2, 3).contiguous().transpose(2, 3)
    order = rois[:, 0].argsort(stable=True)
    split = [rois[rois[:, 0] == image, 1:] for image in range(2)]
    expected = oracle(maps(), rois, levels, (2, 2))
    torch.testing.assert_close(roi_align_pyramid(mixed, rois, levels, 2, SCALES), expected)
    pooled = roi_align_pyramid(mixed, split, levels[order], 2, SCALES)
    torch.testing.assert_close(pooled, expected[order])


def test_gradcheck() -> None:
    rois, levels = boxes(4)
    leaves = [m[:, :2].clone().requires_grad_() for m in maps()]

    def pool(*features: Tensor) -> Tensor:
        return roi_align_pyramid(features, rois, levels, 2, SCALES)

    assert torch.autograd.gradcheck(pool, leaves, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(pool, leaves, fast_mode=True)


def test_no_boxes_and_no_images() -> None:
    rois, levels = boxes(0)
    for count in (0, 2):
        leaves = [m[:count].clone().requires_grad_() for m in maps()]
        pooled = roi_align_pyramid(leaves, rois, levels, 3, SCALES)
        assert pooled.shape == (0, 5, 3, 3)
        for gradient, leaf in zip(torch.autograd.grad(pooled.sum(), leaves), leaves, strict=True):
            assert torch.equal(gradient, torch.zeros_like(leaf))


def test_a_map_without_gradient() -> None:
    rois, levels = boxes()
    features = maps()
    features[2].requires_grad_()
    pooled = roi_align_pyramid(features, rois, levels, 2, SCALES)
    (found,) = torch.autograd.grad(pooled.sum(), features[2:])
    expected = oracle(features, rois, levels, (2, 2))
    torch.testing.assert_close(found, torch.autograd.grad(expected.sum(), features[2:])[0])


def test_transforms() -> None:
    rois, levels = boxes()
    shifted = torch.stack([levels, (levels + 1) % 3])

    def pool(features: list[Tensor], which: Tensor = levels) -> Tensor:
        return roi_align_pyramid(features, rois, which, (2, 3), SCALES)

    expected = oracle(maps(), rois, levels, (2, 3))
    torch.testing.assert_close(jvp(pool, (maps(),), (maps(),))[1], expected)
    features = maps()
    found = vmap(lambda which: pool(features, which))(shifted)
    for row, which in zip(found, shifted, strict=True):
        torch.testing.assert_close(row, oracle(maps(), rois, which, (2, 3)))
    leaves = [m.requires_grad_() for m in maps()]
    wanted = torch.autograd.grad(oracle(leaves, rois, levels, (2, 3)).square().sum(), leaves)
    for ours, theirs in zip(grad(lambda f: pool(f).square().sum())(maps()), wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


@compiled_only
def test_opcheck_and_compile() -> None:
    rois, levels = boxes()
    leaves = [m.requires_grad_() for m in maps()]
    operators = torch.ops.fgclip_det
    arguments = (leaves, rois, levels, list(SCALES), 2, 3, -1, True)
    torch.library.opcheck(operators.roi_align_pyramid.default, arguments)
    gradient = torch.randn(9, 5, 2, 3, dtype=torch.float64, requires_grad=True)
    heights, widths = ([size[axis] for size in SIZES] for axis in (0, 1))
    torch.library.opcheck(
        operators.roi_align_pyramid_backward.default,
        (gradient, rois, levels, list(SCALES), 2, 5, heights, widths, -1, True, False),
    )
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda features: roi_align_pyramid(features, rois, levels, 2, SCALES).square().sum(),
        fullgraph=True,
        backend="aot_eager",
    )
    found = torch.autograd.grad(compiled(leaves), leaves)
    wanted = torch.autograd.grad(oracle(leaves, rois, levels, (2, 2)).square().sum(), leaves)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


ROIS, LEVELS = boxes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(features=[]), says("features", "at least one")),
        (dict(features=[maps()[0], None, maps()[2]]), says("features", "maps")),
        (dict(features=[maps()[0], maps()[1][0], maps()[2]]), says("(N, C, h, w)", "5, 6, 8")),
        (dict(features=[maps()[0], maps()[1][:, :3], maps()[2]]), says("channels", "3")),
        (dict(features=[maps()[0], maps()[1].float(), maps()[2]]), says("dtype", "one batch")),
        (dict(features=[m.int() for m in maps()]), says("features must be float16")),
        (dict(features=[*maps()[:2], maps()[2][..., :0]]), says("features", "pool")),
        (dict(spatial_scales=SCALES[:2]), says("positive spatial_scale", "3 maps")),
        (dict(spatial_scales=(1.0, 0.0, 1.0)), says("positive spatial_scale", "3 maps")),
        (dict(levels=LEVELS[:3]), says("levels must be (K,)", "3")),
        (dict(levels=LEVELS.int()), says("levels", "int64", "levels.long()")),
        (dict(levels=LEVELS + 1), says("levels", "is 3", "3 maps")),
        (dict(levels=LEVELS - 1), says("levels", "is -1", "3 maps")),
        (dict(boxes=ROIS + 5), says("rois[0, 0]", "2 images")),
        (dict(sampling_ratio=65537), says("sampling_ratio", "65536", "65537")),
        (dict(sampling_ratio=2**70), says("sampling_ratio", "65536", f"{2**70}")),
        (dict(sampling_ratio=2.5), says("sampling_ratio", "int", "2.5")),
    ],
)
def test_bad_input_is_named(change: dict, message: str) -> None:
    good = dict(features=maps(), boxes=ROIS, levels=LEVELS, output_size=2, spatial_scales=SCALES)
    with pytest.raises(ValueError, match=message):
        roi_align_pyramid(**(good | change))


@pytest.mark.parametrize("ratio", [0, -7, -(2**70)])
def test_every_ratio_that_is_not_positive_is_one(ratio: int) -> None:
    given = (maps(), ROIS, LEVELS, 2, SCALES)
    expected = roi_align_pyramid(*given)
    assert torch.equal(roi_align_pyramid(*given, sampling_ratio=ratio), expected)
    assert torch.equal(
        roi_align(maps()[0], ROIS, 2, sampling_ratio=ratio), roi_align(maps()[0], ROIS, 2)
    )


@pytest.mark.parametrize("change", [dict(levels=LEVELS[:3]), dict(spatial_scales=SCALES[:2])])
def test_bad_input_is_named_where_no_kernel_runs(change: dict) -> None:
    meta = dict(
        features=[m.to("meta") for m in maps()], boxes=ROIS.to("meta"), levels=LEVELS.to("meta")
    )
    good = meta | dict(output_size=2, spatial_scales=SCALES)
    assert roi_align_pyramid(**good).shape == (9, 5, 2, 2)
    change = {k: v.to("meta") if isinstance(v, Tensor) else v for k, v in change.items()}
    for of_maps in (lambda **k: roi_align_pyramid(**k), lambda **k: _mapped(**k)):
        with pytest.raises(ValueError, match=r"levels must be|positive spatial_scale"):
            of_maps(**(good | change))


def _mapped(features: list[Tensor], **others: object) -> Tensor:
    features = [torch.stack([some, some]) for some in features]
    return vmap(lambda some: roi_align_pyramid(some, **others))(features)
