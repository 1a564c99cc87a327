import json
import warnings
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from fgclip_det.evaluation import region_accuracy
from fgclip_det.evaluation.region_accuracy.accuracy import (
    caption_cosines,
    fit_scorer,
    long_captions,
    region_accuracies,
)
from fgclip_det.fg_ovd.regions import read_fg_ovd_regions
from tests.tiny_encoders import tiny_fgclip

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (90, 90, 90)}


class MeanColorEncoder:
    """Embeds a box as its mean colour, a caption as the colour that it names."""

    image_mean = (0.5, 0.5, 0.5)
    image_std = (0.5, 0.5, 0.5)
    image_size = 32
    patch_size = 4
    region_text_length = "short"
    projection_dim = 3
    device = "cpu"

    def __init__(self):
        self.sizes, self.text_calls = [], []
        self.text_model = SimpleNamespace(max_length=lambda length: {"short": 5, "long": 9}[length])

    def tokenizer(self, texts, verbose):
        return {"input_ids": [[0, *text.split(), 1] for text in texts]}

    def encode_dense(self, images):
        self.sizes.append(tuple(images.shape))
        return images * 0.5 + 0.5

    def pool_cells(self, dense, boxes):
        rows = []
        for image, of_image in zip(dense, boxes, strict=True):
            for x1, y1, x2, y2 in (of_image * self.patch_size).round().int().tolist():
                rows.append(image[:, y1:y2, x1:x2].mean(dim=(1, 2)))
        return torch.stack(rows)

    def encode_text(self, texts, text_length):
        self.text_calls.append((list(texts), text_length))
        return torch.tensor([COLORS[t.split()[1]] for t in texts], dtype=torch.float32)


@pytest.fixture
def data(tmp_path):
    """Two 64x16 pictures; left half and right half of another colour each."""
    pictures = [("red", "green"), ("blue", "red")]
    images, annotations, categories = [], [], []
    (tmp_path / "val").mkdir()
    for index, halves in enumerate(pictures):
        picture = Image.new("RGB", (64, 16))
        for half, color in enumerate(halves):
            picture.paste(COLORS[color], (32 * half, 0, 32 * half + 32, 16))
            wrong = [c for c in ("red", "green", "blue") if c != color]
            captions = [f"a {color} box", f"a {wrong[0]} box", f"a {wrong[1]} box"]
            first = len(categories)
            categories += [{"id": first + i, "name": c} for i, c in enumerate(captions)]
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": index,
                    "bbox": [32 * half + 4, 4, 24, 8],
                    "category_id": first,
                    "neg_category_ids": [first + 1, first + 2],
                }
            )
        picture.save(tmp_path / "val" / f"{index}.png")
        images.append({"id": index, "file_name": f"val/{index}.png", "width": 64, "height": 16})
    # Out of order on purpose: regions come back image by image.
    annotations = [annotations[i] for i in (2, 0, 3, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def run(tmp_path, data, encoder=None, **kwargs):
    path = tmp_path / "ann.json"
    path.write_text(json.dumps(data))
    return region_accuracy(encoder or MeanColorEncoder(), path, tmp_path, **kwargs)


def test_right_answers_with_scaled_boxes_whatever_the_batch(tmp_path, data):
    for batch_size in (1, 2, 32):
        encoder = MeanColorEncoder()
        result = run(tmp_path, data, encoder, n_negatives=2, batch_size=batch_size)
        assert {size[1:] for size in encoder.sizes} == {(3, 32, 32)}
        assert result["accuracy"] == 1.0
        assert result["chance"] == pytest.approx(1 / 3)
        assert (result["n"], result["skipped"]) == (4, 0)
        assert result["pairwise"] == {"blue/green/red": 1.0}


def test_pictures_with_an_exif_entry_are_read_as_stored(tmp_path, data):
    for name in ("0", "1"):
        path = tmp_path / "val" / f"{name}.png"
        exif = Image.Exif()
        exif[0x0112] = 6
        with Image.open(path) as image:
            image.load()
        image.save(path, exif=exif)
    assert run(tmp_path, data, n_negatives=2)["accuracy"] == 1.0
    # Boxes that fit the turned picture and the stored one: nothing else would tell.
    for image in data["images"]:
        image["width"], image["height"] = image["height"], image["width"]
    for one in data["annotations"]:
        one["bbox"] = [2, 2, 8, 8]
    with pytest.raises(ValueError, match=r"png' is stored with 64 x 16 px, but annotated with 16"):
        run(tmp_path, data, n_negatives=2)


def test_wrong_answers_are_counted(tmp_path, data):
    # The caption of the blue box claims red and its first negative tells the truth.
    names = {c["id"]: c for c in data["categories"]}
    blue = next(
        a for a in data["annotations"] if names[a["category_id"]]["name"].startswith("a blue")
    )
    truth = names[blue["category_id"]]
    negative = names[blue["neg_category_ids"][0]]
    truth["name"], negative["name"] = negative["name"], truth["name"]
    result = run(tmp_path, data, n_negatives=2)
    assert result["accuracy"] == 0.75
    assert result["pairwise"] == {"blue/green/red": 7 / 8}


def test_ties_are_right(tmp_path, data):
    for category in data["categories"]:
        category["name"] = "a grey box"
    result = run(tmp_path, data, n_negatives=2)
    assert result["accuracy"] == 1.0 and result["pairwise"] == {}


def test_captions_alike_tie_to_the_bit():
    # Sums of so many products differ in the last bit from place to place.
    table = {text: row for text, row in zip("abc", torch.randn(3, 768), strict=True)}
    encoder = SimpleNamespace(
        encode_text=lambda texts, _: torch.stack([table[t] for t in texts]),
        projection_dim=768,
        device="cpu",
    )
    groups = [["a", "b", "a", "c", "a"], ["c", "b", "a", "b", "c"], ["b", "b"]] * 50
    cosines = caption_cosines(encoder, torch.randn(150, 768), groups, "short")
    for row, group in zip(cosines, groups, strict=True):
        assert all(row[i] == row[0] for i, text in enumerate(group) if text == group[0])


def test_fewer_negatives_use_the_first_and_too_few_are_skipped(tmp_path, data):
    data["annotations"][0]["neg_category_ids"].pop()
    two = run(tmp_path, data, n_negatives=2)
    assert (two["n"], two["skipped"], two["fewer"]) == (3, 1, 0)
    one = run(tmp_path, data, n_negatives=1)
    assert (one["n"], one["chance"], one["fewer"]) == (4, 0.5, 0)
    # All that each has, as FG-CLIP's evaluation: one with a single negative counts too.
    every = run(tmp_path, data)
    assert (every["n"], every["skipped"], every["fewer"]) == (4, 0, 1)
    assert every["chance"] == pytest.approx((3 / 3 + 1 / 2) / 4)
    data["annotations"][0]["neg_category_ids"].clear()
    every = run(tmp_path, data)
    assert (every["n"], every["skipped"], every["fewer"]) == (3, 1, 0)


def test_image_size_overrides_the_encoders(tmp_path, data):
    encoder = MeanColorEncoder()
    assert run(tmp_path, data, encoder, n_negatives=2, image_size=48)["accuracy"] == 1.0
    assert encoder.sizes == [(2, 3, 48, 48)]
    encoder = MeanColorEncoder()
    kept = run(tmp_path, data, encoder, n_negatives=2, image_size=32, keep_ratio=True)
    assert kept["accuracy"] == 1.0
    assert encoder.sizes == [(2, 3, 8, 32)]


def test_what_is_mistaken_for_what(tmp_path, data):
    names = {c["id"]: c for c in data["categories"]}
    blue = next(
        a for a in data["annotations"] if names[a["category_id"]]["name"].startswith("a blue")
    )
    names[blue["category_id"]]["name"] = "a green box"
    names[blue["neg_category_ids"][0]]["name"] = "a blue box"
    result = run(tmp_path, data)
    assert result["attributes"]["color"]["n"] == 4
    assert result["attributes"]["color"]["accuracy"] == 0.75 == result["accuracy"]
    (pair,) = result["confused"]
    assert (pair["right"], pair["taken_for"], pair["times"]) == ("green", "blue", 1)
    assert result["text_only"] is None


def test_missing_pictures_are_listed_or_counted(tmp_path, data):
    annotation = next(a for a in data["annotations"] if a["image_id"] == 0)
    for index in range(12):
        data["images"].append({"id": 10 + index, "file_name": f"val/gone{index}.png"})
        data["annotations"].append({**annotation, "id": 10 + index, "image_id": 10 + index})
    encoder = MeanColorEncoder()
    with pytest.raises(ValueError, match=r"12 of 14 pictures .*ann\.json' are missing") as error:
        run(tmp_path, data, encoder)
    assert str(error.value).count("gone") == 5 and "gone5" not in str(error.value)
    assert encoder.sizes == [] and encoder.text_calls == []
    result = run(tmp_path, data, skip_missing=True)
    assert (result["n"], result["missing_images"], result["missing_boxes"]) == (4, 12, 12)
    data["annotations"] = data["annotations"][4:]
    with pytest.raises(ValueError, match=r"none of the 12 pictures of .*ann\.json' is in"):
        run(tmp_path, data, skip_missing=True)


def test_captions_that_are_cut_are_counted(tmp_path, data):
    for category in data["categories"][:2]:
        category["name"] += " on a table"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = run(tmp_path, data)
    assert (result["long_captions"], result["max_tokens"]) == (2, 5)
    assert result["captions"] == 5
    encoder = MeanColorEncoder()
    result = run(tmp_path, data, encoder, text_length="long")
    assert (result["long_captions"], result["max_tokens"]) == (0, 9)
    assert {length for _, length in encoder.text_calls} == {"long"}


def test_counted_captions_are_those_that_the_encoder_cuts():
    encoder = tiny_fgclip(speaks=True)
    limit = encoder.text_model.max_length("short")
    texts = ["RED " * (limit - 2), "red " * (limit - 1), "a cup"]
    with pytest.warns(UserWarning, match="1 caption.* longer than 77 tokens"):
        encoder.tokenize(texts)
    assert long_captions(encoder, texts, "short") == texts[1:2]
    assert long_captions(encoder, texts, "long") == long_captions(encoder, [], "short") == []


def test_a_box_without_a_feature_is_wrong_and_counted(tmp_path, data):
    class Blind(MeanColorEncoder):
        def pool_cells(self, dense, boxes):
            features = super().pool_cells(dense, boxes)
            features[0] = 0
            return features

    result = run(tmp_path, data, Blind())
    assert (result["accuracy"], result["undefined"], result["n"]) == (0.75, 1, 4)
    # It chose nothing, so it says nothing of attributes.
    assert result["attributes"]["color"]["n"] == 3


def test_several_files_are_one_pass(tmp_path, data):
    first, second = tmp_path / "hard.json", tmp_path / "easy.json"
    first.write_text(json.dumps(data))
    fewer = {**data, "annotations": data["annotations"][:3]}
    for category in fewer["categories"][:3]:
        category["name"] = category["name"].replace("box", "case")
    second.write_text(json.dumps(fewer))
    encoder = MeanColorEncoder()
    scorer = fit_scorer(first)
    found = region_accuracies(encoder, [first, second], tmp_path, scorers=[scorer, None])
    assert encoder.sizes == [(2, 3, 32, 32)]
    (texts,) = [texts for texts, _ in encoder.text_calls]
    assert len(texts) == len({*texts}) == 6
    alone = [region_accuracy(MeanColorEncoder(), path, tmp_path) for path in (first, second)]
    text_only = scorer.accuracy([line.captions for line in read_fg_ovd_regions(first)])
    assert found[0] == {**alone[0], "text_only": text_only} and 0 < text_only <= 1
    assert found[1] == alone[1] and [one["n"] for one in found] == [4, 3]
    red, blue = scorer.score(["a red box", "a blue box"])
    assert red > blue  # right twice, and once


def test_the_text_only_scorer_reads_both_formats(tmp_path):
    lines = [
        {
            "img_path": f"{i}.jpg",
            "bbox": [0, 0, 1, 1],
            "pos_expression": ["a white cup"],
            "neg_expression": ["a lilac cup"],
        }
        for i in range(3)
    ]
    path = tmp_path / "validation.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    scorer = fit_scorer(path)
    assert scorer.accuracy([["a white dog", "a lilac dog"]]) == 1


def test_an_encoder_without_a_tokenizer_is_refused_before_pictures_are_read(tmp_path, data):
    encoder = tiny_fgclip()
    (tmp_path / "val" / "1.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="holds no tokenizer"):
        run(tmp_path, data, encoder)


def test_user_errors_name_the_value(tmp_path, data):
    with pytest.raises(ValueError, match="has 10 negatives: use fewer, at most 2"):
        run(tmp_path, data, n_negatives=10)
    with pytest.raises(ValueError, match="n_negatives is 0"):
        run(tmp_path, data, n_negatives=0)
    with pytest.raises(ValueError, match="n_negatives is -1"):
        run(tmp_path, data, n_negatives=-1)
    with pytest.raises(ValueError, match="batch_size 0"):
        run(tmp_path, data, batch_size=0)
    with pytest.raises(ValueError, match="image_size is 33 px"):
        run(tmp_path, data, image_size=33)
    with pytest.raises(ValueError, match="not in FG-OVD's format"):
        run(tmp_path, {"images": [], "annotations": []})
    with pytest.raises(ValueError, match=r"none\.json' cannot be read"):
        region_accuracy(MeanColorEncoder(), tmp_path / "none.json", tmp_path)
    encoder = MeanColorEncoder()
    (tmp_path / "val" / "1.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"1\.png' is not a picture"):
        run(tmp_path, data, encoder, n_negatives=2)
    assert encoder.text_calls == []
