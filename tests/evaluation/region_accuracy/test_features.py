"""Features and accuracy against the protocols written out: Pillow, torchvision, loops."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import roi_align
from transformers import Siglip2ImageProcessor

from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.datasets.shapes.generator import generate
from fgclip_det.encoders import FGCLIP, FGCLIP2, load_encoder
from fgclip_det.evaluation import region_accuracy
from fgclip_det.evaluation.region_accuracy.accuracy import caption_cosines
from fgclip_det.evaluation.region_accuracy.features import (
    check_image_size,
    described,
    region_features,
)
from fgclip_det.fg_ovd.regions import read_fg_ovd_regions
from tests.encoders import test_golden_files as golden

# Fixtures: the golden pictures, and their checkpoints.
folder, models = golden.folder, golden.models

SIZES = [(96, 64), (50, 130), (640, 480), (31, 31), (96, 64)]
WORDS = ["red", "blue", "Green", "white", "plain", "striped"]


@pytest.fixture(scope="module")
def lines_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FG-CLIP's lines for five pictures of noise; some with fewer negatives, one with a tie."""
    folder, random = tmp_path_factory.mktemp("regions"), np.random.default_rng(0)
    rows = []
    for number, (width, height) in enumerate(SIZES):
        pixels = random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
        Image.fromarray(pixels).resize((width, height)).save(folder / f"{number}.png")
        for _ in range(6):
            x, y = random.random(2) * [width * 0.6, height * 0.6]
            words = random.permutation(WORDS).tolist()
            wrong = [f"A {word} cup" for word in words[1 : random.integers(3, 7)]]
            rows.append(
                {
                    "img_path": f"{number}.png",
                    "bbox": [x, y, random.random() * (width - x), random.random() * (height - y)],
                    "pos_expression": [f"A {words[0]} cup"],
                    "neg_expression": wrong,
                }
            )
    rows[3]["neg_expression"][0] = rows[3]["pos_expression"][0]
    random.shuffle(rows)
    path = folder / "lines.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def first(encoder_dir: str) -> FGCLIP:
    return load_encoder(encoder_dir)


@pytest.fixture(scope="module")
def second(encoder2_dir: str) -> FGCLIP2:
    return load_encoder(encoder2_dir)


def resized(
    encoder: Any,
    picture: Image.Image,
    width: int,
    height: int,
    mode: Image.Resampling = Image.Resampling.BICUBIC,
) -> torch.Tensor:
    """FG-CLIP's way: Pillow's resize, then mean and deviation. (1, h, w, D)."""
    pixels = np.asarray(picture.resize((width, height), mode), np.float32) / 255
    pixels = (pixels - np.float32(encoder.image_mean)) / np.float32(encoder.image_std)
    return encoder.encode_dense(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None])


def square(side: int) -> Callable:
    return lambda encoder, picture: resized(encoder, picture, side, side)


def ratio_kept(side: int) -> Callable:
    def dense(encoder: Any, picture: Image.Image) -> torch.Tensor:
        patch, scale = encoder.patch_size, side / max(picture.size)
        width, height = (
            max(patch, int(length * scale / patch + 0.5) * patch) for length in picture.size
        )
        return resized(encoder, picture, width, height)

    return dense


def packed(encoder: FGCLIP2, picture: Image.Image) -> torch.Tensor:
    """FG-CLIP 2's way: the patch budget of its evaluation, the size of its processor, Pillow."""
    patches = (picture.width // 16) * (picture.height // 16)
    budget = 1024 if patches > 784 else 784 if patches > 576 else 576 if patches > 256 else None
    budget = budget or (256 if patches > 128 else 128)
    processor = Siglip2ImageProcessor(patch_size=16)
    batch = processor(images=picture, max_num_patches=budget, return_tensors="pt")
    rows, columns = batch["spatial_shapes"][0].tolist()
    return resized(encoder, picture, 16 * columns, 16 * rows, Image.Resampling.BILINEAR)


def by_hand(encoder: Any, path: Path, dense_of: Callable) -> list[list[float]]:
    """Cosines of each line's box with its captions, one by one."""
    found = []
    for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        picture = Image.open(path.parent / line["img_path"])
        dense = dense_of(encoder, picture)
        x, y, width, height = line["bbox"]
        across, down = dense.shape[2] / picture.width, dense.shape[1] / picture.height
        box = [x * across, y * down, (x + width) * across, (y + height) * down]
        pooled = roi_align(dense.permute(0, 3, 1, 2), [torch.tensor([box])], 1, 1, -1, True)
        region = pooled.flatten() / pooled.norm()
        cosines = []
        for caption in line["pos_expression"] + line["neg_expression"]:
            if isinstance(encoder, FGCLIP2):
                text = encoder.encode_text([caption.lower()], "box")[0]
            else:
                text = encoder.encode_text([caption], "short")[0]
            cosines.append(float(region @ (text / text.norm())))
        found.append(cosines)
    return found


def one_by_one(cosines: list[list[float]]) -> float:
    return sum(row[0] >= max(row[1:]) for row in cosines) / len(cosines)


@pytest.mark.parametrize(
    ("name", "options", "dense_of"),
    [
        ("first", {}, square(64)),
        ("first", {"image_size": 96}, square(96)),
        ("first", {"image_size": 208, "keep_ratio": True}, ratio_kept(208)),
        ("second", {}, packed),
        ("second", {"image_size": 96}, square(96)),
        ("second", {"image_size": 160, "keep_ratio": True}, ratio_kept(160)),
        ("second", {"keep_ratio": True}, ratio_kept(64)),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_equals_the_protocol_by_hand(
    name: str,
    options: dict[str, Any],
    dense_of: Callable,
    batch_size: int,
    lines_file: Path,
    request: pytest.FixtureRequest,
) -> None:
    encoder = request.getfixturevalue(name)
    expected = by_hand(encoder, lines_file, dense_of)
    lines = read_fg_ovd_regions(lines_file)
    paths, boxes = [lines_file.parent / one.file_name for one in lines], [one.box for one in lines]
    features = region_features(encoder, paths, boxes, batch_size=batch_size, **options)
    cosines = caption_cosines(
        encoder, features, [one.captions for one in lines], encoder.region_text_length
    )
    for found, row in zip(cosines, expected, strict=True):
        np.testing.assert_allclose(found[: len(row)], row, atol=1e-5)
        assert np.isneginf(found[len(row) :]).all()
    # Random encoders tell captions apart by little: a wrong box or picture moves them by more.
    spread = np.ptp([row[0] for row in expected])
    assert spread > 1e-3

    result = region_accuracy(
        encoder, lines_file, lines_file.parent, batch_size=batch_size, **options
    )
    assert result["accuracy"] == pytest.approx(one_by_one(expected), abs=1e-12)
    assert 0 < result["accuracy"] < 1
    assert (result["n"], result["undefined"], result["skipped"]) == (30, 0, 0)
    assert result["fewer"] == sum(len(row) < 6 for row in expected) > 0
    assert result["chance"] == pytest.approx(np.mean([1 / len(row) for row in expected]))


@pytest.mark.parametrize(("protocol", "generation"), golden.pairs(golden.BOXES))
def test_features_of_the_authors_own_evaluation(
    folder: Path, models: dict, protocol: str, generation: str
) -> None:
    wanted = golden.expected(folder, protocol, generation)
    paths, boxes = golden.boxes_of(folder, protocol, wanted["annotation_ids"])
    found = region_features(models[generation], paths, boxes, batch_size=5)
    scaled = torch.nn.functional.normalize(wanted["box_features"], dim=1)
    torch.testing.assert_close(found, scaled, **golden.TOLERANCE)


def test_the_bundled_encoder_on_generated_pictures(tmp_path: Path) -> None:
    generate(tmp_path, {"val": 6}, seed=3)
    path = tmp_path / "annotations" / "val_fgovd.json"
    encoder = load_encoder(BUNDLED / "encoder")
    lines = read_fg_ovd_regions(path)
    as_lines = tmp_path / "lines.jsonl"
    rows = [
        {
            "img_path": one.file_name,
            "bbox": [*one.box[:2], one.box[2] - one.box[0], one.box[3] - one.box[1]],
            "pos_expression": [one.captions[0]],
            "neg_expression": list(one.captions[1:]),
        }
        for one in lines
    ]
    as_lines.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    expected = one_by_one(by_hand(encoder, as_lines, square(encoder.image_size)))
    found = [region_accuracy(encoder, one, tmp_path, 10) for one in (path, as_lines)]
    assert found[0] == found[1]
    assert found[0]["accuracy"] == expected > 0.7 and found[0]["n"] == len(rows)


def test_a_picture_is_encoded_once_and_rows_keep_their_order(
    first: FGCLIP, lines_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    encode = first.encode_dense
    monkeypatch.setattr(first, "encode_dense", lambda x: seen.append(len(x)) or encode(x))
    box, other = (2.0, 3.0, 20.0, 25.0), (8.0, 1.0, 30.0, 31.0)
    paths = [lines_file.parent / f"{i}.png" for i in (0, 3, 0, 4)]
    features = region_features(first, paths, [box, box, other, box], batch_size=2)
    assert seen == [2, 1]
    alone = torch.cat(
        [
            region_features(first, [path], [one])
            for path, one in zip(paths, (box, box, other, box), strict=True)
        ]
    )
    torch.testing.assert_close(features, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(4))


def test_a_box_on_no_cell_has_no_feature(first: FGCLIP, lines_file: Path) -> None:
    path = lines_file.parent / "0.png"
    features = region_features(first, [path, path], [(5.0, 5.0, 5.0, 5.0), (5.0, 5.0, 40.0, 40.0)])
    assert features[0].isnan().all() and features[1].isfinite().all()


def test_user_errors_name_the_value(first: FGCLIP, second: FGCLIP2, lines_file: Path) -> None:
    path = lines_file.parent / "0.png"
    # Corners where width and height belong.
    with pytest.raises(ValueError, match=r"bbox \[40.0, 30.0, 90.0, 60.0\].*0\.png' of 96 x 64"):
        region_features(first, [path], [(40.0, 30.0, 130.0, 90.0)])
    region_features(first, [path], [(-0.5, 0.0, 96.5, 64.5)])
    for size, keep in ((100, False), (0, True), (-16, False), (100, True)):
        with pytest.raises(ValueError, match=f"image_size is {size} px, but .* have 16"):
            check_image_size(second, size, keep)
    broken = lines_file.parent / "broken.png"
    broken.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"broken\.png' cannot be read"):
        region_features(first, [broken], [(0.0, 0.0, 5.0, 5.0)])


def test_the_way_of_the_pictures_in_words(first: FGCLIP, second: FGCLIP2) -> None:
    assert described(first, None, False) == described(first, 64, False) == "64 x 64 px"
    assert described(second, None, False) == (
        "aspect ratio and number of patches by FG-CLIP 2's processor"
    )
    assert described(second, 96, False) == "96 x 96 px"
    assert described(first, 640, True) == "aspect ratio kept, longest side 640 px"
