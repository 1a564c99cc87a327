"""The oracle against torchvision and a written-out loop, and the extension against the oracle."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from torch import Tensor

from fgclip_det.ops import backend, reference, roi_align
from tests.messages import says


def ordered_rois(count: int, images: int, size: float) -> Tensor:
    ends = (torch.rand(count, 2, 2) * 1.4 - 0.2) * size
    index = torch.randint(0, images, (count, 1)).float()
    return torch.cat([index, ends.amin(dim=1), ends.amax(dim=1)], dim=1)


def pool_one_bin_by_hand(image: Tensor, box: list[float], p: int, q: int, bins: int) -> float:
    """Adaptive, aligned RoIAlign of one bin of an (h, w) image, sample by sample."""
    height, width = image.shape
    x1, y1, x2, y2 = (edge - 0.5 for edge in box)
    bin_h, bin_w = (y2 - y1) / bins, (x2 - x1) / bins
    rows, columns = math.ceil(bin_h), math.ceil(bin_w)
    total = 0.0
    for i in range(rows):
        for j in range(columns):
            y = y1 + (p + (i + 0.5) / rows) * bin_h
            x = x1 + (q + (j + 0.5) / columns) * bin_w
            if y < -1 or y > height or x < -1 or x > width:
                continue
            y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            dy, dx = y - top, x - left
            total += float(
                (1 - dy) * ((1 - dx) * image[top, left] + dx * image[top, right])
                + dy * ((1 - dx) * image[bottom, left] + dx * image[bottom, right])
            )
    return total / max(rows * columns, 1)


@pytest.mark.parametrize(
    "box", [[1.2, 0.9, 6.3, 5.8], [-3.0, -2.5, 4.0, 3.0], [5.5, 4.1, 12.0, 9.0]], ids=str
)
def test_equals_a_loop_over_samples(box: list[float]) -> None:
    image = torch.randn(6, 8, dtype=torch.float64)
    rois = torch.tensor([[0.0, *box]])
    pooled = reference.roi_align(image[None, None], rois, 1.0, 2, 2, -1, True)
    for p in range(2):
        for q in range(2):
            expected = pool_one_bin_by_hand(image, rois[0, 1:].tolist(), p, q, 2)
            assert pooled[0, 0, p, q].item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [-1, 2])
def test_equals_torchvision(sampling_ratio: int, aligned: bool) -> None:
    for bins in ((1, 1), (3, 5)):
        features = torch.randn(2, 6, 9, 12, requires_grad=True)
        rois = ordered_rois(30, 2, 48)
        ours = reference.roi_align(features, rois, 0.25, *bins, sampling_ratio, aligned)
        theirs = torchvision.ops.roi_align(features, rois, bins, 0.25, sampling_ratio, aligned)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
        weights = torch.randn(ours.shape)
        expected = torch.autograd.grad(theirs, features, weights)[0]
        by_autograd = torch.autograd.grad(ours, features, weights)[0]
        by_transpose = reference.roi_align_backward(
            weights, rois, 0.25, *features.shape, sampling_ratio, aligned
        )
        for gradient in (by_autograd, by_transpose):
            torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-5)


def test_weights_of_a_box_inside_the_map_sum_to_one() -> None:
    weights = reference.axis_weights(
        torch.tensor([1.0, 2.5]),
        torch.tensor([7.0, 3.0]),
        size=9,
        bins=3,
        spatial_scale=1.0,
        sampling_ratio=-1,
        aligned=True,
    )
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(2, 3))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, rois = torch.randn(2, 6, 9, 12), ordered_rois(30, 2, 48)
    arguments = (rois, 0.25, 3, 5, -1, True)
    whole = reference.roi_align(features, *arguments)
    monkeypatch.setattr(reference, "CHUNK_ELEMENTS", 1)
    torch.testing.assert_close(reference.roi_align(features, *arguments), whole)


def test_wrong_batch_index_is_named() -> None:
    with pytest.raises(ValueError, match=says("rois[0, 0]", "image 3", "2 images")):
        reference.roi_align(
            torch.zeros(2, 1, 3, 3), torch.tensor([[3.0, 0, 0, 1, 1]]), 1.0, 1, 1, -1, True
        )


@pytest.mark.skipif(backend()["cpu"] == "reference", reason="the extension is not built")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_extension_equals_reference(dtype: torch.dtype) -> None:
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-10, torch.bfloat16: 1e-2}[dtype]
    rois = ordered_rois(20, 2, 48)
    odd = [[0.0, 9, 9, 3, 3], [1.0, math.nan, 0, 1, 1], [1.0, 0, 0, math.inf, 1], [0.0] * 5]
    rois = torch.cat([rois, torch.tensor(odd)])
    features = torch.randn(2, 33, 9, 12).to(dtype).requires_grad_()
    for bins, ratio, aligned in ((1, -1, True), (7, -1, True), (2, 3, False)):
        oracle = reference.roi_align(features, rois, 0.25, bins, bins, ratio, aligned)
        ours = roi_align(features, rois, bins, 0.25, ratio, aligned)
        torch.testing.assert_close(ours, oracle, atol=tolerance, rtol=tolerance)
        weights = torch.randn(ours.shape).to(dtype)
        torch.testing.assert_close(
            torch.autograd.grad(ours, features, weights)[0],
            torch.autograd.grad(oracle, features, weights)[0],
            atol=tolerance,
            rtol=tolerance,
        )
