"""Maps of more than 2^31 elements: every offset is a 64-bit number, on every axis.

The memory is reserved and not touched: only the pages that hold the values below are ever resident.
"""

from __future__ import annotations

import mmap
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fgclip_det.ops import backend, roi_align

pytestmark = [
    pytest.mark.skipif(backend()["cpu"] == "reference", reason="the extension is not built"),
    pytest.mark.skipif(sys.platform != "linux", reason="reserves memory as Linux does"),
]

# Elements between two images, rows, ... of which there are three. With the first the product of
# index and stride leaves int32, with the second uint32; the third stride fits into neither.
FAR = (2**30 + 32, 2**31 + 64, 2**32 + 64)
NORESERVE = 0x4000  # mmap.MAP_NORESERVE, which Python has from 3.13 on
BOXES = torch.tensor([[0.3, 0.2, 3.9, 2.8], [-1.0, 0.5, 2.2, 5.0], [1.0, 1.0, 1.4, 1.3]])
ROIS = torch.cat([torch.tensor([[2.0], [0], [1]]), BOXES], dim=1)
SHAPE = (3, 3, 3, 3)  # N, C, h, w


@pytest.fixture
def reserved() -> Iterator[mmap.mmap]:
    """Zeros that cost nothing: room for 2^31 floats before the first and two steps behind it."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE
    try:
        memory = mmap.mmap(-1, 4 * (2**31 + 2 * FAR[-1] + 4096), flags=flags)
    except (OSError, ValueError, OverflowError) as error:
        pytest.skip(f"40 GiB of address space cannot be reserved: {error}")
    yield memory


def far_apart(memory: mmap.mmap, values: Tensor, axis: int, far: int) -> Tensor:
    """`values` (A, B, C, D), three of them along `axis`, laid `far` elements apart along it.

    The other axes are dense with the second one innermost. An offset that wraps around lands in the
    2^31 zeros before the first value.
    """
    base = torch.frombuffer(memory, dtype=values.dtype)
    _, b, c, d = values.shape
    strides = [b * c * d, 1, b * d, b]
    strides[axis] = far
    result = base.as_strided(values.shape, strides, storage_offset=2**31)
    result.copy_(values)
    return result


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * mmap.PAGESIZE


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("axis", range(4), ids=["image", "channel", "row", "column"])
@pytest.mark.parametrize("far", FAR)
def test_features(reserved: mmap.mmap, far: int, axis: int, dtype: torch.dtype) -> None:
    near = torch.randn(SHAPE).to(dtype, memory_format=torch.channels_last)
    before = resident()
    features = far_apart(reserved, near, axis, far)
    for bins in (1, (2, 3)):
        torch.testing.assert_close(roi_align(features, ROIS, bins), roi_align(near, ROIS, bins))
    assert resident() - before < 2**29


@pytest.mark.parametrize("axis", [0, 2], ids=["image", "token"])
@pytest.mark.parametrize("far", FAR)
def test_tokens(reserved: mmap.mmap, far: int, axis: int) -> None:
    # (N, C, h*w, 1) with channels innermost, as tokens (N, h*w, C) of a grid of one column.
    near = torch.randn(3, 5, 3, 1)
    pooled, expected = (
        roi_align(some[..., 0].transpose(1, 2), ROIS, 2, grid=(3, 1))
        for some in (far_apart(reserved, near, axis, far), near)
    )
    torch.testing.assert_close(pooled, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("axis", range(4), ids=["box", "channel", "bin_row", "bin_column"])
@pytest.mark.parametrize("far", FAR)
def test_gradients(reserved: mmap.mmap, far: int, axis: int, dtype: torch.dtype) -> None:
    near = torch.randn(SHAPE).to(dtype, memory_format=torch.channels_last)
    settings = (1.0, *SHAPE, -1, True, True)
    before = resident()
    gradient = torch.ops.fgclip_det.roi_align_backward(
        far_apart(reserved, near, axis, far), ROIS, *settings
    )
    assert resident() - before < 2**29
    expected = torch.ops.fgclip_det.roi_align_backward(near, ROIS, *settings)
    assert expected.any()
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("far", FAR)
def test_boxes(reserved: mmap.mmap, far: int) -> None:
    features = torch.randn(SHAPE)
    rois = far_apart(reserved, ROIS[:, :, None, None], 0, far)[..., 0, 0]
    assert torch.equal(roi_align(features, rois, 2), roi_align(features, ROIS, 2))


@pytest.mark.parametrize("bins", [1, 7])
def test_more_than_two_to_the_31_elements(bins: int) -> None:
    # One image 70,000 times over: 2.6e9 elements in 147 kB.
    one = torch.randn(1, 64, 24, 24).to(memory_format=torch.channels_last)
    features = one.expand(70_000, -1, -1, -1)
    assert features.numel() > 2**31
    rois = torch.tensor([[0.0, 1, 2, 20, 18], [69_999, 1, 2, 20, 18], [35_000, 4, 4, 9, 9]])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * mmap.PAGESIZE
    # A copy would be 10 GB: with this limit it fails at once.
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**32, limits[1]))
    try:
        pooled = roi_align(features, rois, bins)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    same_image = torch.cat([torch.zeros(3, 1), rois[:, 1:]], dim=1)
    torch.testing.assert_close(pooled, roi_align(one, same_image, bins))
