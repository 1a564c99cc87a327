import pytest
import torch

from fgclip_det.models import geometric_score_ensemble


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
