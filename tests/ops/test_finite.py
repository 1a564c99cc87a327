"""NaN and infinities are found in every kind of tensor, and nothing else is."""

from __future__ import annotations

import pytest
import torch

from fgclip_det.ops.finite import check_finite
from tests.messages import says

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, 700, -1])
def test_one_of_many_is_found(dtype: torch.dtype, value: float, place: int) -> None:
    tensor = torch.randn(999)
    tensor[place] = value
    tensors = {"a": torch.ones(3), "odd": tensor.to(dtype), "c": torch.ones(2)}
    with pytest.raises(ValueError, match=says("file 'x'", "'odd'", "1 times")):
        check_finite(tensors, "file 'x'")


def test_infinities_that_cancel_are_found() -> None:
    with pytest.raises(ValueError, match=says("2 times")):
        check_finite({"a": torch.tensor([float("inf"), float("-inf"), 1.0])}, "x")


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_that_overflow_are_no_fault(dtype: torch.dtype) -> None:
    check_finite({"a": torch.full((5000,), torch.finfo(dtype).max, dtype=dtype)}, "x")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(0, 4),
        torch.tensor(1.0),
        torch.arange(3),
        torch.tensor([True]),
        torch.ones(4, 4)[:, 1:3].t(),
        torch.eye(3).to_sparse(),
        torch.ones(2, dtype=torch.complex64),
        torch.empty(9, device="meta"),
        torch.zeros(1).expand(10**12),
    ],
)
def test_other_kinds_of_tensors(tensor: torch.Tensor) -> None:
    check_finite({"a": tensor}, "x")


def test_what_a_view_leaves_out_does_not_matter() -> None:
    check_finite({"a": torch.tensor([1.0, float("nan")])[:1]}, "x")
    with pytest.raises(ValueError):
        check_finite({"a": torch.tensor([float("nan")]).expand(10**12)}, "x")
