"""The cases of the RoIAlign benchmark: feature maps, tokens and boxes like COCO's."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

# COCO's objects by area: small below 32 x 32, medium below 96 x 96, large above. Within a class the
# side (the root of the area) is log-uniform between these limits, in a picture 640 px wide.
SHARES = (0.41, 0.34, 0.25)
SIDES = ((6.0, 32.0), (32.0, 96.0), (96.0, 560.0))
COCO_WIDTH = 640
# Standard deviation of log(width / height); 1 in 6 boxes is longer than 1.6 : 1 one way.
LOG_ASPECT = 0.5

STRIDES = (4, 8, 16, 32)
PIXELS_DIVISOR = 32
# A box of this side is pooled from the second level; each level takes an octave.
FINEST_SIDE = 56

BATCH_CHANNELS = 768


@dataclass(frozen=True)
class Case:
    """Feature maps, and the boxes that are pooled from them.

    `picture` and `grids` are (height, width), in pixels and cells; `boxes` counts those of one
    image, over all levels of a pyramid; `levels` are the ones that are pooled.
    """

    row: str
    group: str
    layout: Literal["tokens", "maps"]
    images: int
    channels: int
    picture: tuple[int, int]
    grids: tuple[tuple[int, int], ...]
    boxes: int
    bins: int
    levels: tuple[int, ...] = (0,)

    @property
    def name(self) -> str:
        """One line that tells the case from all others of its row."""
        images = f"{self.images} x " if self.images > 1 else ""
        grids = ", ".join("{}x{}".format(*self.grids[level]) for level in self.levels)
        return f"{images}{grids} x {self.channels}, {self.bins}x{self.bins}, {self.boxes} boxes"


class Part(NamedTuple):
    """One call of an operator: a level of the pyramid, or all tokens."""

    features: Tensor  # (N, C, h, w) contiguous, or (N, h*w, C) tokens
    rois: Tensor  # (K, 5) float32, batch index and xyxy in pixels
    grad_output: Tensor  # (K, C, oh, ow) contiguous; for tokens a view of (K, oh, ow, C)
    grid: tuple[int, int]  # (h, w)
    spatial_scale: float  # cells per pixel


def coco_like_boxes(count: int, picture: tuple[int, int], *, generator: torch.Generator) -> Tensor:
    """Draws boxes of COCO's sizes (see SHARES and SIDES) anywhere inside a picture.

    Args:
        count: K.
        picture: (height, width) in pixels; sizes grow with its longer side.
        generator: Source of randomness, on the CPU.

    Returns:
        (K, 4) float32 xyxy, in pixels.
    """
    kind = torch.multinomial(torch.tensor(SHARES), count, replacement=True, generator=generator)
    low, high = torch.tensor(SIDES).log()[kind].unbind(1)
    side = (low + (high - low) * torch.rand(count, generator=generator)).exp()
    side = side * (max(picture) / COCO_WIDTH)
    stretch = (torch.randn(count, generator=generator) * LOG_ASPECT / 2).exp()
    limit = torch.tensor([picture[1], picture[0]], dtype=torch.float32)
    extent = torch.minimum(torch.stack([side * stretch, side / stretch], dim=1), limit)
    corner = torch.rand(count, 2, generator=generator) * (limit - extent)
    return torch.cat([corner, corner + extent], dim=1)


def pyramid_level(boxes: Tensor, levels: int) -> Tensor:
    """(K,) int64, the level that each of (K, 4) boxes is pooled from: FPN's rule."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
    octave = ((width * height).sqrt() / FINEST_SIDE + 1e-6).log2().floor()
    return octave.clamp(0, levels - 1).long()


def make_parts(case: Case, dtype: torch.dtype, device: str, seed: int) -> list[Part]:
    """The tensors of a case, the same ones for every implementation and in every process."""
    generator = torch.Generator().manual_seed(seed)
    images = [
        coco_like_boxes(case.boxes, case.picture, generator=generator) for _ in range(case.images)
    ]
    index = torch.arange(case.images).repeat_interleave(case.boxes)[:, None]
    rois = torch.cat([index.float(), torch.cat(images)], dim=1)
    chosen = pyramid_level(rois[:, 1:], len(case.grids))
    parts = []
    for level in case.levels:
        grid = case.grids[level]
        some = rois[chosen == level]
        padded = math.ceil(case.picture[0] / PIXELS_DIVISOR) * PIXELS_DIVISOR
        features = torch.randn(case.images, math.prod(grid), case.channels, generator=generator)
        grad = torch.randn(len(some), case.bins, case.bins, case.channels, generator=generator)
        grad = grad.permute(0, 3, 1, 2)
        if case.layout == "maps":
            features = features.transpose(1, 2).unflatten(2, grid).contiguous()
            grad = grad.contiguous()
        tensors = (tensor.to(device, dtype) for tensor in (features, grad))
        features, grad = tensors
        parts.append(Part(features, some.to(device), grad, grid, grid[0] / padded))
    return parts


def _tokens(row: str, grid: int, channels: int, boxes: int, bins: int = 1, images: int = 1) -> Case:
    group = f"tokens {grid}x{grid}, {bins}x{bins} bins"
    picture = (COCO_WIDTH, COCO_WIDTH)
    return Case(row, group, "tokens", images, channels, picture, ((grid, grid),), boxes, bins)


def _pyramid(
    row: str,
    picture: tuple[int, int],
    boxes: int,
    levels: tuple[int, ...],
    images: int = 1,
    channels: int = 256,
) -> Case:
    padded = [math.ceil(side / PIXELS_DIVISOR) * PIXELS_DIVISOR for side in picture]
    grids = tuple((padded[0] // stride, padded[1] // stride) for stride in STRIDES)
    what = "all levels" if len(levels) > 1 else f"stride {STRIDES[levels[0]]}"
    group = f"pyramid of {picture[1]}x{picture[0]} px, {what}, 7x7 bins"
    return Case(row, group, "maps", images, channels, picture, grids, boxes, 7, levels)


def _row_a() -> list[Case]:
    """1x1 pooling of the tokens of one or two images, and 7x7 of the largest grid."""
    cases = []
    for grid in (14, 24, 40, 64):
        for channels, boxes in itertools.product((512, 768, 1024), (100, 300, 1000)):
            cases.append(_tokens("a", grid, channels, boxes))
            if channels == BATCH_CHANNELS:
                cases.append(_tokens("a", grid, channels, boxes, images=2))
    return [*cases, _tokens("a", 64, 768, 512, bins=7)]


def _row_b() -> list[Case]:
    """7x7 pooling of the four maps of a pyramid, each alone and all in turn."""
    every = tuple(range(len(STRIDES)))
    return [
        _pyramid("b", (640, 640), boxes, levels)
        for boxes in (512, 1000)
        for levels in (every, *((level,) for level in every))
    ]


def _row_c() -> list[Case]:
    """The same on two large images."""
    every = tuple(range(len(STRIDES)))
    return [
        _pyramid("c", (800, 1333), 512, every, images=2),
        _pyramid("c", (800, 1333), 1000, every, images=2),
        _tokens("c", 96, 1024, 300, images=2),
        _tokens("c", 96, 1024, 1000, images=2),
    ]


ROWS = {"a": _row_a, "b": _row_b, "c": _row_c}


def _quick(row: str) -> list[Case]:
    if row == "a":
        return [_tokens("a", 6, 20, 8, images=2), _tokens("a", 6, 20, 8, bins=7)]
    images = 2 if row == "c" else 1
    return [_pyramid(row, (64, 96), 16, levels, images, 8) for levels in ((0, 1, 2, 3), (0,))]


def cases_of(rows: str, *, quick: bool) -> list[Case]:
    """The cases of some rows.

    Args:
        rows: Letters, separated by commas: "a" tokens, "b" a pyramid, "c" large images.
        quick: Tiny ones instead, to see whether the benchmark runs.

    Raises:
        ValueError: A row that there is not.
    """
    wanted = [row.strip() for row in rows.split(",")]
    wrong = [row for row in wanted if row not in ROWS]
    if wrong:
        raise ValueError(f"--rows has no {wrong[0]!r}; choose from {','.join(ROWS)}")
    return [
        case for row in ROWS if row in wanted for case in (_quick(row) if quick else ROWS[row]())
    ]
