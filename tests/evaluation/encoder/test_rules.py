"""What each family of encoders is fed with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fgclip_det.encoders import FGCLIP, FGCLIP2, DualEncoder, load_encoder
from fgclip_det.encoders.baselines.plain_clip import complete_plain_clip
from fgclip_det.encoders.baselines.plain_siglip import complete_plain_siglip
from fgclip_det.evaluation.encoder import EncoderRules, evaluate_encoder, family_of
from tests.tiny_encoders import tiny_fgclip, tiny_fgclip2

LONG = "red circle " * 300
ADDED = ("text_filip", "logit_scale_", "position_embedding_", "dense_", "boxtext_", "longtext_")


def plain(encoder: FGCLIP | FGCLIP2) -> FGCLIP | FGCLIP2:
    """An encoder with what CLIP or SigLIP 2 lacks made from the rest, as their files are read."""
    whole = encoder.state_dict()
    kept = {name: value for name, value in whole.items() if not any(one in name for one in ADDED)}
    complete = complete_plain_clip if isinstance(encoder, FGCLIP) else complete_plain_siglip
    encoder.load_state_dict(complete(kept))
    return encoder


@pytest.fixture
def siglip2(encoder2_dir: str) -> FGCLIP2:
    return plain(load_encoder(encoder2_dir))


def test_families(encoder_dir: str, encoder2_dir: str, siglip2: FGCLIP2) -> None:
    assert family_of(load_encoder(encoder_dir)) == "fgclip"
    assert family_of(load_encoder(encoder2_dir)) == "fgclip2"
    assert family_of(plain(tiny_fgclip())) == "clip"
    assert family_of(siglip2) == "siglip2"

    class Other(DualEncoder):
        pass

    with pytest.raises(ValueError, match="Other is no FG-CLIP"):
        family_of(Other(None, (0, 0, 0), (1, 1, 1)))


def test_text_paths(encoder_dir: str, encoder2_dir: str, siglip2: FGCLIP2) -> None:
    first, second = load_encoder(encoder_dir), load_encoder(encoder2_dir)
    clip = plain(tiny_fgclip(speaks=True))
    expected = {"short": "short", "long": "long", "box": "short"}
    for texts, path in expected.items():
        assert EncoderRules(first, texts).text_length == path
        assert EncoderRules(second, texts).text_length == texts
        assert EncoderRules(clip, texts).text_length == "short"
        assert EncoderRules(siglip2, texts).text_length == "short"
    lengths = [
        len(EncoderRules(encoder, "long").tokens([LONG])[0])
        for encoder in (first, second, clip, siglip2)
    ]
    assert lengths == [248, 196, 77, 64]


def test_causal_texts_are_cut_and_others_padded(encoder_dir: str, encoder2_dir: str) -> None:
    first = EncoderRules(load_encoder(encoder_dir))
    short, long = first.tokens(["red circle", "a blue star, green"])
    assert len(short) < len(long) < 77 and short[-1] == long[-1]
    assert {len(row) for row in EncoderRules(load_encoder(encoder2_dir)).tokens(["a", "b b"])} == {
        64
    }
    # What else is in the batch changes nothing.
    together, alone = first.encode_tokens([short, long]), first.encode_tokens([short])
    torch.testing.assert_close(together[:1], alone, atol=1e-6, rtol=1e-5)
    expected = first.encoder.encode_text(["red circle"])
    torch.testing.assert_close(alone, expected, atol=1e-6, rtol=1e-5)


def test_texts_that_just_fit_are_not_counted_as_cut(encoder_dir: str, encoder2_dir: str) -> None:
    for folder in (encoder_dir, encoder2_dir):
        rules = EncoderRules(load_encoder(folder))
        limit = rules.text_settings["max_tokens"]
        texts = [
            "",
            "a " * (limit - 3),
            "a " * (limit - 2),
            "a " * (limit - 1),
            LONG,
        ]
        lengths = [len(row) for row in rules.encoder.tokenizer(texts)["input_ids"]]
        assert lengths[1:4] == [limit - 1, limit, limit + 1]
        assert rules.count_cut(texts, rules.tokens(texts)) == 2


def test_case(encoder2_dir: str) -> None:
    encoder = load_encoder(encoder2_dir)
    one, other = EncoderRules(encoder).tokens(["Red Circle", "red circle"])
    assert one == other
    kept = EncoderRules(encoder, lowercase=False)
    # The tokenizer of the tests takes case away itself, the published one does not.
    assert kept.text_settings["lowercase"] is False and not kept.lowercase


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)


def test_pictures_of_generation_1(encoder_dir: str, picture: np.ndarray) -> None:
    encoder = load_encoder(encoder_dir)
    found = EncoderRules(encoder).encode_pictures([picture])
    expected = encoder.encode_image(encoder.preprocess([Image.fromarray(picture)]))
    assert torch.equal(found, expected)
    larger = EncoderRules(encoder, image_size=96)
    assert larger.picture_settings["size"] == 96
    squeezed = np.asarray(Image.fromarray(picture).resize((96, 96), Image.Resampling.BICUBIC))
    pixels = torch.from_numpy(squeezed.copy()).permute(2, 0, 1)[None].float() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (encoder.image_mean, encoder.image_std))
    expected = encoder.encode_image((pixels - mean) / std)
    torch.testing.assert_close(larger.encode_pictures([picture]), expected, atol=1e-5, rtol=1e-4)
    for size in (8, 100, -16):
        with pytest.raises(ValueError, match=f"image_size is {size}"):
            EncoderRules(encoder, image_size=size)


def test_pictures_of_generation_2(encoder2_dir: str, picture: np.ndarray) -> None:
    encoder = load_encoder(encoder2_dir)
    own = EncoderRules(encoder).encode_pictures([picture])
    assert torch.equal(own, encoder.encode_image(encoder.preprocess([Image.fromarray(picture)])))
    fixed = EncoderRules(encoder, patches=1024).encode_pictures([picture])
    assert not torch.allclose(own, fixed, atol=1e-3)
    with pytest.raises(ValueError, match="image_size is generation 1's"):
        EncoderRules(encoder, image_size=64)


def test_boxes(encoder_dir: str, encoder2_dir: str, picture: np.ndarray) -> None:
    whole, none = np.array([[0.0, 0.0, 80.0, 48.0]]), np.zeros((0, 4))
    first = EncoderRules(load_encoder(encoder_dir))
    found = first.encode_boxes([picture, picture], [none, whole])
    assert [tuple(one.shape) for one in found] == [(0, 20), (1, 20)]
    dense = first.encoder.encode_dense(first.encoder.preprocess([Image.fromarray(picture)]))
    torch.testing.assert_close(found[1], dense.mean((1, 2)), atol=1e-4, rtol=1e-4)
    assert abs(float(found[1].norm()) - 1) > 0.01
    second = EncoderRules(load_encoder(encoder2_dir))
    found = second.encode_boxes([picture, picture], [none, whole])
    assert [len(one) for one in found] == [0, 1]
    assert float(found[1].norm()) == pytest.approx(1, abs=1e-5)


def test_scores(encoder_dir: str, encoder2_dir: str) -> None:
    cosines = torch.tensor([-0.5, 0.0, 0.5])
    assert torch.equal(EncoderRules(load_encoder(encoder_dir)).scores(cosines), cosines)
    scores: Tensor = EncoderRules(load_encoder(encoder2_dir)).scores(cosines)
    torch.testing.assert_close(scores, torch.sigmoid(10 * cosines - 10))


def test_an_encoder_without_a_tokenizer(golden_sets: Path) -> None:
    with pytest.raises(ValueError, match="holds no tokenizer"):
        evaluate_encoder(tiny_fgclip(), "dci", golden_sets / "dci")


@pytest.mark.parametrize("build", [tiny_fgclip, tiny_fgclip2])
def test_baselines_run_through_the_same_protocols(
    build: Callable[..., FGCLIP | FGCLIP2], golden_sets: Path, tmp_path: Path
) -> None:
    build(speaks=True).save_pretrained(tmp_path)
    encoder = plain(load_encoder(tmp_path))
    family = "clip" if isinstance(encoder, FGCLIP) else "siglip2"
    for name in ("urban-1k", "fg-ovd"):
        result = evaluate_encoder(encoder, name, golden_sets / name)
        assert (result.family, result.settings["texts"]) == (family, "short")
        assert result.settings["texts_cut"] > 0 or name == "fg-ovd"
        assert 0 <= min(result.numbers().values()) <= max(result.numbers().values()) <= 1


def test_amp_changes_digits_and_little_else(encoder_dir: str, picture: np.ndarray) -> None:
    encoder = load_encoder(encoder_dir)
    exact, half = EncoderRules(encoder), EncoderRules(encoder, amp=True)
    one, other = exact.encode_pictures([picture]), half.encode_pictures([picture])
    assert other.dtype == torch.float32 and not torch.equal(one, other)
    assert float(torch.cosine_similarity(one, other)) > 0.99
    assert half.picture_settings != exact.picture_settings
