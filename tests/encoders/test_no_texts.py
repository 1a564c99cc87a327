import pytest
import torch

from tests.tiny_encoders import tiny_fgclip, tiny_fgclip2


@pytest.mark.parametrize("make", [tiny_fgclip, tiny_fgclip2])
@pytest.mark.parametrize("length", ["short", "long"])
def test_no_text_gives_no_row_and_gradients_of_zero(make, length):
    encoder = make(speaks=True).requires_grad_(True)
    features = encoder.encode_text([], length, normalize=True)
    assert features.shape == (0, encoder.projection_dim)
    features.sum().backward()
    tower = dict(encoder.text_model.encoder.named_parameters())
    assert tower and all(not p.grad.any() for p in tower.values())


def test_no_text_needs_no_tokenizer():
    assert tiny_fgclip2().encode_text([]).shape == (0, 32)
    assert torch.is_tensor(tiny_fgclip().encode_text([]))
