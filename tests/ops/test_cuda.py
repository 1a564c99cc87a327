"""The CUDA kernels on a GPU: values, gradients, and what a user's program does around them.

Each test fails where the compiled kernels do not serve the device: the reference would pass all of
them. `--cpu-for-cuda` runs them on the CPU instead, to rehearse them where there is no GPU; what
only CUDA has is skipped then.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fgclip_det.ops import asserts_index, backend, reference, roi_align, roi_align_pyramid

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10, torch.bfloat16: 2e-2, torch.float16: 2e-3}
# Vectors of each width, a tile of channels and several, and counts that no vector divides.
CHANNELS = [4, 64, 70, 264, 768]
BINS = [(1, 1), (2, 3), (7, 7), (14, 2)]
NAN, INF = float("nan"), float("inf")
BROKEN = [
    [5.0, 5.0, 2.0, 8.0],
    [NAN, 0.0, 4.0, 4.0],
    [0.0, 0.0, INF, 4.0],
    [-INF, -INF, INF, INF],
    [-1e30, -1e30, 1e30, 1e30],
]

pytestmark = pytest.mark.gpu


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    """Where the kernels run."""
    where = "cpu" if request.config.getoption("--cpu-for-cuda") else "cuda"
    assert backend()[where] == "extension", "built without these kernels: FORCE_CUDA=1"
    return where


@pytest.fixture
def cuda(device: str) -> str:
    """The same, for what the CPU has not."""
    if device != "cuda":
        pytest.skip("only CUDA has it")
    return device


def draw_rois(count: int, images: int, size: tuple[int, int], scale: float = 1.0) -> Tensor:
    """(K, 5) rois of cells of a map of `size`, divided by `scale`; the last ones are broken."""
    generator = torch.Generator().manual_seed(count)
    ends = (torch.rand(count, 2, 2, generator=generator) * 1.4 - 0.2).sort(dim=1)[0].flatten(1)
    boxes = ends * torch.tensor([size[1], size[0]] * 2)
    boxes = torch.cat([boxes, torch.tensor(BROKEN)]) / scale
    index = torch.randint(0, images, (len(boxes), 1), generator=generator).float()
    return torch.cat([index, boxes], dim=1)


def check(
    features: Tensor, rois: Tensor, bins: tuple[int, int], device: str, **settings: object
) -> None:
    """Forward and backward on the device against the oracle in float64, each twice."""
    grid = settings.get("grid")
    geometry = {"spatial_scale": 1.0, "sampling_ratio": -1, "aligned": True} | settings
    # A copy to a device is dense; strides are part of the case.
    there = torch.empty_strided(
        features.shape, features.stride(), dtype=features.dtype, device=device
    )
    there = there.copy_(features).requires_grad_()
    pooled = roi_align(there, rois.to(device), bins, **geometry)
    again = roi_align(there, rois.to(device), bins, **geometry)
    assert torch.equal(pooled, again)
    weights = torch.randn(pooled.shape).to(features.dtype)
    first, second = (
        torch.autograd.grad(pooled, there, weights.to(device), retain_graph=True)[0] for _ in "12"
    )
    assert torch.equal(first, second)
    exact = features.detach().double().requires_grad_()
    maps = exact if grid is None else exact.unflatten(1, grid).permute(0, 3, 1, 2)
    order = ("spatial_scale", "sampling_ratio", "aligned")
    scale, ratio, aligned = (geometry[key] for key in order)
    # The kernels' boxes are in float32 unless the features are in float64.
    expected = reference.roi_align(maps, rois, scale, *bins, ratio, aligned)
    expected = expected if grid is None else expected.permute(0, 2, 3, 1)
    bound = TOLERANCE[features.dtype]
    torch.testing.assert_close(pooled.cpu().double(), expected, atol=bound, rtol=bound)
    wanted = torch.autograd.grad(expected, exact, weights.double())[0]
    size = max(1.0, float(wanted.abs().max()))
    torch.testing.assert_close(first.cpu().double(), wanted, atol=4 * bound * size, rtol=bound)


@pytest.mark.parametrize("bins", BINS, ids=str)
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_maps_equal_the_oracle(
    dtype: torch.dtype, channels: int, bins: tuple[int, int], device: str
) -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        # The gradient of a width of 4 n is written with channels first, others are copied.
        for width in (15, 16):
            features = torch.randn(2, channels, 10, width).to(dtype, memory_format=layout)
            check(features, draw_rois(24, 2, (10, width)), bins, device)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [1, 2, 5])
@pytest.mark.parametrize("bins", [(1, 1), (7, 7)], ids=str)
def test_settings(bins: tuple[int, int], ratio: int, aligned: bool, device: str) -> None:
    features = torch.randn(2, 64, 10, 15).to(memory_format=torch.channels_last)
    settings = dict(sampling_ratio=ratio, aligned=aligned, spatial_scale=0.25)
    check(features, draw_rois(24, 2, (10, 15), 0.25), bins, device, **settings)


@pytest.mark.parametrize("channels", [64, 70, 768])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_tokens_behind_a_class_token_and_slices(
    dtype: torch.dtype, channels: int, device: str
) -> None:
    rois = draw_rois(24, 2, (9, 11))
    whole = torch.randn(2, 100, channels + 3).to(dtype)
    check(whole[:, 1:, :channels].contiguous(), rois, (1, 1), device, grid=(9, 11))
    check(whole[:, 1:, :channels], rois, (2, 3), device, grid=(9, 11))
    check(whole[:, 1:, 3:], rois, (1, 1), device, grid=(9, 11))


def test_300000_boxes(device: str) -> None:
    count = 300_000 if device == "cuda" else 3_000
    rois = draw_rois(count, 2, (12, 12))
    features = torch.randn(2, 8, 12, 12, device=device)
    pooled = roi_align(features, rois.to(device), 1)
    some = torch.randint(0, len(rois), (500,))
    expected = reference.roi_align(features.cpu(), rois[some], 1.0, 1, 1, -1, True)
    torch.testing.assert_close(pooled[some.to(device)].cpu(), expected, atol=1e-5, rtol=1e-5)
    leaf = features.requires_grad_()
    (found,) = torch.autograd.grad(roi_align(leaf, rois.to(device), 1).sum(), leaf)
    # The gradient of the sum is the sum of all weights, the same in each channel.
    exact = torch.zeros(2, 1, 12, 12, dtype=torch.float64)
    for chunk in rois.split(10_000):
        ones = torch.ones(len(chunk), 1, 1, 1, dtype=torch.float64)
        exact += reference.roi_align_backward(ones, chunk, 1.0, 2, 1, 12, 12, -1, True)
    torch.testing.assert_close(
        found.cpu().double(), exact.expand(2, 8, 12, 12), rtol=1e-4, atol=1e-2
    )


@pytest.mark.parametrize("bins", [(1, 1), (7, 7)], ids=str)
def test_boxes_over_all_of_a_large_map(bins: tuple[int, int], device: str) -> None:
    features = torch.randn(1, 64, 160, 160).to(memory_format=torch.channels_last)
    rois = torch.tensor([[0.0, 0, 0, 160, 160]]).repeat(8, 1)
    check(features, rois, bins, device)


def test_slabs_of_small_maps(device: str) -> None:
    features = torch.randn(2, 64, 24, 24).to(memory_format=torch.channels_last)
    check(features, draw_rois(600, 2, (24, 24)), (1, 1), device)


@pytest.mark.parametrize("channels", [64, 70, 72])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_many_boxes(dtype: torch.dtype, channels: int, device: str) -> None:
    """Enough for slabs in shared memory, filled 16 bytes or, with 70 channels, a value a time."""
    for layout in (torch.channels_last, torch.contiguous_format):
        features = torch.randn(2, channels, 24, 20).to(dtype, memory_format=layout)
        check(features, draw_rois(3000, 2, (24, 20)), (1, 1), device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_slabs_in_bands(dtype: torch.dtype, device: str) -> None:
    """Maps whose slabs exceed the shared memory of any GPU, so that boxes lie in several bands."""
    features = torch.randn(1, 256, 160, 150).to(dtype, memory_format=torch.channels_last)
    check(features, draw_rois(300, 1, (160, 150)), (1, 1), device)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("count", [24, 1500])
def test_maps_with_channels_first_few_and_many_boxes(
    dtype: torch.dtype, count: int, device: str
) -> None:
    """Few boxes are pooled from the maps as they are, many from a copy with channels last."""
    check(torch.randn(2, 37, 12, 30).to(dtype), draw_rois(count, 2, (12, 30)), (7, 7), device)


@pytest.mark.parametrize("images", [1, 3, 9])
@pytest.mark.parametrize("count", [27, 28, 1000, 9000])
def test_gradients_of_any_number_of_boxes_and_images(count: int, images: int, device: str) -> None:
    """Words of 32 boxes that are full or not, several rounds of them, and images without boxes."""
    rois = draw_rois(count, images, (13, 20))
    rois[:, 0] = torch.where(rois[:, 0] == images // 2, 0.0, rois[:, 0])
    features = torch.randn(images, 264, 13, 20)
    check(features.to(memory_format=torch.channels_last), rois, (1, 1), device)
    if count < 1000:
        check(features, rois, (7, 7), device)


def launches_of(call: Callable[[], object]) -> dict[str, int]:
    """Our kernels that run in a call, by name, and how often."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call()
        torch.cuda.synchronize()
    launches: dict[str, int] = {}
    for event in profile.key_averages():
        if found := re.search(r"fgclip_det::(\w+_kernel)(?=<)", event.key):
            launches[found[1]] = launches.get(found[1], 0) + event.count
    return launches


def test_the_gradient_of_a_pyramid_takes_two_launches(cuda: str) -> None:
    rois = draw_rois(100, 2, (20, 24)).to(cuda)
    levels = torch.arange(len(rois), device=cuda) % 3
    for form in (torch.channels_last, torch.contiguous_format):
        maps = [
            torch.randn(2, 64, *size, device=cuda).to(memory_format=form).requires_grad_()
            for size in ((20, 24), (10, 12), (5, 6))
        ]
        pooled = roi_align_pyramid(maps, rois, levels, (7, 7), [1.0, 0.5, 0.25])
        gradient = torch.randn_like(pooled)
        found = launches_of(lambda p=pooled, m=maps, g=gradient: torch.autograd.grad(p, m, g))
        copied = found.pop("transpose_kernel", 0)
        assert found == {"prepare_kernel": 1, "spread_kernel": 1}
        # Of contiguous maps that of the result's gradient, and of the map whose width is no 4 n.
        assert copied == (0 if form == torch.channels_last else 2)


def test_the_kernel_is_chosen_by_boxes_and_layout(cuda: str) -> None:
    first = torch.randn(1, 768, 64, 64, device=cuda)
    last, odd = first.to(memory_format=torch.channels_last), first[:, 1:].permute(0, 2, 3, 1)
    odd = odd.contiguous().permute(0, 3, 1, 2)
    few, many = (draw_rois(count, 1, (64, 64)).to(cuda) for count in (5, 1000))
    for features, rois, bins, kernel in (
        (last, many, 1, "pool_slab_kernel"),
        (last.half(), many, 1, "pool_slab_kernel"),
        (last, few, 1, "pool_box_kernel"),
        (odd, many, 1, "pool_slab_kernel"),
        (first, many, 1, "pool_slab_kernel"),
        (odd, few, 1, "pool_box_kernel"),
        (last, many, 7, "pool_bins_kernel"),
        (first, few, 7, "pool_planes_kernel"),
        (first, many, 7, "pool_bins_kernel"),
    ):
        found = set(launches_of(lambda f=features, r=rois, b=bins: roi_align(f, r, b)))
        assert found - {"weights_kernel", "transpose_kernel"} == {kernel}, (
            features.shape,
            len(rois),
            bins,
        )


def test_a_wrong_index_gives_zeros_where_the_assertion_was_left_out(cuda: str) -> None:
    if asserts_index():
        pytest.skip("the assertion would end the program; FGCLIP_DET_INDEX_ASSERTION=0 drops it")
    rois = draw_rois(600, 2, (24, 24))
    rois[7, 0], rois[8, 0], rois[9, 0] = 2.0, -1.0, NAN
    for bins in (1, 7):
        features = torch.randn(2, 64, 24, 24, device=cuda, requires_grad=True)
        for maps in (features, features.to(memory_format=torch.channels_last)):
            pooled = roi_align(maps, rois.to(cuda), bins)
            assert not pooled[7:10].any() and pooled[:7].any()
            (found,) = torch.autograd.grad(pooled[7:10].sum(), features)
            assert not found.any()


def test_a_pyramid_of_more_maps_than_a_launch_takes(device: str) -> None:
    sizes = [(12 + level, 20 - level) for level in range(10)]
    rois, scales = draw_rois(100, 2, (12, 20)), [1.0] * 10
    levels = torch.arange(len(rois)) % 10
    maps = [torch.randn(2, 16, *size, dtype=torch.float64, requires_grad=True) for size in sizes]
    for bins in ((1, 1), (7, 7)):
        leaves = [some.detach().to(device).requires_grad_() for some in maps]
        pooled = roi_align_pyramid(leaves, rois.to(device), levels.to(device), bins, scales)
        expected = reference.roi_align_pyramid(maps, rois, levels, scales, *bins, -1, True)
        torch.testing.assert_close(pooled.cpu(), expected, atol=1e-5, rtol=1e-5)
        found = torch.autograd.grad(pooled.square().sum(), leaves)
        wanted = torch.autograd.grad(expected.square().sum(), maps)
        for ours, theirs in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours.cpu(), theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("bins", [(1, 1), (7, 7)], ids=str)
def test_pyramid_equals_the_oracle(dtype: torch.dtype, bins: tuple[int, int], device: str) -> None:
    sizes, scales = ((20, 26), (10, 13), (5, 7)), (0.5, 0.25, 0.125)
    rois = draw_rois(60, 2, (20, 26), 0.5)
    levels = torch.arange(len(rois)) % 3
    exact = [torch.randn(2, 72, *size, dtype=torch.float64) for size in sizes]
    exact = [maps.to(dtype).double().requires_grad_() for maps in exact]
    leaves = [maps.detach().to(device, dtype).requires_grad_() for maps in exact]
    pooled = roi_align_pyramid(leaves, rois.to(device), levels.to(device), bins, scales)
    expected = reference.roi_align_pyramid(exact, rois, levels, scales, *bins, -1, True)
    bound = TOLERANCE[dtype]
    torch.testing.assert_close(pooled.cpu().double(), expected, atol=bound, rtol=bound)
    weights = torch.randn(pooled.shape).to(dtype)
    found = torch.autograd.grad(pooled, leaves, weights.to(device))
    wanted = torch.autograd.grad(expected, exact, weights.double())
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours.cpu().double(), theirs, atol=8 * bound, rtol=bound)


def test_without_boxes_or_images(device: str) -> None:
    for images in (0, 2):
        features = torch.randn(images, 4, 8, 8, device=device, requires_grad=True)
        pooled = roi_align(features, torch.zeros(0, 5, device=device), 3)
        assert pooled.shape == (0, 4, 3, 3)
        assert not torch.autograd.grad(pooled.sum(), features)[0].any()


def test_compiled_forward_and_backward(device: str) -> None:
    torch._dynamo.reset()
    rois = draw_rois(24, 2, (9, 11)).to(device)
    tokens = torch.randn(2, 99, 64, device=device, requires_grad=True)

    def pool(some: Tensor) -> Tensor:
        return roi_align(some * 2, rois, (2, 3), grid=(9, 11)).square()

    found, expected = torch.compile(pool, fullgraph=True)(tokens), pool(tokens)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), tokens)[0],
        torch.autograd.grad(expected.sum(), tokens)[0],
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_keeps_dtype_and_values(dtype: torch.dtype, device: str) -> None:
    features = torch.randn(2, 64, 10, 15, device=device)
    rois = draw_rois(24, 2, (10, 15)).to(device)
    expected = roi_align(features, rois, 7)
    with torch.autocast(device, dtype=dtype):
        assert torch.equal(roi_align(features, rois, 7), expected)
        assert roi_align(features.to(dtype), rois, 7).dtype == dtype


def test_a_captured_graph_replays(cuda: str) -> None:
    features = torch.randn(2, 64, 10, 15, device=cuda).to(memory_format=torch.channels_last)
    rois = draw_rois(24, 2, (10, 15)).to(cuda)
    weights = torch.randn(len(rois), 64, 7, 7, device=cuda)

    def work() -> tuple[Tensor, Tensor]:
        pooled = torch.ops.fgclip_det.roi_align(features, rois, 1.0, 7, 7, -1, True)
        return pooled, torch.ops.fgclip_det.roi_align_backward(
            weights, rois, 1.0, 2, 64, 10, 15, -1, True, True
        )

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = work()
    for seed in (1, 2):
        torch.manual_seed(seed)
        features.copy_(torch.randn_like(features))
        weights.copy_(torch.randn_like(weights))
        rois[:, 1:] += 0.25
        graph.replay()
        for found, expected in zip(captured, work(), strict=True):
            assert torch.equal(found, expected)


def test_the_stream_of_the_caller_is_used(cuda: str) -> None:
    stream = torch.cuda.Stream()
    rois = draw_rois(400, 2, (64, 64)).to(cuda)
    for _ in range(5):
        with torch.cuda.stream(stream):
            # Long enough for a kernel on another stream to read what is not yet written.
            torch.cuda._sleep(20_000_000)
            features = torch.randn(2, 64, 64, 64, device=cuda)
            pooled = roi_align(features, rois, 1)
        stream.synchronize()
        assert torch.equal(pooled, roi_align(features, rois, 1))
