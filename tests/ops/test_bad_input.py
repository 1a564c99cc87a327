"""What the operators and the public function refuse, beyond the table in test_roi_align.py.

`torch.ops.fgclip_det` is called here without the public function in front of it, as exported and
compiled programs do.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fgclip_det.ops import RoIAlign, backend, roi_align
from tests.messages import says

compiled_only = pytest.mark.skipif(
    backend()["cpu"] == "reference", reason="the extension is not built"
)

MAPS = torch.rand(2, 3, 4, 5)
TOKENS = torch.rand(2, 20, 3)
ROIS = torch.tensor([[0.0, 0, 0, 3, 3], [1, 1, 1, 2, 2]])
GRADIENT = torch.rand(2, 3, 2, 2)
NAN, INF = math.nan, math.inf


def roi_of(image: float) -> Tensor:
    """A good roi and, in row 1, one of this image."""
    return torch.tensor([[0.0, 0, 0, 3, 3], [image, 0, 0, 3, 3]])


def forward(**change: object) -> Tensor:
    """The operator on MAPS and ROIS, but for what is changed."""
    arguments = dict(
        input=MAPS,
        rois=ROIS,
        spatial_scale=1.0,
        pooled_height=2,
        pooled_width=2,
        sampling_ratio=-1,
        aligned=True,
    )
    return torch.ops.fgclip_det.roi_align(**(arguments | change))


def backward(**change: object) -> Tensor:
    """The operator's gradient on GRADIENT and ROIS, but for what is changed."""
    arguments = dict(
        grad_output=GRADIENT,
        rois=ROIS,
        spatial_scale=1.0,
        batch_size=2,
        channels=3,
        height=4,
        width=5,
        sampling_ratio=-1,
        aligned=True,
        channels_last=False,
    )
    return torch.ops.fgclip_det.roi_align_backward(**(arguments | change))


def test_the_calls_below_are_right_but_for_what_they_change() -> None:
    assert forward().shape == (2, 3, 2, 2)
    assert backward().shape == (2, 3, 4, 5)
    assert torch.equal(forward(), roi_align(MAPS, ROIS, 2))


@compiled_only
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool", "complex64", "float8_e4m3fn"])
def test_dtypes_of_features(dtype: str) -> None:
    wrong = getattr(torch, dtype)
    said = "must be float16, bfloat16, float32 or float64, not "
    with pytest.raises(ValueError, match=said):
        forward(input=MAPS.to(wrong))
    with pytest.raises(ValueError, match=said):
        backward(grad_output=GRADIENT.to(wrong))
    with pytest.raises(ValueError, match=f"{said}torch.{dtype}"):
        roi_align(MAPS.to(wrong), ROIS, 2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int64", "complex64"])
def test_dtypes_of_rois(dtype: str) -> None:
    for call in (forward, backward):
        with pytest.raises(ValueError, match=says("rois", "float32", "rois.float()")):
            call(rois=ROIS.to(getattr(torch, dtype)))


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "int64"])
def test_public_function_takes_boxes_of_real_dtypes(dtype: str) -> None:
    rois = ROIS.to(getattr(torch, dtype))
    boxes = [rois[:1, 1:], rois[1:, 1:]]
    assert torch.equal(roi_align(MAPS, rois, 2), roi_align(MAPS, ROIS, 2))
    assert torch.equal(roi_align(MAPS, boxes, 2), roi_align(MAPS, ROIS, 2))


@pytest.mark.parametrize(
    "image", [-1.0, -0.5, -1e-6, 2.0, 3.0, 1e9, 2.0**31, 2.0**63, 1e38, -1e38, NAN, INF, -INF]
)
def test_images_that_are_not_there(image: float) -> None:
    said = r"rois\[1, 0\] names image .*, but the features hold 2 images; batch indices start at 0"
    for call in (forward, backward):
        with pytest.raises(ValueError, match=said):
            call(rois=roi_of(image))
    for some in (MAPS, MAPS.to(memory_format=torch.channels_last), MAPS.bfloat16()):
        with pytest.raises(ValueError, match=said):
            roi_align(some, roi_of(image), 1)
    with pytest.raises(ValueError, match=said):
        roi_align(TOKENS, roi_of(image), 1, grid=(4, 5))


def test_boxes_without_images() -> None:
    with pytest.raises(ValueError, match=says("rois[0, 0]", "image 0", "0 images")):
        roi_align(MAPS[:0], ROIS, 2)
    with pytest.raises(ValueError, match=says("boxes", "2 images", "one (K_i, 4) tensor")):
        roi_align(MAPS[:0], [ROIS[:, 1:]] * 2, 2)


@compiled_only
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(input=MAPS[0]), r"\(N, C, h, w\), not of shape \[3, 4, 5\]"),
        (dict(input=MAPS[None]), r"\(N, C, h, w\), not of shape \[1, 2, 3, 4, 5\]"),
        (dict(input=MAPS[:, :, :0]), "features of 0 x 5 cells"),
        (dict(input=MAPS[..., :0]), "features of 4 x 0 cells"),
        (dict(rois=ROIS[:, :4]), r"rois must be \(K, 5\).*\[2, 4\]"),
        (dict(rois=ROIS[0]), r"rois must be \(K, 5\).*\[5\]"),
        (dict(rois=ROIS[None]), r"rois must be \(K, 5\).*\[1, 2, 5\]"),
        (dict(pooled_height=0), r"output_size.*\(0, 2\)"),
        (dict(pooled_width=-7), r"output_size.*\(2, -7\)"),
        (dict(pooled_width=2**31), r"not \(2, 2147483648\)"),
        (dict(pooled_height=2**62), r"not \(4611686018427387904, 2\)"),
        (dict(sampling_ratio=65537), "sampling_ratio must be at most 65536, not 65537"),
        (dict(sampling_ratio=2**62), "sampling_ratio must be at most 65536, not 46116860"),
    ],
)
def test_operator_refuses_shapes(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        forward(**change)


@compiled_only
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(grad_output=GRADIENT[0]), r"grad_output must be \(2, 3, oh, ow\).*\[3, 2, 2\]"),
        (dict(grad_output=GRADIENT[:1]), r"grad_output must be \(2, 3, oh, ow\).*\[1, 3, 2, 2\]"),
        (dict(grad_output=GRADIENT[:, :2]), r"grad_output must be \(2, 3, .*\[2, 2, 2, 2\]"),
        (dict(channels=-3), r"grad_output must be \(2, -3, oh, ow\)"),
        (dict(rois=ROIS[:, :4]), r"rois must be \(K, 5\).*\[2, 4\]"),
        (dict(batch_size=1), r"rois\[1, 0\].* image 1.* 1 images"),
        (dict(batch_size=-1), "batch_size.* -1"),
        (dict(height=0), "features of 0 x 5 cells"),
        (dict(width=-4), "features of 4 x -4 cells"),
        (dict(height=2**31), "features of 2147483648 x 5 cells"),
        (dict(sampling_ratio=65537), "sampling_ratio must be at most 65536, not 65537"),
    ],
)
def test_gradient_refuses_shapes(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backward(**change)


def test_other_device() -> None:
    meta = MAPS.to("meta"), ROIS.to("meta")
    with pytest.raises(ValueError, match=says("boxes", "cpu", "features", "meta", "move")):
        roi_align(meta[0], ROIS, 2)
    with pytest.raises(ValueError, match=says("boxes", "meta", "features", "cpu", "move")):
        roi_align(MAPS, [meta[1][:, 1:]] * 2, 2)
    with pytest.raises(ValueError, match=says("boxes", "meta", "features", "cpu", "move")):
        roi_align(TOKENS, meta[1], 2, grid=(4, 5))
    assert roi_align(*meta, 2).device.type == "meta"


@pytest.mark.parametrize("scale", [0.0, -1.0, -1 / 16, INF, -INF, NAN])
def test_spatial_scale(scale: float) -> None:
    with pytest.raises(ValueError, match="spatial_scale must be positive"):
        roi_align(MAPS, ROIS, 2, scale)
    with pytest.raises(ValueError, match="spatial_scale must be positive"):
        RoIAlign(2, scale)(MAPS, ROIS)


@pytest.mark.parametrize("size", [0, -1, 65536, None, 2.0, "22", (2,), (2, 0), (2, 2.5), [1, 2, 3]])
def test_output_size(size: object) -> None:
    with pytest.raises(ValueError, match="output_size must be a positive int or two"):
        RoIAlign(size)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="output_size must be a positive int or two"):
        roi_align(MAPS, ROIS, size)  # type: ignore[arg-type]


def test_refusals_leave_the_operator_usable() -> None:
    features = MAPS.clone().requires_grad_()
    expected = roi_align(features, ROIS, 2)
    expected.sum().backward()
    assert features.grad is not None
    gradient = features.grad.clone()
    for image in (-1.0, 2.0, NAN):
        with pytest.raises(ValueError, match="names image"):
            roi_align(features, roi_of(image), 2)
    features.grad = None
    pooled = roi_align(features, ROIS, 2)
    pooled.sum().backward()
    assert torch.equal(pooled, expected)
    assert torch.equal(features.grad, gradient)


def test_features_without_channels() -> None:
    features = MAPS[:, :0].clone().requires_grad_()
    pooled = roi_align(features, ROIS, 2)
    assert pooled.shape == (2, 0, 2, 2)
    assert torch.autograd.grad(pooled.sum(), features)[0].shape == (2, 0, 4, 5)


@pytest.mark.parametrize("image", [0.5, 1.5, 1.999999])
def test_fractions_of_images(image: float) -> None:
    for call in (forward, backward):
        with pytest.raises(ValueError, match=r"rois\[1, 0\] names image"):
            call(rois=roi_of(image))


@pytest.mark.parametrize("call", [forward, backward])
def test_operator_refuses_rois_of_another_device(call: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match=says("rois", "meta", "features", "cpu", "move")):
        call(rois=ROIS.to("meta"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(boxes=[ROIS[:1, 1:], ROIS[:1, 1:].to("meta")]), r"boxes\[1\].*meta"),
        (dict(boxes=ROIS.to(torch.complex64)), "boxes.*complex64"),
        (dict(boxes=[ROIS[:1, 1:].to(torch.complex64)] * 2), r"boxes\[0\].*complex64"),
        (dict(boxes=[[[0.0, 0.0, 1.0, 1.0]]] * 2), r"boxes\[0\].*list"),
        (dict(boxes=ROIS.numpy()), "boxes.*ndarray"),
        (dict(boxes=None), "boxes.*NoneType"),
        (dict(features=MAPS.numpy()), "features.*ndarray"),
        (dict(sampling_ratio=2.5), "sampling_ratio.*2.5"),
        (dict(sampling_ratio=None), "sampling_ratio.*None"),
        (dict(sampling_ratio=2**70), f"sampling_ratio.*{2**70}"),
        (dict(spatial_scale="1/16"), "spatial_scale.*1/16"),
        (dict(features=TOKENS, grid=(-4, -5)), r"grid.*\(-4, -5\)"),
        (dict(features=TOKENS, grid=(4, 5, 1)), r"grid.*\(4, 5, 1\)"),
        (dict(features=TOKENS, grid=(4.0, 5.0)), r"grid.*\(4.0, 5.0\)"),
        (dict(features=TOKENS, grid=20), "grid.*20"),
    ],
)
def test_public_function_refuses(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        roi_align(**(dict(features=MAPS[:, :, :1, :1], boxes=ROIS[:1], output_size=1) | change))
