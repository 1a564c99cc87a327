import pytest
import torch

from fgclip_det.models import geometric_score_ensemble
from fgclip_det.models.roi_heads.score_fusion import ensemble_of_logits


def test_hand_worked():
    det = torch.tensor([[0.25, 0.16]])
    vlm = torch.tensor([[0.81, 0.0001]])
    fused = geometric_score_ensemble(det, vlm, 0.5, 0.25, torch.tensor([True, False]))
    # 0.25^.5 * 0.81^.5 = 0.5 * 0.9; 0.16^.75 * 0.0001^.25 = 0.252982 * 0.1
    torch.testing.assert_close(fused, torch.tensor([[0.45, 0.0252982]]))


def test_weights_of_zero_and_one_pick_one_side():
    det, vlm = torch.rand(5, 2), torch.rand(5, 2)
    det[0, 0] = vlm[1, 1] = 0.0
    fused = geometric_score_ensemble(det, vlm, 0.0, 1.0, torch.tensor([True, False]))
    torch.testing.assert_close(fused, torch.stack([det[:, 0], vlm[:, 1]], dim=1))


def test_weight_outside_unit_interval_is_refused():
    scores = torch.rand(1, 1)
    with pytest.raises(ValueError, match=r"beta must be in \[0, 1\], got 1.5"):
        geometric_score_ensemble(scores, scores, 0.5, 1.5, torch.tensor([True]))


def test_logits_give_what_their_softmaxes_give():
    generator = torch.Generator().manual_seed(0)
    # Cosines of 512 values times the recipe's temperatures, over many names.
    det, vlm = (
        temperature * torch.rand(20, 2001, generator=generator) for temperature in (50.0, 75.0)
    )
    is_base = torch.rand(2000, generator=generator) < 0.5
    softmaxes = [logits.double().softmax(dim=-1)[:, :-1] for logits in (det, vlm)]
    for alpha, beta in ((0.1, 0.8), (0.0, 1.0), (0.35, 0.65)):
        expected = geometric_score_ensemble(*softmaxes, alpha, beta, is_base)
        got = ensemble_of_logits(det, vlm, alpha, beta, is_base)
        assert got.dtype == torch.float32 and expected.max() > 0.01
        torch.testing.assert_close(got.double(), expected, atol=1e-6, rtol=0)


def test_hopeless_logits_are_numbers():
    # Probabilities of e-130 and less are zeros in float32; their logarithms are not.
    det, vlm = torch.tensor([[0.0, -300.0, 0.0]]), torch.tensor([[-300.0, 0.0, 0.0]])
    is_base = torch.tensor([True, False])
    for alpha, beta, expected in ((0.0, 1.0, 0.5), (0.5, 0.5, 0.0)):
        got = ensemble_of_logits(det, vlm, alpha, beta, is_base)
        torch.testing.assert_close(got, torch.full((1, 2), expected))
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\], got -1"):
        ensemble_of_logits(det, vlm, -1, 0.5, is_base)


@pytest.mark.parametrize("wrong", [torch.tensor([1, 0]), torch.tensor([1.0, 0.0])])
def test_what_is_base_is_told_by_bools(wrong):
    scores = torch.rand(1, 2)
    with pytest.raises(ValueError, match=f"is_base is of {wrong.dtype}: give bools"):
        geometric_score_ensemble(scores, scores, 0.5, 0.5, wrong)
    logits = torch.rand(1, 3)
    with pytest.raises(ValueError, match=f"is_base is of {wrong.dtype}: give bools"):
        ensemble_of_logits(logits, logits, 0.5, 0.5, wrong)
