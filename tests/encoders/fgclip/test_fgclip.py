import pytest
import torch
from PIL import Image

from fgclip_det.encoders import FGCLIP, FGCLIPConfig
from tests.tiny_encoders import tiny_fgclip


@pytest.fixture(scope="module")
def model():
    return tiny_fgclip()


@pytest.fixture(scope="module")
def speaking_model(encoder_dir):
    return FGCLIP.from_pretrained(encoder_dir)


def test_sizes_are_asked_not_assumed(model):
    assert (model.patch_size, model.image_size, model.embed_dim) == (16, 64, 32)
    assert (model.projection_dim, model.num_layers) == (20, 2)
    large = FGCLIPConfig.large()
    assert large.vision.grid == (24, 24)
    assert FGCLIPConfig.base().text.long_max_position_embeddings == 248


def test_rectangles_of_any_size(model):
    dense = model.encode_dense(torch.randn(1, 3, 50, 100))
    assert dense.shape == (1, 3, 6, 20)


def test_normalize_gives_unit_rows(model):
    boxes = [torch.tensor([[0.0, 0.0, 32.0, 48.0]]), torch.zeros(0, 4)]
    images = torch.randn(2, 3, 64, 64)
    for features in (
        model.encode_image(images, normalize=True),
        model.encode_dense(images, normalize=True),
        model.encode_regions(images, boxes, normalize=True),
    ):
        norms = features.norm(dim=-1)
        torch.testing.assert_close(norms, torch.ones_like(norms))


def test_region_of_a_constant_map_is_that_constant(model):
    dense = torch.arange(20.0).expand(1, 4, 4, 20)
    pooled = model.pool_regions(dense, [torch.tensor([[5.0, 7.0, 40.0, 61.0]])])
    torch.testing.assert_close(pooled[0], torch.arange(20.0))


def test_empty_inputs(speaking_model):
    assert speaking_model.encode_text([]).shape == (0, 20)
    no_boxes = speaking_model.encode_regions(torch.randn(1, 3, 64, 64), [torch.zeros(0, 4)])
    assert no_boxes.shape == (0, 20)
    assert speaking_model.encode_image(torch.zeros(0, 3, 64, 64)).shape == (0, 20)


def test_padding_behind_the_end_token_changes_nothing(model):
    end = model.config.text.eos_token_id
    short = torch.tensor([[3, 5, 7, end], [4, end, end, end]])
    padded = torch.full((2, 77), end)
    padded[:, :4] = short
    torch.testing.assert_close(model.encode_tokens(short), model.encode_tokens(padded))


def test_text_is_the_same_alone_and_in_a_batch(speaking_model):
    texts = ["a red mug", "mug", "a blue striped mug, far away"]
    together = speaking_model.encode_text(texts)
    alone = torch.cat([speaking_model.encode_text([text]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_too_long_captions_are_cut_and_said_once(speaking_model, recwarn):
    speaking_model._warned_truncation = False
    caption = "a red mug " * 60
    features = speaking_model.encode_text([caption])
    torch.testing.assert_close(features, speaking_model.encode_text([caption + " and more"]))
    said = [str(w.message) for w in recwarn if "were cut" in str(w.message)]
    assert len(said) == 1
    assert "77 tokens" in said[0]
    assert torch.isfinite(speaking_model.encode_text([caption], "long")).all()


@pytest.mark.parametrize("limit", [77, -1])
def test_a_limit_of_the_tokenizer_is_not_spoken_of(speaking_model, monkeypatch, limit):
    tokenizer = speaking_model.tokenizer
    monkeypatch.setattr(tokenizer, "model_max_length", limit)
    monkeypatch.setattr(tokenizer, "deprecation_warnings", {})
    speaking_model.encode_text(["a red mug " * 60], "long")
    # Where transformers notes what it has warned of.
    assert not tokenizer.deprecation_warnings


def test_non_latin_text_is_encoded(speaking_model):
    features = speaking_model.encode_text(["красная кружка", "红色的杯子", "🍵"], normalize=True)
    assert torch.isfinite(features).all()
    assert (features[0] - features[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.encode_image(torch.randn(3, 64, 64)), r"\(N, 3, H, W\)"),
        (lambda m: m.encode_image(torch.randn(1, 3, 8, 64)), "8x64 pixels"),
        (lambda m: m.encode_regions(torch.randn(2, 3, 64, 64), []), "2 images but 0"),
        (lambda m: m.encode_tokens(torch.ones(1, 4, dtype=torch.long)), "end token 127"),
        (lambda m: m.encode_tokens(torch.full((1, 78), 127)), "L <= 77"),
        (lambda m: m.encode_tokens(torch.full((1, 9), 127), "box"), "'box'"),
        (lambda m: m.encode_text(["a mug"]), "no tokenizer"),
        (lambda m: m.vision_model.forward_taps(torch.randn(1, 3, 64, 64), [1, 0]), "must rise"),
        (lambda m: m.vision_model.forward_taps(torch.randn(1, 3, 64, 64), [2]), "within"),
    ],
)
def test_bad_input_is_named(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)


def test_a_lone_string_is_refused(speaking_model):
    with pytest.raises(ValueError, match="list of strings"):
        speaking_model.encode_text("a red mug")


def test_preprocess_squares_and_normalises(model):
    picture = Image.new("L", (200, 50), 128)
    pixels = model.preprocess([picture])
    assert pixels.shape == (1, 3, 64, 64)
    grey = (128 / 255 - model.image_mean[0]) / model.image_std[0]
    torch.testing.assert_close(pixels[0, 0], torch.full((64, 64), grey), atol=1e-4, rtol=1e-4)


def test_fingerprint_follows_the_weights(model):
    other = tiny_fgclip(seed=1)
    assert other.fingerprint != model.fingerprint
    other.load_state_dict(model.state_dict())
    assert other.fingerprint == model.fingerprint
    assert len(model.fingerprint) == 16


def test_fingerprint_is_not_kept_over_a_change():
    one, other = tiny_fgclip(seed=1), tiny_fgclip(seed=2)
    before = one.fingerprint
    one.load_state_dict(other.state_dict())
    assert one.fingerprint == other.fingerprint != before
    one.train()
    with torch.no_grad():
        one.logit_scale.add_(1)
    assert one.eval().fingerprint != other.fingerprint
