import pytest
import torch
from PIL import Image
from torch.export import export

from fgclip_det.encoders import FGCLIP2, FGCLIP2Config, PackedImages, pack_images
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from tests.messages import says
from tests.tiny_encoders import tiny_fgclip, tiny_fgclip2

TOLERANCE = dict(atol=1e-5, rtol=1e-4)
CAPTIONS = ["a red mug", "a blue striped mug"]


@pytest.fixture(scope="module")
def model():
    return tiny_fgclip2()


@pytest.fixture(scope="module")
def speaking_model(encoder2_dir):
    return FGCLIP2.from_pretrained(encoder2_dir)


def test_sizes_are_asked_not_assumed(model):
    assert (model.patch_size, model.image_size, model.embed_dim) == (16, 64, 32)
    assert (model.projection_dim, model.num_layers) == (32, 2)
    base, large = FGCLIP2Config.base(), FGCLIP2Config.large()
    assert (base.vision.grid, base.projection_dim) == ((16, 16), 768)
    assert (large.projection_dim, large.text.longtext_len) == (1024, 196)


def test_an_image_is_the_same_alone_packed_and_padded(model):
    images = [torch.randn(3, 48, 80), torch.randn(3, 96, 32)]
    packed = pack_images(images, 16, max_num_patches=20)
    boxes = [torch.tensor([[5.0, 7.0, 40.0, 41.0]]), torch.tensor([[0.0, 3.0, 30.0, 90.0]])]
    dense = model.encode_dense(packed)
    assert dense.shape == (2, 20, 32)
    regions = model.encode_regions(packed, boxes)
    for i, image in enumerate(images):
        torch.testing.assert_close(
            model.encode_image(packed)[i], model.encode_image(image[None])[0]
        )
        alone = model.encode_dense(image[None])
        torch.testing.assert_close(dense[i, : alone[0, ..., 0].numel()], alone[0].flatten(0, 1))
        torch.testing.assert_close(regions[i], model.encode_regions(image[None], [boxes[i]])[0])


def test_what_stands_in_padding_changes_nothing(model):
    packed = pack_images([torch.randn(3, 48, 80)], 16, max_num_patches=20)
    values = packed.pixel_values.clone()
    values[:, 15:] = 9.0
    filled = PackedImages(values, packed.pixel_attention_mask, packed.spatial_shapes)
    assert model.encode_image(filled).equal(model.encode_image(packed))
    assert model.encode_dense(filled)[:, :15].equal(model.encode_dense(packed)[:, :15])


def test_positions_of_the_stored_grid_are_the_table(model):
    embeddings = model.vision_model.embeddings
    table = embeddings.position_embedding.weight
    assert embeddings.positions((4, 4)).equal(table)
    # Halving with antialiasing weighs cells 1, 3, 3, 1, cut off at the border.
    square = table.view(4, 4, -1)
    weights = torch.tensor([[3.0, 3.0, 1.0, 0.0], [0.0, 1.0, 3.0, 3.0]]) / 7
    expected = torch.einsum("ij,kl,jle->ike", weights, weights, square)
    torch.testing.assert_close(embeddings.positions((2, 2)), expected.flatten(0, 1))
    assert embeddings.positions((9, 1)).shape == (9, 32)


def test_half_precision_runs(model):
    half = tiny_fgclip2().bfloat16()
    images = torch.randn(1, 3, 48, 80)
    got = half.encode_image(images.bfloat16(), normalize=True)
    assert got.dtype == torch.bfloat16
    assert (got.float() * model.encode_image(images, normalize=True)).sum() > 0.99


def test_normalize_gives_unit_rows(model):
    boxes = [torch.tensor([[0.0, 0.0, 32.0, 48.0]]), torch.zeros(0, 4)]
    images = torch.randn(2, 3, 50, 100)
    tokens = torch.randint(128, (3, 64))
    for features in (
        model.encode_image(images, normalize=True),
        model.encode_dense(images, normalize=True),
        model.encode_regions(images, boxes, normalize=True),
        model.encode_tokens(tokens, "box", normalize=True),
    ):
        norms = features.norm(dim=-1)
        torch.testing.assert_close(norms, torch.ones_like(norms))


def test_empty_inputs(speaking_model):
    assert speaking_model.encode_text([]).shape == (0, 32)
    images = torch.randn(1, 3, 64, 64)
    assert speaking_model.encode_regions(images, [torch.zeros(0, 4)]).shape == (0, 32)
    packed = pack_images(list(images), 16)
    assert speaking_model.encode_regions(packed, [torch.zeros(0, 4)]).shape == (0, 32)
    assert speaking_model.encode_image(torch.zeros(0, 3, 64, 64)).shape == (0, 32)


def test_a_mask_of_ones_is_no_mask_and_a_masked_token_is_not_seen(model):
    tokens = torch.randint(128, (2, 64))
    everything = torch.ones_like(tokens)
    torch.testing.assert_close(
        model.encode_tokens(tokens, attention_mask=everything), model.encode_tokens(tokens)
    )
    mask = everything.clone()
    mask[:, 5] = 0
    changed = tokens.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 128
    masked = model.encode_tokens(tokens, attention_mask=mask)
    assert model.encode_tokens(changed, attention_mask=mask).equal(masked)
    assert (model.encode_tokens(changed) - model.encode_tokens(tokens)).abs().max() > 1e-5


def test_text_is_lower_cased_and_padded_to_the_whole_length(speaking_model):
    for text_length, width in (("short", 64), ("box", 64), ("long", 196)):
        tokens = speaking_model.tokenize(["A Red MUG", "a red mug"], text_length)
        assert tokens.shape == (2, width)
        assert tokens[0].equal(tokens[1])
        pad = speaking_model.tokenizer.pad_token_id
        assert (tokens[0, 8:] == pad).all()
        expected = speaking_model.encode_tokens(tokens, text_length)
        got = speaking_model.encode_text(["a RED mug", "a red mug"], text_length)
        torch.testing.assert_close(got, expected)


def test_the_three_lengths_are_three_heads(speaking_model):
    features = [speaking_model.encode_text(CAPTIONS, n) for n in ("short", "box", "long")]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (features[one] - features[other]).abs().max() > 1e-2


def test_text_is_the_same_alone_and_in_a_batch(speaking_model):
    texts = ["a red mug", "mug", "красная кружка", "红色的杯子"]
    together = speaking_model.encode_text(texts, "box")
    alone = torch.cat([speaking_model.encode_text([text], "box") for text in texts])
    torch.testing.assert_close(together, alone, **TOLERANCE)


def test_too_long_captions_are_cut_and_said_once(speaking_model, recwarn):
    speaking_model._warned_truncation = False
    caption = "a red mug " * 60
    tokens = speaking_model.tokenize([caption])
    assert tokens[0, -1] == speaking_model.tokenizer("a")["input_ids"][-1]
    features = speaking_model.encode_text([caption])
    torch.testing.assert_close(features, speaking_model.encode_text([caption + " and more"]))
    said = [str(w.message) for w in recwarn if "were cut" in str(w.message)]
    assert len(said) == 1
    assert "64 tokens" in said[0]
    assert torch.isfinite(speaking_model.encode_text([caption], "long")).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.encode_image(torch.randn(3, 64, 64)), r"\(N, 3, H, W\)"),
        (lambda m: m.encode_image(torch.randn(1, 3, 8, 64)), "8x64 pixels"),
        (lambda m: m.encode_regions(torch.randn(2, 3, 64, 64), []), "2 images but 0"),
        (
            lambda m: m.encode_regions(
                torch.randn(1, 3, 64, 64), [torch.zeros(0, 4)], image_sizes=[(9, 9), (9, 9)]
            ),
            "1 images but 2 sizes",
        ),
        (
            lambda m: m.encode_image(pack_images([torch.zeros(3, 64, 64)], 8)),
            "192 .*16 x 16 pixels.* 768.* patch_size 16",
        ),
        (lambda m: m.encode_tokens(torch.zeros(1, 65, dtype=torch.long)), "L <= 64"),
        (lambda m: m.encode_tokens(torch.zeros(1, 197, dtype=torch.long), "long"), "L <= 196"),
        (lambda m: m.encode_tokens(torch.zeros(2, 0, dtype=torch.long)), "1 <= L"),
        (lambda m: m.encode_tokens(torch.zeros(1, 9, dtype=torch.long), "caption"), "'caption'"),
        (
            lambda m: m.encode_tokens(
                torch.zeros(2, 9, dtype=torch.long), attention_mask=torch.ones(2, 8)
            ),
            r"attention_mask .*\(2, 8\).*input_ids .*\(2, 9\)",
        ),
        (
            lambda m: m.encode_tokens(
                torch.zeros(2, 9, dtype=torch.long), attention_mask=torch.zeros(2, 9)
            ),
            "all zero",
        ),
        (lambda m: m.encode_text(["a mug"]), "no tokenizer.*tokenizer.json"),
        (lambda m: m.encode_text("a mug"), "list of strings"),
        (lambda m: m.preprocess([]), "images is empty"),
        (lambda m: m.preprocess([Image.new("L", (9, 9))], 0), "max_num_patches is 0"),
        (lambda m: m.vision_model.forward_taps(torch.randn(1, 3, 64, 64), [1, 0]), "must rise"),
        (lambda m: m.vision_model.forward_taps(torch.randn(1, 3, 64, 64), [2]), "within"),
    ],
)
def test_bad_input_is_named(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)


def test_preprocess_keeps_the_aspect_ratio_within_the_budget(model):
    pictures = [Image.new("L", (400, 100), 128), Image.new("RGB", (640, 1280))]
    packed = model.preprocess(pictures, max_num_patches=36)
    assert packed.grids == [(3, 12), (8, 4)]
    grey = (128 / 255 - 0.5) / 0.5
    torch.testing.assert_close(
        packed.pixel_values[0], torch.full((36, 768), grey), atol=1e-4, rtol=1e-4
    )
    # 25 x 6 whole patches are granted 256 of them, 40 x 80 the most there are.
    rows, (big_rows, big_columns) = model.preprocess(pictures).grids
    assert 128 < rows[0] * rows[1] <= 256
    assert 784 < big_rows * big_columns <= 1024


def test_text_embeddings_of_the_first_generation_are_refused_by_hash(speaking_model):
    first = tiny_fgclip(speaks=True, projection_dim=32)
    vocabulary = Vocabulary.parse(CAPTIONS)
    made = TextEmbeddings.encode(vocabulary, first)
    assert made.dim == speaking_model.projection_dim
    with pytest.raises(ValueError, match=says(first.fingerprint, speaking_model.fingerprint)):
        made.check_encoder(speaking_model)
    own = TextEmbeddings.encode(vocabulary, speaking_model, speaking_model.region_text_length)
    own.check_encoder(speaking_model)
    expected = speaking_model.encode_text(CAPTIONS, "box", normalize=True)
    torch.testing.assert_close(own.embeddings, expected, **TOLERANCE)
    with pytest.raises(ValueError, match=says("encode the vocabulary again")):
        own.check_encoder(first)


def test_exported_regions_equal_the_models(model):
    class EncodeRegions(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = model

        def forward(self, images, boxes):
            return self.encoder.encode_regions(images, [boxes])

    images, boxes = torch.randn(1, 3, 64, 96), torch.tensor([[3.0, 4.0, 50.0, 60.0]])
    program = export(EncodeRegions(), (images, boxes)).module()
    torch.testing.assert_close(program(images, boxes), model.encode_regions(images, [boxes]))
