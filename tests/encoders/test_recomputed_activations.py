"""What is computed again is what was computed first, and it is not kept meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from benchmarks.live_bytes import LiveBytes
from tests.tiny_encoders import tiny_fgclip, tiny_fgclip2


def _gradients(model, recompute: bool, dtype: torch.dtype | None) -> tuple[dict, int]:
    """Gradients of all that the towers give, and the bytes held between forward and backward."""
    model = model.requires_grad_(True).recompute_activations(recompute)
    images = torch.randn(2, 3, 80, 64, generator=torch.Generator().manual_seed(0))
    boxes = [torch.tensor([[4.0, 4.0, 40.0, 44.0]]), torch.zeros(0, 4)]
    texts = ["red circle", "blue star"]
    length = model.region_text_length
    autocast = torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None)
    with LiveBytes() as live, autocast:
        total = model.encode_image(images).sum() + model.encode_regions(images, boxes).sum()
        total = total + model.encode_text(texts, length).square().sum()
        total = total + model.encode_text(texts, "long").square().sum()
        held = live.now()
    total.backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, held


@pytest.mark.parametrize("make", [tiny_fgclip, tiny_fgclip2])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_gradients_stay_and_memory_falls(make: Callable, dtype: torch.dtype | None) -> None:
    first, much = _gradients(make(speaks=True, depth=6), False, dtype)
    second, little = _gradients(make(speaks=True, depth=6), True, dtype)
    assert list(first) == list(second) and first
    for name, gradient in first.items():
        assert torch.equal(gradient, second[name]), name
    assert little < much / 2


def test_nothing_changes_without_gradients() -> None:
    images = torch.randn(1, 3, 64, 64)
    dense = tiny_fgclip().recompute_activations().encode_dense(images)
    assert not dense.requires_grad
    assert torch.equal(dense, tiny_fgclip().encode_dense(images))
