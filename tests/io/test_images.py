"""Every kind of picture that people have, and those that are broken."""

from __future__ import annotations

import os
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgclip_det.io import (
    MAX_PADDED_PIXELS,
    MAX_PIXELS,
    check_padded_size,
    read_header,
    read_image,
    to_rgb,
    write_image,
)

RED, WHITE = (255, 0, 0), (255, 255, 255)


def _save(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def _png(path: Path, size: tuple[int, int], bits: int, color: int, rows: bytes) -> Path:
    """A PNG of a kind that Pillow does not write; `rows` each begin with a filter of 0."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", *size, bits, color, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


def test_reads_rgb_unchanged(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    path = _save(tmp_path / "a.png", Image.fromarray(rgb))
    for orientation in ("shown", "stored"):
        read = read_image(path, orientation)
        assert read.dtype == np.uint8
        assert np.array_equal(read, rgb)
    assert read.flags.writeable


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_reads_16_bit_grey(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    path = _save(tmp_path / f"a.{suffix}", Image.fromarray(values))
    assert read_image(path).tolist() == [[[0] * 3, [100] * 3, [255] * 3]]


def test_reads_big_endian_16_bit_grey(tmp_path: Path) -> None:
    image = Image.frombytes("I;16B", (2, 1), np.array([[257 * 100, 65535]], ">u2").tobytes())
    assert read_image(_save(tmp_path / "a.tif", image)).tolist() == [[[100] * 3, [255] * 3]]


def test_reads_16_bit_rgb(tmp_path: Path) -> None:
    rows = b"\x00" + np.array([65535, 257 * 100, 0], ">u2").tobytes()
    assert read_image(_png(tmp_path / "a.png", (1, 1), 16, 2, rows)).tolist() == [[[255, 100, 0]]]


def test_whole_numbers_of_32_bits() -> None:
    for values, expected in (([0, 200, 255], [0, 200, 255]), ([0, 257 * 9, 65535], [0, 9, 255])):
        read = to_rgb(Image.fromarray(np.array([values], np.int32)))
        assert read.tolist() == [[[value] * 3 for value in expected]]


def test_floats_are_clipped(tmp_path: Path) -> None:
    values = np.array([[-5.0, 300.0, 99.9, np.nan, np.inf, -np.inf]], np.float32)
    expected = [[[value] * 3 for value in (0, 255, 99, 0, 255, 0)]]
    assert to_rgb(Image.fromarray(values)).tolist() == expected
    assert read_image(_save(tmp_path / "a.tif", Image.fromarray(values))).tolist() == expected


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
        ("RGBA", (0, 0, 0, 102), (153, 153, 153)),
    ],
)
@pytest.mark.parametrize("orientation", ["shown", "stored"])
def test_reads_other_modes(tmp_path: Path, mode: str, color, expected, orientation) -> None:
    read = read_image(_save(tmp_path / "a.png", Image.new(mode, (4, 3), color)), orientation)
    assert read.shape == (3, 4, 3)
    assert (read == expected).all()


@pytest.mark.parametrize(("mode", "color"), [("La", (0, 0)), ("RGBa", (0, 0, 0, 0))])
def test_premultiplied_transparency(mode: str, color: tuple) -> None:
    assert (to_rgb(Image.new(mode, (2, 2), color)) == WHITE).all()


def test_reads_a_palette_with_a_transparent_entry(tmp_path: Path) -> None:
    image = Image.new("P", (4, 3), 1)
    image.putpalette([0, 0, 0, *RED])
    assert (read_image(_save(tmp_path / "a.png", image, transparency=0)) == RED).all()
    assert (read_image(_save(tmp_path / "b.png", image, transparency=1)) == WHITE).all()


def test_reads_rgb_with_a_transparent_color(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", Image.new("RGB", (4, 3), RED), transparency=RED)
    assert (read_image(path) == WHITE).all()


def test_reads_cmyk(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), (0, 255, 255, 0)))
    assert np.abs(read_image(path).astype(int) - RED).max() < 6


def test_reads_lab(tmp_path: Path) -> None:
    # Its second channel is called A, and is no transparency.
    read = read_image(_save(tmp_path / "a.tif", Image.new("LAB", (4, 4), (255, 128, 128))))
    assert (read > 250).all()


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_reads_the_first_picture_of_several(tmp_path: Path, suffix: str) -> None:
    first, second = (Image.new("RGB", (8, 8), color) for color in (RED, (0, 0, 255)))
    options = {"lossless": True} if suffix == "webp" else {}
    path = _save(tmp_path / f"a.{suffix}", first, save_all=True, append_images=[second], **options)
    assert (read_image(path) == RED).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("entry", [1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_orientation_is_the_callers(tmp_path: Path, suffix: str, entry: int) -> None:
    stored = np.zeros((32, 48, 3), dtype=np.uint8)
    stored[:16, :16], stored[:16, 16:], stored[16:] = RED, WHITE, (0, 0, 255)
    shown = {
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        # A quarter clockwise.
        6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).transpose(1, 0, 2),
        8: np.rot90(stored),
    }.get(entry, stored)
    exif = Image.Exif()
    exif[0x0112] = entry
    options = {} if suffix in ("png", "tif") else {"quality": 100}
    path = _save(tmp_path / f"a.{suffix}", Image.fromarray(stored), exif=exif, **options)
    for options, expected in (((), shown), (("shown",), shown), (("stored",), stored)):
        read = read_image(path, *options)
        assert read.shape == expected.shape
        assert np.abs(read.astype(int) - expected).mean() < 3
    with pytest.raises(ValueError, match="'turned' is unknown: choose 'shown' or 'stored'"):
        read_image(path, "turned")


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


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_only_files_are_read(tmp_path: Path, kind: str) -> None:
    path = Path(os.devnull) if kind == "device" else tmp_path / "a.png"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    assert "cannot be read" in _one_line_error(path)


def test_refuses_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_):
        raise PermissionError(13, "Permission denied")

    path = _save(tmp_path / "locked.png", Image.new("RGB", (2, 2)))
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", deny)
        assert "Permission denied" in _one_line_error(path)


@pytest.mark.parametrize(("height", "is_read"), [(17_899, True), (17_901, False)])
def test_the_number_of_pixels_is_limited(tmp_path: Path, height: int, is_read: bool) -> None:
    # One bit a pixel and no rows: the size is looked at before anything is unpacked.
    path = _png(tmp_path / "a.png", (10_000, height), 1, 0, b"")
    assert (10_000 * height <= MAX_PIXELS) == is_read
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = _one_line_error(path)
    assert ("too large" in message) != is_read


def test_the_limit_of_pillow_decides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _save(tmp_path / "a.png", Image.new("RGB", (30, 30)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_image(path).shape == (30, 30, 3)
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(ValueError):
        read_image(tmp_path)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_the_size_after_padding_is_limited() -> None:
    check_padded_size(8000, 8000)
    assert MAX_PADDED_PIXELS == 8000 * 8000
    with pytest.raises(ValueError, match=r"a\.png would be padded to 20000 x 20000 pixels"):
        check_padded_size(20_000, 20_000, "a.png")


def test_a_picture_that_is_decoded_when_it_is_opened_is_limited(tmp_path: Path) -> None:
    large = _png(tmp_path / "a.png", (20_000, 20_000), 1, 0, b"").read_bytes()
    head = struct.pack("<HHH", 0, 1, 1)
    entry = struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(large), 22)
    (tmp_path / "a.ico").write_bytes(head + entry + large)
    assert "too large" in _one_line_error(tmp_path / "a.ico")


@pytest.mark.parametrize("suffix", ["png", "tif", "ico"])
def test_the_limit_of_pillow_decides_nothing_while_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = _save(tmp_path / f"a.{suffix}", Image.new("RGB", (64, 64), RED))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert (read_image(path) == RED).all()
    assert Image.MAX_IMAGE_PIXELS == 100


def _wait_inside(monkeypatch: pytest.MonkeyPatch, path: Path):
    """A thread that reads a picture, and waits inside until it is told to go on."""
    inside, go_on, decode = threading.Event(), threading.Event(), Image.open

    def wait(stream, **options):
        inside.set()
        assert go_on.wait(300)
        return decode(stream, **options)

    monkeypatch.setattr(Image, "open", wait)
    reader = threading.Thread(target=read_image, args=(path,))
    reader.start()
    assert inside.wait(300)
    monkeypatch.setattr(Image, "open", decode)
    return reader, go_on


def test_threads_read_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _save(tmp_path / "a.png", Image.new("RGB", (30, 30)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    reader, go_on = _wait_inside(monkeypatch, path)
    assert read_image(path).shape == (30, 30, 3)
    go_on.set()
    reader.join()
    assert Image.MAX_IMAGE_PIXELS == 100
    reader, go_on = _wait_inside(monkeypatch, path)
    Image.MAX_IMAGE_PIXELS = 5000  # another part of the program
    go_on.set()
    reader.join()
    assert Image.MAX_IMAGE_PIXELS == 5000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on Windows")
def test_a_fork_while_a_thread_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _save(tmp_path / "a.png", Image.new("RGB", (30, 30)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    reader, go_on = _wait_inside(monkeypatch, path)
    child = os.fork()
    if not child:
        fine = Image.MAX_IMAGE_PIXELS == 100 and read_image(path).shape == (30, 30, 3)
        os._exit(0 if fine and Image.MAX_IMAGE_PIXELS == 100 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    go_on.set()
    reader.join()
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("color", [0, 2])
def test_a_transparent_value_of_16_bits(tmp_path: Path, color: int) -> None:
    channels = 1 if color == 0 else 3
    rows = b"\x00" + np.array([[257 * 100] * channels, [257 * 9] * channels], ">u2").tobytes()
    path = _png(tmp_path / "a.png", (2, 1), 16, color, rows)
    data = np.array([257 * 100] * channels, ">u2").tobytes()
    chunk = b"tRNS" + data
    chunk = struct.pack(">I", len(data)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    content = path.read_bytes()
    path.write_bytes(content[:33] + chunk + content[33:])
    assert read_image(path).tolist() == [[[255] * 3, [9] * 3]]


def test_pictures_are_written(tmp_path: Path) -> None:
    for name in ("a.png", "a.JPG"):
        write_image(tmp_path / name, Image.new("RGB", (8, 8), RED))
        assert np.abs(read_image(tmp_path / name).astype(int) - RED).max() < 6
    for name in ("a.xyz", "a", "a.psd"):
        with pytest.raises(ValueError, match=rf"{name}.* is no known suffix, name it .png or .jpg"):
            write_image(tmp_path / name, Image.new("RGB", (8, 8)))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_picture_is_not_written_through_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "target").write_text("kept")
    make = os.open

    def plant(name, flags, *rest):
        handle = make(name, flags, *rest)
        if flags & os.O_EXCL:
            os.unlink(name)
            os.symlink(tmp_path / "target", name)
        return handle

    monkeypatch.setattr(os, "open", plant)
    with pytest.raises(OSError):
        write_image(tmp_path / "a.png", Image.new("RGB", (8, 8), RED))
    assert (tmp_path / "target").read_text() == "kept"


@pytest.mark.parametrize("kind", ["HEIF", "JXL"])
def test_formats_of_registered_plugins_are_read(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "phone.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(ValueError, match="known format"):
        read_image(path)

    def opened(stream, filename) -> Image.Image:
        return Image.new("RGB", (3, 2), RED)

    plugin = (opened, lambda prefix: b"ftypheic" in prefix)
    monkeypatch.setitem(Image.OPEN, kind, plugin)
    assert read_image(path).tolist() == [[[*RED]] * 3] * 2


def test_no_format_is_read_that_starts_another_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    monkeypatch.setattr("subprocess.Popen", lambda *args, **_: started.append(args))
    monkeypatch.setattr("subprocess.check_call", lambda *args, **_: started.append(args))
    path = tmp_path / "picture.png"
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\nshowpage\n%%EOF\n"
    )
    for read in (read_image, read_header):
        with pytest.raises(ValueError, match="not a picture of a known format"):
            read(path)
    assert not started
