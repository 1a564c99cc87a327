"""Headers of pictures: size as stored, and files that were cut off."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fgclip_det.io import check_stored_size, read_header


def save(path, entry=None, size=(300, 200), **options):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    exif = Image.Exif()
    if entry:
        exif[0x0112] = entry
    Image.fromarray(pixels).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("entry", [None, 1, 3, 6])
def test_size_as_stored(tmp_path, suffix, entry):
    header = read_header(save(tmp_path / f"a.{suffix}", entry))
    assert header == (300, 200, entry == 6)


def test_pictures_of_phones(tmp_path):
    """Two pictures in one file, of which the first is read."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 200, 300, 3), np.uint8)
    first, second = map(Image.fromarray, pixels)
    path = tmp_path / "a.jpg"
    first.save(path, format="MPO", save_all=True, append_images=[second])
    content = path.read_bytes()
    assert read_header(path) == (300, 200, False)
    path.write_bytes(content[:-500])
    assert read_header(path) == (300, 200, False)
    path.write_bytes(content[: len(content) // 4])
    with pytest.raises(ValueError, match=r"a\.jpg' cannot be read .*truncated"):
        read_header(path)


def test_pictures_that_nothing_here_reads_are_too_large(tmp_path, monkeypatch):
    path = tmp_path / "a.ppm"
    path.write_bytes(b"P5 20000 10000 255\n")
    with pytest.raises(ValueError, match=r"a\.ppm' is too large \(more than 179 million pixels"):
        read_header(path)
    # Whatever a program's own limit is.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_header(save(tmp_path / "a.png")).width == 300


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_file_that_was_cut_off(tmp_path, suffix, share):
    path = save(tmp_path / f"a.{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"a\.(jpg|png)' (is empty|cannot be read|.*truncated)"):
        read_header(path)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("more", [b"\0" * 500, b"\r\n", b"a film of a camera" * 50])
def test_what_cameras_append_is_no_damage(tmp_path, suffix, more):
    path = save(tmp_path / f"a.{suffix}")
    path.write_bytes(path.read_bytes() + more)
    assert read_header(path).width == 300


def test_no_picture(tmp_path):
    (tmp_path / "a.jpg").write_text("<html>404</html>")
    with pytest.raises(ValueError, match="not a picture of a known format"):
        read_header(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="cannot be read"):
        read_header(tmp_path / "b.jpg")


def test_sizes_that_are_those_of_the_turned_picture(tmp_path):
    path = save(tmp_path / "a.jpg", 6)
    check_stored_size(path, (300, 200), (300.0, 200.0))
    check_stored_size(path, (300, 200), (600, 400))
    check_stored_size(path, (300, 300), (300, 300))
    with pytest.raises(ValueError, match=r"300 x 200 px, .* 200 x 300: .*-auto-orient"):
        check_stored_size(path, (300, 200), (200, 300))
    with pytest.raises(ValueError, match="swap width and height in the annotation file"):
        check_stored_size(save(tmp_path / "b.jpg"), (300, 200), (200, 300))
    with pytest.raises(ValueError, match="swap width and height"):
        check_stored_size("s3://bucket/1.jpg", (300, 200), (200, 300))
