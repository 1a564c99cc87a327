"""The operators as PyTorch sees them: schemas, opcheck, torch.compile, the announced fallback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fgclip_det.ops import _library, backend, roi_align

ROOT = Path(__file__).resolve().parents[2]
ROIS = torch.tensor([[0.0, 1, 1, 6, 5], [1, -2, 0, 3, 9], [1, 5, 5, 2, 2]])

WITHOUT_EXTENSION = """
import sys, warnings
sys.modules["fgclip_det._C"] = None
import torch
from fgclip_det import ops
assert ops.backend() == {"cpu": "reference", "cuda": "reference"}, ops.backend()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for layout in (torch.contiguous_format, torch.channels_last):
        features = torch.ones(2, 3, 4, 4).to(memory_format=layout).requires_grad_()
        boxes = [torch.tensor([[0.0, 0.0, 4.0, 4.0]])] * 2
        pooled = ops.roi_align(features, boxes, 2)
        assert pooled.is_contiguous(memory_format=layout)
        pooled.sum().backward()
        assert torch.allclose(features.grad.sum(), torch.tensor(24.0))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(ops.roi_align(features, boxes, 2), pooled)
    torch.library.opcheck(
        torch.ops.fgclip_det.roi_align.default,
        (features, torch.zeros(1, 5), 1.0, 2, 2, -1, True),
    )
said = [str(w.message) for w in caught if "compiled operators" in str(w.message)]
assert len(said) == 1 and "pip install" in said[0], said
try:
    ops.roi_align(features, torch.full((1, 5), 7.0), 2)
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize("name", _library.SCHEMAS)
def test_schemas_in_python_and_cpp_agree(name: str) -> None:
    declared = getattr(torch.ops.fgclip_det, name).default._schema
    assert str(declared) == f"fgclip_det::{name}{_library.SCHEMAS[name]}"
    cpp = (ROOT / "fgclip_det" / "ops" / "csrc" / "roi_align.cpp").read_text(encoding="utf-8")
    text = "".join(cpp.replace('"\n', '"').split('"')[1::2])
    assert "".join((name + _library.SCHEMAS[name]).split()) in "".join(text.split())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    features = torch.randn(2, 3, 6, 7).to(dtype, memory_format=memory_format).requires_grad_()
    ops = torch.ops.fgclip_det
    for bins, ratio, aligned in ((1, -1, True), (2, 2, False)):
        arguments = (features, ROIS, 1.0, bins, bins + 1, ratio, aligned)
        torch.library.opcheck(ops.roi_align.default, arguments)
        gradient = torch.randn(3, 3, bins, bins + 1).to(dtype).requires_grad_()
        last = memory_format == torch.channels_last
        torch.library.opcheck(
            ops.roi_align_backward.default,
            (gradient, ROIS, 1.0, 2, 3, 6, 7, ratio, aligned, last),
        )


def test_opcheck_without_boxes() -> None:
    features = torch.randn(2, 3, 6, 7, requires_grad=True)
    arguments = (features, torch.zeros(0, 5), 1.0, 2, 2, -1, True)
    torch.library.opcheck(torch.ops.fgclip_det.roi_align.default, arguments)


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_into_one_graph(dynamic: bool) -> None:
    def pool(tokens: Tensor, boxes: list[Tensor]) -> Tensor:
        return roi_align(tokens * 2, boxes, 2, 0.5, grid=(3, 4)).square().sum(dim=(1, 2))

    compiled = torch.compile(pool, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for counts in ((2, 1), (3, 4)):
        tokens = torch.randn(2, 12, 5, requires_grad=True)
        boxes = [torch.rand(count, 4).cumsum(dim=1) * 3 for count in counts]
        ours, expected = compiled(tokens, boxes), pool(tokens, boxes)
        torch.testing.assert_close(ours, expected)
        torch.testing.assert_close(
            torch.autograd.grad(ours.sum(), tokens)[0],
            torch.autograd.grad(expected.sum(), tokens)[0],
        )


def test_backend_names_both_devices() -> None:
    assert set(backend()) == {"cpu", "cuda"}
    assert set(backend().values()) <= {"extension", "reference"}


def test_fallback_works_and_is_announced_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTENSION], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "rois[0, 0] names image 7, but the features hold 2" in done.stdout


def test_operators_refuse_half_precision_rois() -> None:
    features = torch.randn(2, 3, 6, 7)
    with pytest.raises(ValueError, match="rois must be float32"):
        torch.ops.fgclip_det.roi_align(features, ROIS.bfloat16(), 1.0, 2, 2, -1, True)
