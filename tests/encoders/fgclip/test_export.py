"""`torch.export` and `torch.compile` of region features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, export

from fgclip_det.encoders import FGCLIP
from tests.tiny_encoders import tiny_fgclip


@pytest.fixture(scope="module")
def encoder() -> FGCLIP:
    return tiny_fgclip()


class EncodeRegions(nn.Module):
    """`encode_regions` of two images as a module."""

    def __init__(self, encoder: FGCLIP) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return self.encoder.encode_regions(images, [first, second], normalize=True)


def boxes(count: int) -> Tensor:
    corners = torch.rand(count, 2, 2).sort(dim=1)[0] * 64
    return corners.flatten(1)


def test_exported_regions_take_any_number_of_boxes(encoder: FGCLIP) -> None:
    model = EncodeRegions(encoder).eval()
    images = torch.randn(2, 3, 64, 96)
    shapes = (None, {0: Dim("first")}, {0: Dim("second")})
    program = export(model, (images, boxes(5), boxes(3)), dynamic_shapes=shapes).module()
    for counts in ((5, 3), (2, 9), (4, 0), (0, 0)):
        arguments = (images, boxes(counts[0]), boxes(counts[1]))
        torch.testing.assert_close(program(*arguments), model(*arguments))


def test_compiled_regions_are_one_graph_with_the_same_gradient(encoder: FGCLIP) -> None:
    model = EncodeRegions(encoder).eval()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    images = torch.randn(2, 3, 64, 96, requires_grad=True)
    arguments = (images, boxes(5), boxes(3))
    expected, result = model(*arguments), compiled(*arguments)
    torch.testing.assert_close(result, expected)
    weights = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(result, images, weights)[0],
        torch.autograd.grad(expected, images, weights)[0],
    )
