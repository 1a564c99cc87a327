"""The stand-ins for torchvision's functions give what these give, and leave torchvision whole."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torchvision

from fgclip_det.compat import torchvision_ops


def boxes_of(count: int) -> torch.Tensor:
    corners = torch.rand(count, 2, generator=torch.Generator().manual_seed(count)) * 20
    return torch.cat([corners, corners + 10], dim=1)


@pytest.mark.parametrize("count", [0, 1, 40])
@pytest.mark.parametrize("ties", [False, True])
def test_suppression_is_torchvisions(count: int, ties: bool) -> None:
    boxes = boxes_of(count)
    scores = torch.linspace(0, 1, count)
    if ties:
        scores = scores.round(decimals=1)
    kept = torchvision_ops.nms(boxes, scores, 0.3)
    assert torch.equal(kept, torchvision.ops.nms(boxes, scores, 0.3)) and kept.dtype == torch.int64
    assert count < 2 or 0 < len(kept) < count


def test_overlaps_are_torchvisions() -> None:
    boxes, others = boxes_of(5), boxes_of(3)
    expected = torchvision.ops.box_iou(boxes, others)
    assert torch.equal(torchvision_ops.box_iou(boxes, others), expected)


@pytest.mark.parametrize("found", [0, 2])
def test_without_one_library_torchvision_itself_is_asked(
    found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(torchvision_ops.Path, "glob", lambda *_: [f"{n}.so" for n in range(found)])
    monkeypatch.setattr(torchvision_ops.importlib, "import_module", asked.append)
    torchvision_ops._load_operators.__wrapped__()
    assert asked == ["torchvision"]


ALONE = """
import sys, torch
from fgclip_det.compat import nms
boxes = torch.tensor([[0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 30, 30]], dtype=torch.float32)
scores = torch.tensor([0.5, 0.9, 0.1])
assert nms(boxes, scores, 0.5).tolist() == [1, 2]
assert "torchvision" not in sys.modules
import torchvision
assert torchvision.ops.nms(boxes, scores, 0.5).tolist() == [1, 2]
with torch.device("meta"):
    pooled = torchvision.ops.roi_align(torch.empty(1, 2, 4, 4), torch.empty(3, 5), 2)
assert pooled.shape == (3, 2, 2, 2)
assert nms(boxes, scores, 0.5).tolist() == [1, 2]
"""


@pytest.mark.slow
def test_torchvision_may_be_imported_afterwards() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
