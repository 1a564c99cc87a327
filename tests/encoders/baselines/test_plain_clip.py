import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel

from fgclip_det.encoders import FGCLIP, pretrained
from fgclip_det.encoders.baselines.plain_clip import complete_plain_clip

POSITIONS = "text_model.embeddings.position_embedding"


@pytest.fixture
def clip(tmp_path):
    """A tiny CLIP as transformers writes it, and its directory."""
    torch.manual_seed(0)
    sizes = dict(intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    config = CLIPConfig(
        text_config=dict(vocab_size=99, hidden_size=24, eos_token_id=98, bos_token_id=97, **sizes),
        vision_config=dict(hidden_size=32, image_size=64, patch_size=16, **sizes),
        projection_dim=20,
    )
    model = CLIPModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path / "clip")
    return model, tmp_path / "clip"


@torch.no_grad()
def test_pictures_and_short_captions_have_clips_own_features(clip):
    theirs, directory = clip
    ours = FGCLIP.from_pretrained(directory)
    tokens = torch.tensor([[97, 5, 6, 98, 98], [97, 7, 8, 9, 98]])
    images = torch.randn(2, 3, 64, 64)
    expected = theirs(input_ids=tokens, pixel_values=images)
    got = ours.encode_tokens(tokens, normalize=True)
    torch.testing.assert_close(got, expected.text_embeds, atol=1e-5, rtol=1e-4)
    got = ours.encode_image(images, normalize=True)
    torch.testing.assert_close(got, expected.image_embeds, atol=1e-5, rtol=1e-4)


def test_long_positions_keep_twenty_and_stretch_the_others_by_four(clip):
    embeddings = FGCLIP.from_pretrained(clip[1]).text_model.embeddings
    short = embeddings.positions("short")
    long = embeddings.positions("long")
    assert long.shape == (248, 24)
    torch.testing.assert_close(long[:20], short[:20])
    torch.testing.assert_close(long[20::4], short[20:])
    torch.testing.assert_close(long[21], 0.75 * short[20] + 0.25 * short[21])
    torch.testing.assert_close(long[243], 0.25 * short[75] + 0.75 * short[76])
    torch.testing.assert_close(long[247], short[76] + 0.75 * (short[76] - short[75]))


def test_a_damaged_clip_and_a_damaged_fgclip_are_still_refused(clip):
    path = clip[1] / pretrained.WEIGHTS_NAME
    weights = load_file(path)
    lost = weights.pop("vision_model.post_layernorm.bias")
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"missing vision_model\.post_layernorm\.bias"):
        FGCLIP.from_pretrained(clip[1])
    whole = complete_plain_clip({**weights, "vision_model.post_layernorm.bias": lost})
    del whole[f"{POSITIONS}_res.weight"]
    save_file(whole, path)
    with pytest.raises(ValueError, match=r"missing text_model\.embeddings\.position_embedding_res"):
        FGCLIP.from_pretrained(clip[1])
