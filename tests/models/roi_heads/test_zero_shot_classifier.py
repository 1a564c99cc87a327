import math

import pytest
import torch

from fgclip_det.models import ZeroShotClassifier
from tests.messages import says


def test_hand_worked_probabilities():
    classifier = ZeroShotClassifier(2, temperature=math.log(4.0))
    classifier.set_background(torch.tensor([0.0, 5.0]))
    texts = torch.tensor([[3.0, 0.0], [-1.0, 0.0]])
    # Cosines 1, -1 and, with the background, 0: weights 4, 1/4 and 1.
    got = classifier.probabilities(torch.tensor([[2.0, 0.0]]), texts)
    torch.testing.assert_close(got, torch.tensor([[4 / 5.25, 0.25 / 5.25]]))


def test_learned_parts_are_parameters_and_a_set_temperature_is_in_no_checkpoint():
    learned = ZeroShotClassifier(3, temperature=50.0, learned=True)
    assert {name for name, _ in learned.named_parameters()} == {
        "log_temperature_gain",
        "background_embedding",
    }
    assert float(learned.temperature.detach()) == pytest.approx(50.0)
    assert list(ZeroShotClassifier(3).state_dict()) == ["background_embedding"]


def test_float32_under_autocast():
    classifier = ZeroShotClassifier(8, learned=True)
    with torch.autocast("cpu", torch.bfloat16):
        logits = classifier(torch.randn(3, 8).bfloat16(), torch.randn(4, 8))
    assert logits.dtype == torch.float32


def test_texts_of_another_size_are_refused():
    with pytest.raises(ValueError, match=says("5 values", "8")):
        ZeroShotClassifier(8)(torch.randn(3, 8), torch.randn(4, 5))
