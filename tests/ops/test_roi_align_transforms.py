"""Derivatives beyond reverse mode, and functorch's transforms, equal those of the oracle."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacrev, jvp, vjp, vmap

from fgclip_det.ops import backend, reference, roi_align

ROIS = torch.tensor(
    [[0.0, 1, 1, 6, 5], [1, -2, 0, 3, 9], [1, 5, 5, 2, 2], [0, 0.3, 2.2, 4.1, 3.9]],
)
GEOMETRY = (0.8, 2, 3, -1, True)
CLOSE = dict(atol=1e-10, rtol=1e-10)


def maps(*batch: int, seed: int = 0) -> Tensor:
    """(*batch, 2, 3, 6, 7) float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*batch, 2, 3, 6, 7, dtype=torch.float64, generator=generator)


def pool(features: Tensor, rois: Tensor = ROIS) -> Tensor:
    return roi_align(features, rois, (2, 3), 0.8)


def oracle(features: Tensor, rois: Tensor = ROIS) -> Tensor:
    return reference.roi_align(features, rois, *GEOMETRY)


def test_tangents_are_pooled() -> None:
    tangent = maps(seed=1)
    value, found = jvp(pool, (maps(),), (tangent,))
    torch.testing.assert_close(value, oracle(maps()), **CLOSE)
    torch.testing.assert_close(found, oracle(tangent), **CLOSE)
    with forward_ad.dual_level():
        pooled = forward_ad.unpack_dual(pool(forward_ad.make_dual(maps(), tangent)))
        torch.testing.assert_close(pooled.tangent, oracle(tangent), **CLOSE)
        assert forward_ad.unpack_dual(pool(maps())).tangent is None


def test_tangents_of_gradients() -> None:
    weights = torch.randn(4, 3, 2, 3, dtype=torch.float64)
    tangent = torch.randn_like(weights)
    _, back = vjp(pool, maps())
    _, found = jvp(lambda w: back(w)[0], (weights,), (tangent,))
    expected = torch.autograd.functional.vjp(oracle, maps(), tangent)[1]
    torch.testing.assert_close(found, expected, **CLOSE)


def test_boxes_are_constants() -> None:
    def of_boxes(boxes: Tensor) -> Tensor:
        return pool(maps(), torch.cat([ROIS[:, :1], boxes], dim=1))

    value, tangent = jvp(of_boxes, (ROIS[:, 1:],), (torch.ones(4, 4),))
    torch.testing.assert_close(value, oracle(maps()), **CLOSE)
    assert not tangent.any()
    rois = ROIS.clone().requires_grad_()
    assert not pool(maps(), rois).requires_grad


def test_gradcheck_forward_and_backward() -> None:
    features = maps()[:, :2, :3, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(pool, features, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(pool, features, check_fwd_over_rev=True)


@pytest.mark.parametrize("dim", [0, 1, 4, -1])
def test_mapped_features(dim: int) -> None:
    features = maps(3).movedim(0, dim)
    found = vmap(pool, in_dims=dim)(features)
    expected = torch.stack([oracle(some) for some in features.unbind(dim)])
    torch.testing.assert_close(found, expected, **CLOSE)


def moved(count: int) -> Tensor:
    """(count, K, 5): the same rois of each image, shifted."""
    shift = torch.tensor([0.0, 1, 1, 1, 1]) * torch.arange(count)[:, None, None]
    return ROIS + shift


@pytest.mark.parametrize("dims", [(0, 0), (None, 0), (0, 2), (2, 1)])
def test_mapped_boxes(dims: tuple[int | None, int]) -> None:
    rois, features = moved(3), maps(3)
    in_features = features[0] if dims[0] is None else features.movedim(0, dims[0])
    found = vmap(pool, in_dims=dims)(in_features, rois.movedim(0, dims[1]))
    expected = [oracle(features[0 if dims[0] is None else i], rois[i]) for i in range(3)]
    torch.testing.assert_close(found, torch.stack(expected), **CLOSE)


def test_mapped_twice_and_without_boxes() -> None:
    features = maps(2, 3)
    found = vmap(vmap(pool))(features)
    expected = torch.stack([torch.stack([oracle(f) for f in row]) for row in features])
    torch.testing.assert_close(found, expected, **CLOSE)
    assert vmap(lambda f: pool(f, ROIS[:0]))(features[0]).shape == (3, 0, 3, 2, 3)


@pytest.mark.parametrize("image", [2.0, -1.0])
def test_a_mapped_box_does_not_reach_the_next_batch(image: float) -> None:
    rois = moved(3)
    rois[1, 2, 0] = image
    with pytest.raises(ValueError, match=r"rois\[6, 0\] names image -1"):
        vmap(pool)(maps(3), rois)


def test_gradients_of_each_sample() -> None:
    def loss(features: Tensor, rois: Tensor) -> Tensor:
        return (pool(features, rois) ** 3).sum()

    def expected_of(features: Tensor, rois: Tensor) -> Tensor:
        leaf = features.clone().requires_grad_()
        return torch.autograd.grad((oracle(leaf, rois) ** 3).sum(), leaf)[0]

    features, rois = maps(3), moved(3)
    found = vmap(grad(loss))(features, rois)
    expected = torch.stack([expected_of(f, r) for f, r in zip(features, rois, strict=True)])
    torch.testing.assert_close(found, expected, **CLOSE)


def of_scales(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A scalar of (2,) factors, cubic in them, through pooling."""
    features = maps()
    return lambda scales: (function(features * scales[:, None, None, None]) ** 3).sum()


@pytest.mark.parametrize("transform", [hessian, jacrev, lambda f: jacrev(jacrev(f))])
def test_matrices_of_derivatives(transform: Callable) -> None:
    scales = torch.tensor([0.5, 2.0], dtype=torch.float64)
    found, expected = (transform(of_scales(function))(scales) for function in (pool, oracle))
    assert expected.any()
    torch.testing.assert_close(found, expected, **CLOSE)


def test_tokens_and_lists_of_boxes() -> None:
    tokens = torch.randn(3, 2, 42, 5, dtype=torch.float64)
    boxes = [ROIS[:1, 1:], ROIS[1:, 1:]]
    found = vmap(lambda some: roi_align(some, boxes, 2, grid=(6, 7)))(tokens)
    expected = torch.stack([roi_align(some, boxes, 2, grid=(6, 7)) for some in tokens])
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.skipif(backend()["cpu"] == "reference", reason="the extension is not built")
def test_operators_refuse_what_they_would_lose() -> None:
    # Before, a tangent was lost without a word.
    operator = torch.ops.fgclip_det.roi_align
    arguments = (ROIS, *GEOMETRY)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(maps(), maps(seed=1))
        with pytest.raises(NotImplementedError, match=r"functions of fgclip_det\.ops have one"):
            operator(dual, *arguments)
        weights = torch.randn(4, 3, 2, 3, dtype=torch.float64)
        dual = forward_ad.make_dual(weights, weights)
        with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
            torch.ops.fgclip_det.roi_align_backward(dual, ROIS, 0.8, 2, 3, 6, 7, -1, True, False)
    with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
        jvp(lambda f: operator(f, *arguments), (maps(),), (maps(),))
    with pytest.raises(RuntimeError, match="functorch"):
        grad(lambda f: operator(f, *arguments).sum())(maps())


@pytest.mark.parametrize("transform", ["grad", "vmap", "none"])
def test_transforms_compile(transform: str) -> None:
    def loss(features: Tensor) -> Tensor:
        return pool(features * 2).square().sum()

    function = {"grad": grad(loss), "vmap": vmap(pool), "none": loss}[transform]
    features = maps(2) if transform == "vmap" else maps()
    torch._dynamo.reset()
    compiled = torch.compile(function, backend="aot_eager", fullgraph=transform == "none")
    torch.testing.assert_close(compiled(features), function(features), **CLOSE)
