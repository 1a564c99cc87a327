"""Models that pool with our operator under torch.export and torch.compile: the same numbers."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from fgclip_det.encoders import FGCLIP
from fgclip_det.ops import RoIAlign, roi_align
from tests.tiny_encoders import tiny_fgclip


class EncodeRois(nn.Module):
    """Region embeddings of rois (K, 5), so that the batch may have any number of images."""

    def __init__(self, encoder: FGCLIP) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor, rois: Tensor) -> Tensor:
        dense = self.encoder.encode_dense(images)
        grid = (dense.shape[1], dense.shape[2])
        scale = 1.0 / self.encoder.patch_size
        pooled = roi_align(dense.flatten(1, 2), rois, 1, scale, grid=grid).flatten(1)
        return nn.functional.normalize(pooled, dim=-1)


class Head(nn.Module):
    """A layer before and one behind the pooling, so that gradients pass through it."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 8, 1)
        self.pool = RoIAlign(2, spatial_scale=0.5)
        self.behind = nn.Linear(8 * 2 * 2, 4)

    def forward(self, maps: Tensor, rois: Tensor) -> Tensor:
        return self.behind(self.pool(self.before(maps), rois).flatten(1)).tanh()


def _boxes(count: int, side: float = 64) -> Tensor:
    """Ordered (K, 4) in pixels of a picture of about `side`, some beyond its border."""
    return (torch.rand(count, 4).cumsum(dim=1) / 2 - 0.1) * side


def _rois(count: int, images: int, side: float = 64) -> Tensor:
    return torch.cat([torch.randint(images, (count, 1)).float(), _boxes(count, side)], dim=1)


@pytest.fixture(scope="module")
def encoder() -> FGCLIP:
    return tiny_fgclip()


def test_export_with_any_batch_and_size_saved_and_read(encoder: FGCLIP) -> None:
    model = EncodeRois(encoder)
    exported = torch.export.export(
        model,
        # Not on the side of the position table, or its size is taken for granted.
        (torch.randn(2, 3, 80, 96), _rois(5, 2)),
        dynamic_shapes=(
            {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC},
            {0: Dim.DYNAMIC},
        ),
    )
    file = io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    again = torch.export.load(file).module()
    for images, count, height, width in ((2, 5, 80, 96), (3, 1, 96, 50), (1, 0, 128, 80)):
        inputs = (torch.randn(images, 3, height, width), _rois(count, images))
        torch.testing.assert_close(again(*inputs), model(*inputs))


@pytest.mark.parametrize(
    ("backend", "dynamic", "layout"),
    [
        ("aot_eager", True, torch.channels_last),
        # Inductor calls a C++ compiler, which takes a while.
        pytest.param("inductor", False, torch.channels_last, marks=pytest.mark.slow),
        pytest.param("inductor", True, torch.contiguous_format, marks=pytest.mark.slow),
    ],
)
def test_a_module_trains_in_one_graph(
    backend: str, dynamic: bool, layout: torch.memory_format
) -> None:
    torch._dynamo.reset()
    model = Head().to(memory_format=layout)
    compiled = torch.compile(model, fullgraph=True, backend=backend, dynamic=dynamic)
    for count in (3, 7):
        maps = torch.randn(2, 3, 6, 8).to(memory_format=layout).requires_grad_()
        rois = _rois(count, 2, 14)
        ours, expected = compiled(maps, rois), model(maps, rois)
        torch.testing.assert_close(ours, expected)
        leaves = [maps, *model.parameters()]
        for gradient, wanted in zip(
            torch.autograd.grad(ours.sum(), leaves),
            torch.autograd.grad(expected.sum(), leaves),
            strict=True,
        ):
            assert wanted.any()
            torch.testing.assert_close(gradient, wanted)


def test_settings_may_change_under_compile() -> None:
    def pool(tokens: Tensor, rois: Tensor, size: int, scale: float, ratio: int) -> Tensor:
        return roi_align(tokens * 2, rois, size, scale, ratio, grid=(3, 4))

    torch._dynamo.reset()
    compiled = torch.compile(pool, fullgraph=True, backend="aot_eager", dynamic=True)
    tokens, rois = torch.randn(2, 12, 5), _rois(4, 2, 8)
    for settings in ((2, 0.5, 2), (3, 0.25, -1), (1, 1 / 14, 0)):
        expected = pool(tokens, rois, *settings)
        torch.testing.assert_close(compiled(tokens, rois, *settings), expected)
