"""From a picture's file to features of boxes, against obvious loops in float64."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fgclip_det.encoders import RegionEncoder
from fgclip_det.encoders.picture_frames import normalize_and_pad
from fgclip_det.io import read_image
from tests.tiny_encoders import tiny_fgclip, tiny_fgclip2

TOLERANCE = dict(atol=1e-5, rtol=1e-4)
# Corners as shares of a picture: all of it, a side of it, within it, smaller than a cell.
SHARES = [(0, 0, 1, 1), (0, 0, 0.5, 1), (0.13, 0.27, 0.81, 0.66), (0.5, 0.5, 0.501, 0.502)]


def pool_by_hand(dense: np.ndarray, box: np.ndarray) -> np.ndarray:
    """RoIAlign to one bin of a (h, w, D) map: the mean of as many samples as cells are begun."""
    height, width, _ = dense.shape
    x1, y1, x2, y2 = (box.astype(np.float32) - np.float32(0.5)).tolist()
    columns, rows = math.ceil(x2 - x1), math.ceil(y2 - y1)
    total = np.zeros(dense.shape[2])
    for row in range(rows):
        for column in range(columns):
            y = min(max(y1 + (row + 0.5) * (y2 - y1) / rows, 0), height - 1)
            x = min(max(x1 + (column + 0.5) * (x2 - x1) / columns, 0), width - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            down, across = y - top, x - left
            total += (1 - down) * (1 - across) * dense[top, left]
            total += (1 - down) * across * dense[top, right]
            total += down * (1 - across) * dense[bottom, left]
            total += down * across * dense[bottom, right]
    return total / (rows * columns)


def dense_by_hand(encoder, path: Path, size: tuple[int, int], mode: Image.Resampling) -> np.ndarray:
    """(h, w, D) of a picture that Pillow resized."""
    picture = Image.open(path).convert("RGB").resize(size[::-1], mode)
    pixels = np.asarray(picture, np.float64) / 255
    pixels = (pixels - np.array(encoder.image_mean)) / np.array(encoder.image_std)
    exact = copy.deepcopy(encoder).double()
    return exact.encode_dense(torch.from_numpy(pixels.transpose(2, 0, 1))[None])[0].numpy()


@pytest.fixture(params=["RGB", "L", "turned"])
def path(request, tmp_path) -> Path:
    """A picture of 333 x 211 pixels: of colours, grey, or with an EXIF orientation."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (30, 40, 3), np.uint8)
    picture = Image.fromarray(pixels).resize((333, 211), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    if request.param == "turned":
        exif[0x0112] = 6
    picture.convert("L" if request.param == "L" else "RGB").save(
        tmp_path / "a.jpg", exif=exif, quality=95
    )
    return tmp_path / "a.jpg"


@pytest.mark.parametrize("patch", [14, 16])
@pytest.mark.parametrize("make", [tiny_fgclip, tiny_fgclip2])
def test_features_of_boxes(make, patch, path):
    encoder, size = make(patch_size=patch), (211, 333)
    first = make is tiny_fgclip
    if first:
        frame, mode = (encoder.image_size, encoder.image_size), Image.Resampling.BICUBIC
    else:
        budget = encoder.patch_budget(*size)
        frame, mode = encoder.resized_shape(*size, budget), Image.Resampling.BILINEAR
    dense = dense_by_hand(encoder, path, frame, mode)
    boxes = np.array(SHARES) * (333, 211, 333, 211)
    rows, columns = dense.shape[:2]
    cells = boxes / (333, 211, 333, 211) * (columns, rows, columns, rows)
    expected = torch.from_numpy(np.stack([pool_by_hand(dense, cell) for cell in cells])).float()

    picture = torch.from_numpy(read_image(path, "stored")).permute(2, 0, 1)
    (found,) = RegionEncoder(encoder)([picture], [torch.from_numpy(boxes)], normalize=False)
    torch.testing.assert_close(found, expected, **TOLERANCE)
    pixels = encoder.preprocess([Image.open(path)])
    if first:
        own = encoder.encode_dense(pixels)
        again = encoder.encode_regions(pixels, [torch.from_numpy(cells * patch)])
    else:
        own = encoder.encode_dense(pixels).unflatten(1, (rows, columns))
        again = encoder.encode_regions(pixels, [torch.from_numpy(boxes)], image_sizes=[size])
    torch.testing.assert_close(own[0], torch.from_numpy(dense).float(), **TOLERANCE)
    torch.testing.assert_close(again, expected, **TOLERANCE)


def test_values_of_pixels_are_those_of_the_authors_processors():
    # transformers 4.57: `rescale` in float64, `normalize` in float32.
    values = np.arange(256, dtype=np.uint8)
    picture = np.stack([values.reshape(16, 16)] * 3)
    encoder = tiny_fgclip()
    scaled = (picture.astype(np.float64) * 0.00392156862745098).astype(np.float32)
    mean, std = (np.array(one, dtype=np.float32) for one in (encoder.image_mean, encoder.image_std))
    expected = ((scaled.T - mean) / std).T
    found = normalize_and_pad(
        torch.from_numpy(picture).float(), encoder.image_mean, encoder.image_std, 16
    )
    assert np.array_equal(found.numpy(), expected)
