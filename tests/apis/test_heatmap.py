"""Heat maps peak where the thing is, are what regions are compared by, and say what they show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from fgclip_det.apis import draw_heatmap, read_image, similarity_maps
from fgclip_det.apis.heatmap import peaks, save_maps
from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.apis.region_texts import encode_texts
from fgclip_det.datasets.shapes.generator import generate
from fgclip_det.encoders import FGCLIP, FGCLIP2
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from tests.messages import says

PICTURES = sorted((BUNDLED / "images").glob("*.png"))
NAMES = ["a blue dotted star", "a purple dotted cross", "a yellow plain cross"]
# Of the first bundled picture.
CENTRES = [(36, 46), (88, 50), (54, 94)]


@pytest.fixture(scope="module")
def encoder() -> FGCLIP:
    return FGCLIP.from_pretrained(BUNDLED / "encoder")


@pytest.fixture(scope="module")
def encoder2(encoder2_dir: str) -> FGCLIP2:
    return FGCLIP2.from_pretrained(encoder2_dir)


@pytest.fixture
def rgb() -> np.ndarray:
    return read_image(PICTURES[0])


def test_peaks_in_the_right_box(encoder: FGCLIP, tmp_path: Path) -> None:
    """200 pictures of 1 to 4 objects, all unlike: the caption of the first peaks in its box."""
    generate(tmp_path, {"val": 200}, seed=0)
    file = json.loads((tmp_path / "annotations" / "val_fgovd.json").read_text("utf-8"))
    captions = {category["id"]: category["name"] for category in file["categories"]}
    right = 0
    for image in file["images"]:
        objects = [a for a in file["annotations"] if a["image_id"] == image["id"]]
        texts = [captions[one["category_id"]] for one in objects]
        assert texts.count(texts[0]) == 1
        picture = Image.open(tmp_path / image["file_name"])
        (peak,) = peaks(similarity_maps(encoder, picture, texts[:1]), (128, 128))
        x, y, width, height = objects[0]["bbox"]
        right += x <= peak[0] <= x + width and y <= peak[1] <= y + height
    assert len(file["images"]) == 200
    assert right >= 190, f"{right} of 200"


def test_values_are_those_of_boxes(encoder: FGCLIP, rgb: np.ndarray) -> None:
    """A value is the best cosine that `encode_regions` has for boxes around the cell."""
    maps = similarity_maps(encoder, rgb, NAMES, box_cells=(3, 5))
    assert maps.shape == (3, 16, 16) and maps.dtype == torch.float32
    patch, pixels = encoder.patch_size, encoder.preprocess([Image.fromarray(rgb)])
    texts = encoder.encode_text(NAMES, normalize=True)
    for y, x in ((7, 9), (0, 0), (15, 4)):
        cosines = []
        for side in (3, 5):
            around = torch.tensor([[x, y, x + 1, y + 1]]) + side // 2 * torch.tensor([-1, -1, 1, 1])
            box = around.clamp(0, 16).float() * patch
            cosines.append(encoder.encode_regions(pixels, [box], normalize=True)[0] @ texts.T)
        torch.testing.assert_close(maps[:, y, x], torch.maximum(*cosines), atol=1e-4, rtol=0)


def test_one_cell_is_the_token_itself(encoder: FGCLIP, rgb: np.ndarray) -> None:
    dense = encoder.encode_dense(encoder.preprocess([Image.fromarray(rgb)]), normalize=True)[0]
    texts = encoder.encode_text(NAMES, normalize=True)
    maps = similarity_maps(encoder, rgb, NAMES, box_cells=(1,))
    torch.testing.assert_close(maps, (dense @ texts.T).permute(2, 0, 1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("stretch", [(1, 1), (3, 3), (1, 2)])
def test_places_are_in_pixels_of_the_picture(
    encoder: FGCLIP, rgb: np.ndarray, stretch: tuple[int, int]
) -> None:
    down, right = stretch
    image = Image.fromarray(rgb[:112]).resize((128 * right, 112 * down))
    maps = similarity_maps(encoder, image, NAMES)
    found = peaks(maps, (image.height, image.width))
    for (x, y), (true_x, true_y) in zip(found, CENTRES, strict=True):
        assert abs(x / right - true_x) < 20 and abs(y / down - true_y) < 20


@pytest.mark.parametrize(
    ("shape", "image_size", "grid"),
    [
        ((128, 128), None, (16, 16)),
        ((64, 128), None, (8, 16)),
        ((400, 100), 64, (8, 2)),
        ((1, 1), 16, (2, 2)),
        ((10, 20_000), None, (1, 16)),
        ((100, 130), 256, (25, 32)),
    ],
)
def test_sizes_keep_the_aspect_ratio(
    encoder: FGCLIP, shape: tuple[int, int], image_size: int | None, grid: tuple[int, int]
) -> None:
    image = np.full((*shape, 3), 90, np.uint8)
    maps = similarity_maps(encoder, image, NAMES, image_size=image_size)
    assert maps.shape == (3, *grid)
    assert maps.isfinite().all() and maps.abs().max() <= 1


def test_second_generation_takes_its_box_texts(encoder2: FGCLIP2) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    assert encode_texts(encoder2, NAMES).text_length == "box"
    # Three rows of five patches as it is: nothing is resized.
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    dense = encoder2.encode_dense(pixels, normalize=True)[0]
    texts = encoder2.encode_text(NAMES, "box", normalize=True)
    maps = similarity_maps(encoder2, image, NAMES, max_patches=15, box_cells=(1,))
    torch.testing.assert_close(maps, (dense @ texts.T).permute(2, 0, 1))
    # What FG-CLIP 2's own evaluation grants a picture of this size.
    assert similarity_maps(encoder2, image, NAMES).shape == (3, 9, 14)
    sized = similarity_maps(encoder2, image, NAMES, image_size=160)
    assert sized.shape == (3, 6, 10)


def test_text_embeddings_stand_in_for_texts(
    encoder: FGCLIP, encoder2: FGCLIP2, rgb: np.ndarray
) -> None:
    texts = TextEmbeddings.encode(Vocabulary.parse(NAMES), encoder)
    expected = similarity_maps(encoder, rgb, NAMES)
    torch.testing.assert_close(similarity_maps(encoder, rgb, texts), expected)
    with pytest.raises(ValueError, match="encode the vocabulary again"):
        similarity_maps(encoder2, rgb, texts)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(box_cells=()), "box_cells is"),
        (dict(box_cells=(3, 4)), "odd numbers"),
        (dict(box_cells=(-1,)), "odd numbers"),
        (dict(image_size=7), "image_size .*7.* 8 to 1024"),
        (dict(image_size=100_000), "image_size is 100000"),
        (dict(max_patches=10), "FG-CLIP 2's: give image_size"),
        (dict(max_patches=10, image_size=64), "give one of them"),
    ],
)
def test_refuses_settings_out_of_range(
    encoder: FGCLIP, rgb: np.ndarray, options: dict, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        similarity_maps(encoder, rgb, NAMES, **options)


def test_pictures_are_resized_as_the_encoders_own(
    encoder: FGCLIP, encoder2: FGCLIP2, rgb: np.ndarray
) -> None:
    image = Image.fromarray(rgb).resize((200, 150))
    packed = encoder2.preprocess([image])
    rows, columns = packed.grids[0]
    dense = encoder2.encode_dense(packed, normalize=True)[0, : rows * columns]
    dense = dense.view(rows, columns, -1)
    texts = encoder2.encode_text(NAMES, "box", normalize=True)
    maps = similarity_maps(encoder2, image, NAMES, box_cells=(1,))
    torch.testing.assert_close(maps, (dense @ texts.T).permute(2, 0, 1), atol=1e-5, rtol=0)
    square = Image.fromarray(rgb).resize((200, 200))
    dense = encoder.encode_dense(encoder.preprocess([square]), normalize=True)[0]
    texts = encoder.encode_text(NAMES, normalize=True)
    maps = similarity_maps(encoder, square, NAMES, box_cells=(1,))
    torch.testing.assert_close(maps, (dense @ texts.T).permute(2, 0, 1), atol=1e-5, rtol=0)


def test_refuses_numbers_of_patches_out_of_range(encoder2: FGCLIP2, rgb: np.ndarray) -> None:
    for number in (0, 1 << 20):
        with pytest.raises(ValueError, match=says("max_patches", number, "from 1 to")):
            similarity_maps(encoder2, rgb, NAMES, max_patches=number)


def _changed(one: Image.Image, other: Image.Image) -> np.ndarray:
    """(left, top, right, bottom) of what differs, in pixels."""
    differs = (np.asarray(one).astype(int) != np.asarray(other).astype(int)).any(axis=2)
    rows, columns = np.nonzero(differs.any(axis=1))[0], np.nonzero(differs.any(axis=0))[0]
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


@pytest.mark.parametrize("scale", ["shared", "text"])
def test_a_cell_is_drawn_where_it_is(rgb: np.ndarray, scale: str) -> None:
    maps = torch.zeros(2, 8, 8)
    maps[:, 0, 0], maps[:, 7, 7] = 1.0, 0.5
    before = draw_heatmap(rgb, maps, NAMES[:2], scale)
    maps[1, 2, 5] = 0.6
    after = draw_heatmap(rgb, maps, NAMES[:2], scale)
    assert before.size == after.size and before.mode == "RGB"
    left, top, right, bottom = _changed(before, after)
    # The last of three panels in a row: in its right half, in its upper half.
    panel = np.array([0.62, 0.78, 0.98]) * before.width
    assert panel[0] < left and right < panel[2]
    assert left > panel[1] - 40
    assert bottom < before.height * 0.6
    # A bilinear cell reaches to the middle of its neighbours.
    assert abs((right - left) - (bottom - top)) <= 4


def test_a_shared_scale_compares_texts_and_an_own_one_does_not(rgb: np.ndarray) -> None:
    strong = torch.zeros(2, 4, 4)
    strong[0, 1, 1], strong[1, 1, 1] = 1.0, 0.9
    weak = strong.clone()
    weak[1] *= 0.2
    drawn = [
        np.asarray(draw_heatmap(rgb, maps, ["a", "b"], scale)).astype(float)
        for scale in ("shared", "text")
        for maps in (strong, weak)
    ]
    third = slice(int(drawn[0].shape[1] * 0.68), int(drawn[0].shape[1] * 0.9))
    rows = slice(int(drawn[0].shape[0] * 0.25), int(drawn[0].shape[0] * 0.85))
    assert drawn[0][rows, third].mean() > drawn[1][rows, third].mean() + 3
    third = slice(int(drawn[2].shape[1] * 0.72), int(drawn[2].shape[1] * 0.9))
    assert abs(drawn[2][rows, third].mean() - drawn[3][rows, third].mean()) < 1


@pytest.mark.parametrize("shape", [(1, 1), (20_000, 10), (10, 20_000), (300, 500)])
def test_pictures_of_any_shape_are_drawn(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 90, np.uint8)
    # All values alike have no lowest and highest.
    drawn = draw_heatmap(image, torch.full((4, 3, 2), 0.25), list("abcd"))
    assert 300 < drawn.width < 4000 and 100 < drawn.height < 4000


def test_what_cannot_be_drawn_is_refused(rgb: np.ndarray) -> None:
    with pytest.raises(ValueError, match=says("36 texts", "1 to 35")):
        draw_heatmap(rgb, torch.zeros(36, 2, 2), [str(i) for i in range(36)])
    with pytest.raises(ValueError, match="scale is 'own'"):
        draw_heatmap(rgb, torch.zeros(1, 2, 2), ["a"], "own")


def test_letters_that_no_font_has_are_said_once(rgb: np.ndarray, monkeypatch) -> None:
    monkeypatch.setattr("fgclip_det.apis.drawing.fonts.MORE_FONTS", ("no such font",))
    with pytest.warns(UserWarning, match="no font") as said:
        draw_heatmap(rgb, torch.zeros(1, 2, 2), ["红色的圆 $x^2$"])
    assert len(said) == 1


def test_numbers_are_kept(tmp_path: Path) -> None:
    maps = F.one_hot(torch.tensor([[1, 0], [2, 1]]), 3).permute(2, 0, 1).float()
    save_maps(tmp_path / "x.part", maps, ["one", "红", "three"], (40, 60))
    with np.load(tmp_path / "x.part", allow_pickle=False) as kept:
        assert kept["maps"].tolist() == maps.tolist()
        assert kept["texts"].tolist() == ["one", "红", "three"]
        assert kept["peaks"].tolist() == [[45, 10], [15, 10], [15, 30]]
        assert kept["size"].tolist() == [40, 60]
