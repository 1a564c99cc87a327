"""Every kind of picture that people have, and those that are broken."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fgclip_det.apis.images import find_images, read_image, to_rgb, unique_stems

RED, WHITE = (255, 0, 0), (255, 255, 255)


def _save(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def test_reads_rgb_unchanged(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    read = read_image(_save(tmp_path / "a.png", Image.fromarray(rgb)))
    assert read.dtype == np.uint8
    assert np.array_equal(read, rgb)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_reads_16_bit_grey(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    assert cv2.imwrite(str(path), np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
    assert read_image(path).tolist() == [[[0] * 3, [100] * 3, [255] * 3]]


def test_reads_big_endian_16_bit_grey(tmp_path: Path) -> None:
    image = Image.frombytes("I;16B", (2, 1), np.array([[257 * 100, 65535]], ">u2").tobytes())
    assert read_image(_save(tmp_path / "a.tif", image)).tolist() == [[[100] * 3, [255] * 3]]


def test_reads_16_bit_rgb(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    bgr = np.array([[[0, 257 * 100, 65535]]], dtype=np.uint16)
    assert cv2.imwrite(str(path), bgr)
    assert read_image(path).tolist() == [[[255, 100, 0]]]


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("1", 1, WHITE),
        ("L", 90, (90, 90, 90)),
        ("LA", (90, 255), (90, 90, 90)),
        ("LA", (90, 0), WHITE),
        ("P", 0, (0, 0, 0)),
        ("RGBA", (*RED, 255), RED),
        ("RGBA", (*RED, 0), WHITE),
    ],
)
def test_reads_other_modes(tmp_path: Path, mode: str, color, expected) -> None:
    read = read_image(_save(tmp_path / "a.png", Image.new(mode, (4, 3), color)))
    assert read.shape == (3, 4, 3)
    assert (read == expected).all()


def test_reads_a_palette_with_a_transparent_entry(tmp_path: Path) -> None:
    image = Image.new("P", (4, 3), 1)
    image.putpalette([0, 0, 0, *RED])
    assert (read_image(_save(tmp_path / "a.png", image, transparency=0)) == RED).all()
    assert (read_image(_save(tmp_path / "b.png", image, transparency=1)) == WHITE).all()


def test_reads_cmyk(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), (0, 255, 255, 0)))
    assert np.abs(read_image(path).astype(int) - RED).max() < 6


def test_applies_exif_rotation(tmp_path: Path) -> None:
    shown = np.zeros((4, 6, 3), dtype=np.uint8)
    shown[:, :3] = RED
    exif = Image.Exif()
    # Orientation 6: the viewer turns the stored picture a quarter clockwise.
    exif[0x0112] = 6
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(shown)))
    assert stored.size == (4, 6)
    assert np.array_equal(read_image(_save(tmp_path / "a.png", stored, exif=exif)), shown)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 10), (10, 20_000)])
def test_reads_extreme_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    read = read_image(_save(tmp_path / "a.png", Image.new("RGB", size, RED)))
    assert read.shape == (size[1], size[0], 3)


def _one_line_error(path: Path) -> str:
    with pytest.raises(ValueError) as error:
        read_image(path)
    text = str(error.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def test_refuses_a_missing_picture(tmp_path: Path) -> None:
    assert "check the path" in _one_line_error(tmp_path / "none.png")


def test_refuses_an_empty_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert "is empty" in _one_line_error(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_refuses_a_truncated_picture(tmp_path: Path, suffix: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    path = _save(tmp_path / f"a.{suffix}", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    _one_line_error(path)


def test_refuses_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("<html>Not found</html>")
    assert "not a picture" in _one_line_error(tmp_path / "a.jpg")


def test_reads_lab(tmp_path: Path) -> None:
    # Its second channel is called A, and is no transparency.
    read = read_image(_save(tmp_path / "a.tif", Image.new("LAB", (4, 4), (255, 128, 128))))
    assert (read > 250).all()


def test_refuses_a_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _save(tmp_path / "a.png", Image.new("RGB", (30, 30)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "too large" in _one_line_error(path)


@pytest.mark.parametrize("path", ["folder", "locked.png"])
def test_refuses_a_folder_and_an_unreadable_file(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "locked.png").write_bytes(b"?")
    if path == "locked.png":

        def deny(*_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Image, "open", deny)
    _one_line_error(tmp_path / path)


def test_finds_pictures_in_folders_sorted(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"?")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in find_images(tmp_path)] == ["a.jpg", "b.PNG"]
    assert find_images([tmp_path / "b.PNG", tmp_path])[0].name == "b.PNG"


@pytest.mark.parametrize("name", ["none.png", "empty", "x" * 5000, "a\0b.png"])
def test_finding_says_what_is_wrong(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"check the path|holds no picture"):
        find_images(tmp_path / name)


def test_finding_needs_a_path() -> None:
    with pytest.raises(ValueError, match="name files or folders"):
        find_images([])


def test_stems_are_distinct() -> None:
    paths = [Path(p) for p in ("a/x.png", "b/x.png", "b/x.jpg", "b/X.png", "a/b_x.png", "a/y.png")]
    stems = unique_stems(paths)
    assert stems[:2] == ["x", "b_x"]
    assert stems[-1] == "y"
    # File systems of macOS and Windows do not tell case apart.
    assert len({stem.lower() for stem in stems}) == len(paths)


def test_float_pictures_are_clipped() -> None:
    assert to_rgb(Image.fromarray(np.array([[-5.0, 300.0]], np.float32))).tolist() == [
        [[0] * 3, [255] * 3]
    ]
