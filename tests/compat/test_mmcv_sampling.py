"""RoIAlign, deformable convolution and attention of mmcv on the stand-in."""

import math

import pytest
import torch
import torchvision
from torch import Tensor

from fgclip_det import compat  # noqa: F401

mmcv_ops = pytest.importorskip("mmcv.ops")


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some_rois() -> Tensor:
    return torch.tensor(
        [
            [0.0, 3.0, 5.0, 60.0, 40.0],
            [1.0, -10.0, -4.0, 30.0, 90.0],
            [1.0, 10.0, 10.0, 10.5, 11.0],
            [0.0, 500.0, 500.0, 600.0, 600.0],
        ]
    )


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_roi_align_and_gradient_equal_torchvision(aligned: bool, sampling_ratio: int) -> None:
    ours = seeded(2, 3, 12, 16).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    pooled = mmcv_ops.roi_align(ours, some_rois(), (3, 2), 0.25, sampling_ratio, "avg", aligned)
    expected = torchvision.ops.roi_align(theirs, some_rois(), (3, 2), 0.25, sampling_ratio, aligned)
    torch.testing.assert_close(pooled, expected, atol=1e-5, rtol=1e-5)
    upstream = seeded(*pooled.shape, seed=5)
    pooled.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-5)


def test_roi_align_max_names_the_compiled_mmcv() -> None:
    with pytest.raises(NotImplementedError, match=r"pool_mode='max'.*mmcv==2\.1\.0"):
        mmcv_ops.roi_align(seeded(2, 3, 12, 16), some_rois(), 2, 0.25, 0, "max", True)


def bilinear(plane: Tensor, y: float, x: float) -> float:
    height, width = plane.shape
    if y <= -1 or x <= -1 or y >= height or x >= width:
        return 0.0
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                weight = (1 - abs(y - row)) * (1 - abs(x - column))
                total += weight * plane[row, column].item()
    return total


def loop_deform_conv(
    images: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, stride: int, padding: int
) -> Tensor:
    """Deformable convolution with two deform groups and one weight group, cell by cell."""
    count, channels, _, _ = images.shape
    out_channels, _, kernel, _ = weight.shape
    height, width = offset.shape[2:]
    output = torch.zeros(count, out_channels, height, width)
    taps = kernel * kernel
    for n in range(count):
        for y in range(height):
            for x in range(width):
                for c in range(channels):
                    group = c // (channels // 2)
                    for tap in range(taps):
                        index = group * taps + tap
                        sample_y = y * stride - padding + tap // kernel
                        sample_x = x * stride - padding + tap % kernel
                        sample_y += offset[n, 2 * index, y, x].item()
                        sample_x += offset[n, 2 * index + 1, y, x].item()
                        value = bilinear(images[n, c], sample_y, sample_x)
                        if mask is not None:
                            value *= mask[n, index, y, x].item()
                        output[n, :, y, x] += weight[:, c, tap // kernel, tap % kernel] * value
    return output


def test_deform_conv_equals_loop_and_has_gradients() -> None:
    images = seeded(2, 4, 5, 6).requires_grad_()
    weight = seeded(3, 4, 3, 3, seed=1).requires_grad_()
    offset = (seeded(2, 36, 3, 3, seed=2) * 1.5).requires_grad_()
    output = mmcv_ops.deform_conv2d(images, offset, weight, 2, 1, 1, 1, 2)
    expected = loop_deform_conv(images, offset, None, weight.detach(), stride=2, padding=1)
    torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-4)
    upstream = seeded(*output.shape, seed=3)
    output.backward(upstream)
    inputs = [tensor.detach().requires_grad_() for tensor in (images, offset, weight)]
    reference = torchvision.ops.deform_conv2d(*inputs, stride=2, padding=1)
    gradients = torch.autograd.grad(reference, inputs, upstream)
    for tensor, gradient in zip((images, offset, weight), gradients, strict=True):
        torch.testing.assert_close(tensor.grad, gradient)


def test_modulated_deform_conv_equals_loop_and_has_gradients() -> None:
    layer = mmcv_ops.ModulatedDeformConv2d(4, 3, 3, padding=1, deform_groups=2, bias=True)
    with torch.no_grad():
        layer.weight.copy_(seeded(3, 4, 3, 3, seed=1))
        layer.bias.copy_(torch.tensor([1.0, -2.0, 3.0]))
    images = seeded(1, 4, 4, 5).requires_grad_()
    offset = seeded(1, 36, 4, 5, seed=2).requires_grad_()
    mask = torch.rand(1, 18, 4, 5, generator=torch.Generator().manual_seed(4)).requires_grad_()
    output = layer(images, offset, mask)
    expected = loop_deform_conv(images, offset, mask, layer.weight.detach(), 1, 1)
    torch.testing.assert_close(
        output, expected + layer.bias.detach()[:, None, None], atol=1e-4, rtol=1e-4
    )
    upstream = seeded(*output.shape, seed=3)
    output.backward(upstream)
    torch.testing.assert_close(layer.bias.grad, upstream.sum((0, 2, 3)))
    inputs = [t.detach().requires_grad_() for t in (images, offset, layer.weight, mask)]
    reference = torchvision.ops.deform_conv2d(*inputs[:3], padding=1, mask=inputs[3])
    gradients = torch.autograd.grad(reference, inputs, upstream)
    for tensor, gradient in zip((images, offset, layer.weight, mask), gradients, strict=True):
        torch.testing.assert_close(tensor.grad, gradient)


def test_modulated_deform_conv_reads_larger_offsets_by_its_own_size() -> None:
    layer = mmcv_ops.ModulatedDeformConv2d(4, 3, 3, padding=1, deform_groups=2)
    images = seeded(2, 4, 3, 2)
    offset, mask = seeded(2, 36, 6, 4, seed=2), seeded(2, 18, 6, 4, seed=3)
    # Steps through memory: one picture is as far as before, its channels lie closer together.
    read_offset = offset.as_strided((2, 36, 3, 2), (36 * 24, 6, 2, 1)).clone()
    read_mask = mask.as_strided((2, 18, 3, 2), (18 * 24, 6, 2, 1)).clone()
    expected = loop_deform_conv(images, read_offset, read_mask, layer.weight.detach(), 1, 1)
    offset.requires_grad_()
    output = layer(images, offset, mask)
    torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-4)
    output.sum().backward()
    read_offset.requires_grad_()
    layer(images, read_offset, read_mask).sum().backward()
    gradient = offset.grad.flatten(1)
    torch.testing.assert_close(gradient[:, : 36 * 6], read_offset.grad.flatten(1))
    assert not gradient[:, 36 * 6 :].any()


def test_modulated_deform_conv_refuses_smaller_offsets() -> None:
    layer = mmcv_ops.ModulatedDeformConv2d(4, 3, 3, padding=1)
    with pytest.raises(RuntimeError, match="offset output dims"):
        layer(seeded(1, 4, 6, 4), seeded(1, 18, 3, 2), seeded(1, 9, 3, 2))


@pytest.mark.parametrize("place", [math.nan, math.inf, -math.inf, 1e30, -1e9])
def test_samples_at_no_place_are_outside(place: float) -> None:
    """As for mmcv's own kernel; torchvision's ends the process at NaN."""
    weight, offset = seeded(3, 2, 3, 3, seed=2), torch.zeros(1, 18, 5, 7)
    offset[0, :, 2, 3] = place
    outside = offset.clone()
    outside[0, :, 2, 3] = 1e4
    image, mask = seeded(1, 2, 5, 7), torch.ones(1, 9, 5, 7)
    plain = mmcv_ops.deform_conv2d(image, offset, weight, 1, 1, 1)
    expected = mmcv_ops.deform_conv2d(image, outside, weight, 1, 1, 1)
    torch.testing.assert_close(plain, expected)
    assert (plain[0, :, 2, 3] == 0).all() and plain.abs().max() > 1
    inputs = [image.requires_grad_(), offset.requires_grad_(), weight.requires_grad_()]
    found = mmcv_ops.modulated_deform_conv2d(*inputs[:2], mask, weight, None, 1, 1, 1, 1, 1)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert all(one.grad.isfinite().all() for one in inputs)


def test_grouped_deform_conv_and_bfloat16_offsets() -> None:
    images, weight = seeded(2, 4, 6, 6), seeded(6, 2, 3, 3, seed=1)
    zero = torch.zeros(2, 18, 6, 6, dtype=torch.bfloat16)
    output = mmcv_ops.deform_conv2d(images, zero, weight, 1, 1, 1, 2, 1)
    expected = torch.nn.functional.conv2d(
        images.bfloat16().float(), weight.bfloat16().float(), padding=1, groups=2
    )
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, atol=0.1, rtol=0.02)


def loop_attention(value: Tensor, shapes: list, locations: Tensor, weights: Tensor) -> Tensor:
    count, _, heads, channels = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    output = torch.zeros(count, queries, heads, channels)
    for n, q, m in torch.cartesian_prod(*map(torch.arange, (count, queries, heads))).tolist():
        start = 0
        for level, (height, width) in enumerate(shapes):
            planes = value[n, start : start + height * width, m].T.reshape(-1, height, width)
            start += height * width
            for point in range(points):
                x, y = locations[n, q, m, level, point].tolist()
                sample = [bilinear(plane, y * height - 0.5, x * width - 0.5) for plane in planes]
                output[n, q, m] += weights[n, q, m, level, point] * torch.tensor(sample)
    return output.flatten(2)


def test_ms_deform_attn_equals_loop_and_passes_gradients() -> None:
    from mmcv.ops.multi_scale_deform_attn import (
        MultiScaleDeformableAttnFunction,
        multi_scale_deformable_attn_pytorch,
    )

    shapes = [(3, 4), (2, 2)]
    value = seeded(2, 16, 2, 3).requires_grad_()
    generator = torch.Generator().manual_seed(2)
    locations = (torch.rand(2, 5, 2, 2, 3, 2, generator=generator) * 1.2 - 0.1).requires_grad_()
    weights = torch.rand(2, 5, 2, 2, 3, generator=generator).requires_grad_()
    inputs = (value, locations, weights)
    output = MultiScaleDeformableAttnFunction.apply(
        value, torch.tensor(shapes), torch.tensor([0, 12]), locations, weights, 64
    )
    with torch.no_grad():
        expected = loop_attention(value, shapes, locations, weights)
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
    upstream = seeded(*output.shape, seed=3)
    output.backward(upstream)
    reference = multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)
    gradients = torch.autograd.grad(reference, inputs, upstream)
    for tensor, gradient in zip(inputs, gradients, strict=True):
        torch.testing.assert_close(tensor.grad, gradient)
