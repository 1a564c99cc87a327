import json

import pytest
import torch
from PIL import Image

from fgclip_det.evaluation import region_accuracy

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (90, 90, 90)}


class MeanColorEncoder:
    """Embeds a box as its mean colour, a caption as the colour that it names."""

    image_mean = (0.5, 0.5, 0.5)
    image_std = (0.5, 0.5, 0.5)
    image_size = 32

    def __init__(self):
        self.sizes = []

    def encode_regions(self, images, boxes):
        self.sizes.append(tuple(images.shape))
        rows = []
        for image, of_image in zip(images * 0.5 + 0.5, boxes, strict=True):
            for x1, y1, x2, y2 in of_image.round().int().tolist():
                rows.append(image[:, y1:y2, x1:x2].mean(dim=(1, 2)))
        return torch.stack(rows)

    def encode_text(self, texts, text_length):
        assert text_length == "short"
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


def test_fewer_negatives_use_the_first_and_too_few_are_skipped(tmp_path, data):
    data["annotations"][0]["neg_category_ids"].pop()
    assert run(tmp_path, data, n_negatives=2)["skipped"] == 1
    one = run(tmp_path, data, n_negatives=1)
    assert (one["n"], one["chance"]) == (4, 0.5)


def test_image_size_overrides_the_encoders(tmp_path, data):
    encoder = MeanColorEncoder()
    assert run(tmp_path, data, encoder, n_negatives=2, image_size=48)["accuracy"] == 1.0
    assert encoder.sizes == [(2, 3, 48, 48)]


def test_user_errors_name_the_value(tmp_path, data):
    with pytest.raises(ValueError, match="has 10 negatives: use fewer"):
        run(tmp_path, data)
    with pytest.raises(ValueError, match="n_negatives 0"):
        run(tmp_path, data, n_negatives=0)
    with pytest.raises(ValueError, match="not in FG-OVD's format"):
        run(tmp_path, {"images": [], "annotations": []})
    with pytest.raises(ValueError, match=r"none\.json' cannot be read"):
        region_accuracy(MeanColorEncoder(), tmp_path / "none.json", tmp_path)
    (tmp_path / "val" / "1.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"1\.png' cannot be read .*image_root"):
        run(tmp_path, data, n_negatives=2)
