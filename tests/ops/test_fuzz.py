"""RoIAlign against a float64 oracle on ten thousand random cases, and the same bits on any threads.

A case is a function of its seed: `check(seed)` draws it, runs it and names it where it fails.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from fgclip_det.ops import backend, reference, roi_align

pytestmark = pytest.mark.skipif(
    backend()["cpu"] == "reference", reason="the extension is not built"
)

BLOCK = 300  # cases in one test
BLOCKS = 34  # the first is in the fast part
NAN, INF = float("nan"), float("inf")
# Largest error, as a share of the largest value of the case. The halves are summed in float32 and
# rounded once, so theirs is about the rounding of one number.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10, torch.float16: 2e-3, torch.bfloat16: 1e-2}
CHANNELS = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 130]
LAYOUTS = [
    "contiguous",
    "channels_last",
    "tokens",
    "tokens_behind_class",
    "expanded",
    "expanded_channels_last",
    "sliced_channels",
    "sliced_channels_last",
    "every_second_channel",
    "transposed",
    "cropped",
]


class Case(NamedTuple):
    """One call of `roi_align` and the gradient that flows back into it."""

    features: Tensor  # (N, C, h, w) maps or (N, h*w, C) tokens: a leaf, and a view into more
    boxes: Tensor | list[Tensor]  # as the operator takes them
    rois: Tensor  # (K, 5) float32, the same boxes
    weights: Tensor  # gradient of the result, of its shape and dtype
    bins: tuple[int, int]
    spatial_scale: float
    sampling_ratio: int
    aligned: bool
    grid: tuple[int, int] | None
    text: str

    def run(self) -> tuple[Tensor, Tensor]:
        """What the operator makes of it: the result and the gradient of the features."""
        pooled = roi_align(
            *(self.features, self.boxes, self.bins, self.spatial_scale, self.sampling_ratio),
            aligned=self.aligned,
            grid=self.grid,
        )
        return pooled, torch.autograd.grad(pooled, self.features, self.weights)[0]


def draw_values(shape: tuple[int, ...], channel_axis: int, generator: torch.Generator) -> Tensor:
    """Values in [0, 1) with one sign for each channel.

    Without cancellation, so that an error can be measured by the size of the result.
    """
    signs = torch.randint(0, 2, (shape[channel_axis],), generator=generator) * 2.0 - 1
    view = [-1 if axis == channel_axis else 1 for axis in range(len(shape))]
    return torch.rand(shape, generator=generator) * signs.view(view)


def lay_out(
    layout: str, shape: tuple[int, int, int, int], dtype: torch.dtype, generator: torch.Generator
) -> Tensor:
    """(N, C, h, w) maps, or (N, h*w, C) tokens, that lie in memory as `layout` says."""
    n, c, h, w = shape

    def maps(*sizes: int) -> Tensor:
        return draw_values(sizes, 1, generator).to(dtype)

    def last(tensor: Tensor) -> Tensor:
        return tensor.to(memory_format=torch.channels_last)

    if layout.startswith("tokens"):
        behind = int(layout == "tokens_behind_class")
        return draw_values((n, behind + h * w, c), 2, generator).to(dtype)[:, behind:]
    if layout.startswith("expanded"):
        one = maps(1, c, h, w)
        return (last(one) if layout == "expanded_channels_last" else one).expand(n, c, h, w)
    if layout.startswith("sliced"):
        wide = maps(n, c + 5, h, w)
        return (last(wide) if layout == "sliced_channels_last" else wide)[:, 3 : 3 + c]
    if layout == "every_second_channel":
        return last(maps(n, 2 * c, h, w))[:, ::2]
    if layout == "transposed":
        return maps(n, c, w, h).transpose(2, 3)
    if layout == "cropped":
        return last(maps(n, c, h + 2, w + 3))[..., 1:-1, 2:-1]
    return last(maps(n, c, h, w)) if layout == "channels_last" else maps(n, c, h, w)


def draw_boxes(count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """(count, 4) float32 xyxy in cells of an (h, w) map, of every sort, hostile ones included."""

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    scale = torch.tensor([size[1], size[0]]).float()
    low, high = torch.sort(rand(2, count, 2), dim=0)[0]
    centre = rand(count, 2)
    one_edge = torch.eye(4)[torch.randint(0, 4, (count,), generator=generator)]
    inside = torch.cat([low, high], dim=1)
    far = torch.randint(0, 2, (count, 2), generator=generator) * 6.0 - 3
    huge = 10 ** (rand(count, 4) * 29 + 1) * torch.tensor([-1.0, -1, 1, 1])
    to_cells = scale.repeat(2)
    sorts = [
        inside * to_cells,
        (inside * 2 - 0.5) * to_cells,
        (inside * 5 - 2) * to_cells,  # larger than the map
        (inside * to_cells).round(),  # whole cells: samples on the edges of cells and of the map
        torch.cat([-0.5 - low.round(), 0.5 + scale - high.round()], dim=1).expand(count, 4),
        torch.cat([centre, centre], dim=1) * to_cells,  # no area
        torch.cat([low, low[:, :1], high[:, 1:]], dim=1) * to_cells,  # no width
        torch.cat([centre, centre], dim=1) * to_cells + rand(count, 4).sort()[0] * 1e-4,  # tiny
        (inside + far.repeat(1, 2)) * to_cells,  # wholly outside
        torch.cat([high, low], dim=1) * to_cells,  # reversed
        torch.cat([high[:, :1], low[:, 1:], low[:, :1], high[:, 1:]], dim=1) * to_cells,
        (inside * to_cells).where(one_edge == 0, NAN),
        (inside * to_cells).where(one_edge == 0, INF),
        (inside * to_cells).where(one_edge == 0, -INF),
        huge,
        (inside * to_cells).where(one_edge == 0, huge),
        (inside * to_cells).where(one_edge == 0, 1e30),
        torch.tensor([-1e30, -1e30, 1e30, 1e30]).expand(count, 4),
    ]
    # Every second box is an ordinary one.
    sort = torch.randint(0, 2 * len(sorts), (count,), generator=generator)
    sort = sort.where(sort < len(sorts), sort % 4)
    return torch.stack(sorts)[sort, torch.arange(count)]


def draw(seed: int) -> Case:
    """The case of this seed; the same one on every call."""
    choose, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    dtype = choose.choice([torch.float32, torch.float32, *TOLERANCE])
    layout = choose.choice(LAYOUTS)
    n = choose.choice([0, 1, 1, 2, 2, 3]) if choose.random() < 0.3 else choose.choice([1, 2, 3])
    c = choose.choice([choose.randint(1, 130), choose.choice(CHANNELS)])
    h, w = (choose.choice([choose.randint(1, 40), choose.randint(1, 12)]) for _ in "hw")
    if choose.random() < 0.02:
        c, h, w = choose.randint(131, 1100), choose.randint(1, 9), choose.randint(1, 9)
    bins = choose.choice([(1, 1), (1, 1), (7, 7), (choose.randint(1, 9), choose.randint(1, 9))])
    count = choose.choice([0, 1, 2]) if choose.random() < 0.1 else choose.randint(1, 12)
    if choose.random() < 0.03:
        count, c = choose.randint(30, 90), min(c, 20)
    count *= n > 0
    spatial_scale = choose.choice([1.0, 0.5, 0.25, 1 / 16, 1 / 14, 1 / 7.3, 2.0, 3.7])
    sampling_ratio, aligned = choose.choice([-1, -1, -1, 0, 1, 2, 5]), choose.random() < 0.7

    features = lay_out(layout, (n, c, h, w), dtype, generator)
    rois = torch.zeros(count, 5)
    rois[:, 0] = torch.randint(0, max(n, 1), (count,), generator=generator)
    rois[:, 1:] = draw_boxes(count, (h, w), generator) / spatial_scale
    boxes: Tensor | list[Tensor] = rois
    if choose.random() < 0.5:
        rois = rois[rois[:, 0].argsort(stable=True)]
        boxes = [rois[rois[:, 0] == image, 1:] for image in range(n)]
    weights = draw_values((count, c, *bins), 1, generator).to(dtype)
    grid = (h, w) if layout.startswith("tokens") else None
    if grid is not None:
        weights = weights.permute(0, 2, 3, 1)
    form = choose.choice(["contiguous", "transposed", "expanded"])
    if form == "expanded":
        weights = weights[:, :, :1].expand_as(weights)
    elif form == "transposed":
        weights = weights.transpose(1, 3).contiguous().transpose(1, 3)
    else:
        weights = weights.contiguous()
    text = (
        f"seed {seed}: {dtype}, {layout}, N={n} C={c} h={h} w={w}, {count} boxes as "
        f"{type(boxes).__name__}, bins={bins}, spatial_scale={spatial_scale}, "
        f"sampling_ratio={sampling_ratio}, aligned={aligned}, gradient {form}"
    )
    settings = (bins, spatial_scale, sampling_ratio, aligned, grid, text)
    return Case(features.detach().requires_grad_(), boxes, rois, weights, *settings)


def oracle(case: Case) -> tuple[Tensor, Tensor]:
    """Result and gradient of a case in float64, in the shapes that `Case.run` returns.

    The weights of the cells come from `reference.axis_weights` in the dtype that the operator sums
    in, float32 for all but float64 features: ceil() of a bin's length and the edge of the map turn
    the last bit of a float32 box into a whole sample, so float64 boxes would be other boxes. All
    that follows, the sums over cells and boxes, is float64.
    """
    maps, weights = case.features.detach().double(), case.weights.double()
    if case.grid is not None:
        maps = maps.unflatten(1, case.grid).permute(0, 3, 1, 2)
        weights = weights.permute(0, 3, 1, 2)
    corners = case.rois[:, 1:].to(reference.sum_dtype(case.features.dtype)).unbind(1)
    wx, wy = (
        reference.axis_weights(
            *(corners[axis], corners[axis + 2]),
            size=maps.shape[3 - axis],
            bins=case.bins[1 - axis],
            spatial_scale=case.spatial_scale,
            sampling_ratio=case.sampling_ratio,
            aligned=case.aligned,
        ).double()
        for axis in (0, 1)
    )
    pooled, gradient = torch.zeros(weights.shape).double(), torch.zeros_like(maps)
    for image in range(len(maps)):
        of = case.rois[:, 0] == image
        columns = torch.einsum("kqw,chw->kqch", wx[of], maps[image])
        pooled[of] = torch.einsum("kph,kqch->kcpq", wy[of], columns)
        rows = torch.einsum("kph,kcpq->kqch", wy[of], weights[of])
        gradient[image] = torch.einsum("kqw,kqch->chw", wx[of], rows)
    if case.grid is None:
        return pooled, gradient
    return pooled.permute(0, 2, 3, 1), gradient.flatten(2).transpose(1, 2)


def unresolved(case: Case) -> float:
    """Error that may come from boxes with more samples than a number can count; values are below 1.

    In float32 these are boxes of more than 2^23 cells: which of their samples lie on the map is
    lost in the rounding of their edges. One sample weighs less than one in so many, and the samples
    on the map are about as many as it has cells; that is what may be missing or too much.
    """
    sums = reference.sum_dtype(case.features.dtype)
    eps = torch.finfo(sums).eps
    cells = (case.rois[:, 3:].to(sums) - case.rois[:, 1:3].to(sums)).abs() * case.spatial_scale
    long = int((cells.isfinite() & (cells > 1 / eps)).any(dim=1).sum())
    return long * eps * (sum(case.grid or case.features.shape[2:]) + 12)


def error(ours: Tensor, exact: Tensor, slack: float) -> float:
    """Largest difference over the allowed one: the tolerance times the largest value, and `slack`.

    Numbers too small for the dtype, or for the float32 sums, may vanish.
    """
    assert ours.shape == exact.shape
    if exact.numel() == 0:
        return 0.0
    about, sums = torch.finfo(ours.dtype), torch.finfo(reference.sum_dtype(ours.dtype))
    vanishing = about.tiny * about.eps + sums.tiny
    allowed = TOLERANCE[ours.dtype] * exact.abs().max() + slack + vanishing
    return float((ours.double() - exact).abs().max() / allowed)


def check(seed: int) -> str | None:
    """What is wrong with the case of this seed, or None."""
    case = draw(seed)
    found, slack = [], unresolved(case)
    for name, ours, exact in zip(("result", "gradient"), case.run(), oracle(case), strict=True):
        share = error(ours.detach(), exact, slack)
        if ours.dtype != case.features.dtype or not share <= 1:
            found.append(f"{name} of dtype {ours.dtype} has {share:.3g} times the allowed error")
    return f"{' and '.join(found)}; {case.text}" if found else None


@pytest.mark.parametrize(
    "block",
    [0, *(pytest.param(block, marks=pytest.mark.slow) for block in range(1, BLOCKS))],
)
def test_equals_the_oracle(block: int) -> None:
    wrong = [text for text in map(check, range(block * BLOCK, (block + 1) * BLOCK)) if text]
    # One alone: PYTHONPATH=. python -c
    # "import runpy; print(runpy.run_path('tests/ops/test_fuzz.py')['check'](SEED))"
    assert not wrong, f"{len(wrong)} of {BLOCK} cases:\n" + "\n".join(wrong[:20])


def test_oracle_is_the_reference_for_float64_features() -> None:
    seen = 0
    for seed in range(60):
        case = draw(seed)
        if case.features.dtype != torch.float64 or case.grid is not None:
            continue
        features = case.features.detach().requires_grad_()
        geometry = (case.sampling_ratio, case.aligned)
        pooled = reference.roi_align(features, case.rois, case.spatial_scale, *case.bins, *geometry)
        gradient = torch.autograd.grad(pooled, features, case.weights)[0]
        for ours, exact in zip((pooled.detach(), gradient), oracle(case), strict=True):
            assert error(ours, exact, 0.0) <= 1, case.text
        seen += 1
    assert seen >= 5


def test_a_small_fault_is_seen() -> None:
    # Boxes that are moved by a hundredth of a cell.
    seen = faulty = 0
    for seed in range(100):
        case = draw(seed)
        moved = case.rois.clone()
        moved[:, 1:] += 0.01 / case.spatial_scale
        exact, slack = oracle(case)[0], unresolved(case)
        if case.features.dtype in (torch.float32, torch.float64) and exact.any():
            pooled = case._replace(boxes=moved, rois=moved).run()[0].detach()
            seen += error(pooled, exact, slack) > 1
            faulty += 1
    assert faulty >= 40
    # A map of one cell gives the same result.
    assert seen >= 0.9 * faulty


def bits(tensor: Tensor) -> Tensor:
    return tensor.detach().flatten().view(torch.uint8)  # tells -0 from 0


def test_any_number_of_threads_gives_the_same_bits() -> None:
    before = torch.get_num_threads()
    try:
        for seed in range(BLOCKS * BLOCK, BLOCKS * BLOCK + 150):
            case, runs = draw(seed), []
            for threads in (1, 2, 3, 4, 1):
                torch.set_num_threads(threads)
                runs.append([bits(tensor) for tensor in case.run()])
            for pooled, gradient in runs[1:]:
                assert torch.equal(pooled, runs[0][0]), case.text
                assert torch.equal(gradient, runs[0][1]), case.text
    finally:
        torch.set_num_threads(before)
