import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Siglip2Config, Siglip2Model, SiglipConfig, SiglipModel

from fgclip_det.encoders import FGCLIP2, load_encoder, pack_images, pretrained
from fgclip_det.encoders.baselines.plain_siglip import complete_plain_siglip

SIZES = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
POSITIONS = "text_model.embeddings.position_embedding"


def saved(model, directory):
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.eval().save_pretrained(directory)
    return model, directory


@pytest.fixture
def naflex(tmp_path):
    """A tiny SigLIP 2 of any aspect ratio as transformers writes it, and its directory."""
    vision = dict(patch_size=4, num_patches=16, **SIZES)
    config = Siglip2Config(text_config=dict(vocab_size=99, **SIZES), vision_config=vision)
    return saved(Siglip2Model(config), tmp_path / "naflex")


@pytest.fixture
def fixed(tmp_path):
    """A tiny SigLIP of one resolution as transformers writes it, and its directory."""
    vision = dict(patch_size=4, image_size=24, **SIZES)
    config = SiglipConfig(text_config=dict(vocab_size=99, **SIZES), vision_config=vision)
    return saved(SiglipModel(config), tmp_path / "fixed")


@torch.no_grad()
def test_any_aspect_ratio_and_short_captions_have_siglips_own_features(naflex):
    theirs, directory = naflex
    ours = load_encoder(directory)
    assert isinstance(ours, FGCLIP2)
    tokens = torch.randint(99, (2, 64))
    packed = pack_images([torch.randn(3, 12, 20), torch.randn(3, 28, 8)], 4, max_num_patches=16)
    expected = theirs(input_ids=tokens, **vars(packed))
    got = ours.encode_tokens(tokens, normalize=True)
    torch.testing.assert_close(got, expected.text_embeds, atol=1e-5, rtol=1e-4)
    got = ours.encode_image(packed, normalize=True)
    torch.testing.assert_close(got, expected.image_embeds, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_one_resolution_and_short_captions_have_siglips_own_features(fixed):
    theirs, directory = fixed
    ours = load_encoder(directory)
    tokens, images = torch.randint(99, (2, 64)), torch.randn(2, 3, 24, 24)
    expected = theirs(input_ids=tokens, pixel_values=images)
    got = ours.encode_tokens(tokens, normalize=True)
    torch.testing.assert_close(got, expected.text_embeds, atol=1e-5, rtol=1e-4)
    got = ours.encode_image(images, normalize=True)
    torch.testing.assert_close(got, expected.image_embeds, atol=1e-5, rtol=1e-4)
    assert ours.encode_dense(torch.randn(1, 3, 24, 40)).shape == (1, 6, 10, 32)


def test_what_siglip_lacks_starts_as_fgclip2_does(naflex):
    ours = FGCLIP2.from_pretrained(naflex[1])
    own, dense = ours.vision_model.head.state_dict(), ours.dense_feature_head.state_dict()
    assert list(own) == list(dense) and all(dense[key].equal(own[key]) for key in own)
    for head in (ours.boxtext_head, ours.longtext_head):
        assert head.weight.equal(ours.text_model.head.weight)
        assert head.bias.equal(ours.text_model.head.bias)
    short, long = (ours.text_model.embeddings.positions(length) for length in ("short", "long"))
    assert long.shape == (196, 32)
    assert long[:20].equal(short[:20])
    torch.testing.assert_close(long[20::4], short[20:])
    torch.testing.assert_close(long[21], 0.75 * short[20] + 0.25 * short[21])


def test_a_damaged_siglip_and_a_damaged_fgclip2_are_still_refused(naflex):
    path = naflex[1] / pretrained.WEIGHTS_NAME
    weights = load_file(path)
    lost = weights.pop("vision_model.post_layernorm.bias")
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"missing vision_model\.post_layernorm\.bias"):
        FGCLIP2.from_pretrained(naflex[1])
    whole = complete_plain_siglip({**weights, "vision_model.post_layernorm.bias": lost})
    del whole["boxtext_head.bias"]
    save_file(whole, path)
    with pytest.raises(ValueError, match=r"missing boxtext_head\.bias"):
        FGCLIP2.from_pretrained(naflex[1])
