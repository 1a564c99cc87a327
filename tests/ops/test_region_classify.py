"""`region_classify` against the steps that it joins."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fgclip_det.ops import region_classify, roi_align

GRID = (5, 7)
BOXES = [torch.tensor([[0.0, 0, 30, 40], [8, 8, 50, 20]]), torch.tensor([[3.0, 5, 9, 11]])]


def three_steps(tokens, boxes, texts, temperature=1.0):
    pooled = roi_align(tokens, boxes, 1, 1 / 8, grid=GRID).flatten(1).float()
    return F.normalize(pooled, dim=-1) @ F.normalize(texts.float(), dim=-1).T * temperature


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_equals_three_steps(dtype: torch.dtype) -> None:
    tokens, texts = torch.randn(2, 35, 48).to(dtype), 3 * torch.randn(11, 48)
    logits = region_classify(tokens, BOXES, texts, grid=GRID, spatial_scale=1 / 8, temperature=50.0)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, three_steps(tokens, BOXES, texts, 50.0))


def test_tokens_of_unit_length() -> None:
    tokens, texts = torch.randn(2, 35, 48), torch.randn(4, 48)
    logits = region_classify(
        tokens, BOXES, texts, grid=GRID, spatial_scale=1 / 8, normalize_tokens=True
    )
    torch.testing.assert_close(logits, three_steps(F.normalize(tokens, dim=-1), BOXES, texts))


def test_known_cosines() -> None:
    tokens = torch.zeros(1, 35, 2)
    tokens[..., 0] = 2.0
    texts = torch.tensor([[5.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [3.0, 4.0]])
    logits = region_classify(tokens, [BOXES[0]], texts, grid=GRID, spatial_scale=1 / 8)
    torch.testing.assert_close(logits, torch.tensor([[1.0, 0.0, -1.0, 0.6]] * 2))


def test_a_box_without_cells_gives_zeros_and_no_gradient() -> None:
    tokens = torch.randn(1, 35, 8, requires_grad=True)
    far = [torch.tensor([[1e4, 1e4, 2e4, 2e4]])]
    logits = region_classify(tokens, far, torch.randn(3, 8), grid=GRID)
    assert torch.equal(logits, torch.zeros(1, 3))
    logits.sum().backward()
    assert torch.equal(tokens.grad, torch.zeros_like(tokens))


def test_gradients() -> None:
    tokens = torch.randn(2, 35, 3, dtype=torch.float64, requires_grad=True)
    texts = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)

    def logits(tokens, texts):
        return region_classify(tokens, BOXES, texts, grid=GRID, spatial_scale=1 / 8)

    assert torch.autograd.gradcheck(logits, (tokens, texts))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (torch.ones(3, 5), r"text_embeddings must be \(T, 8\)"),
        (torch.ones(8), r"text_embeddings must be \(T, 8\)"),
        (torch.ones(3, 8, device="meta"), "text_embeddings are on meta and tokens on cpu"),
    ],
)
def test_texts_that_do_not_fit(texts: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        region_classify(torch.ones(2, 35, 8), BOXES, texts, grid=GRID)
