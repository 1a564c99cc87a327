"""Pictures that are broken, odd, endless or gone, each with a good neighbour."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.hostile.case import DONE, PARTLY, REFUSED, Case, case, write_file
from tests.hostile.shared_data import Data

Write = Callable[[Path, Data], None]
GOOD, BAD, EITHER = {DONE}, {PARTLY}, {DONE, PARTLY}
# Named by itself, it may be refused before anything is done.
NAMED = {PARTLY, REFUSED}


def _picture(mode: str = "RGB", size: tuple[int, int] = (40, 24)):
    from PIL import Image

    image = Image.linear_gradient("L").resize(size)
    return image.convert("RGB").convert(mode) if mode != "I;16" else image.convert("I;16")


def _encoded(kind: str = "PNG", mode: str = "RGB", size=(40, 24), **options) -> bytes:
    stream = io.BytesIO()
    _picture(mode, size).save(stream, kind, **options)
    return stream.getvalue()


def _bytes(make: Callable[[], bytes]) -> Write:
    return lambda path, data: path.write_bytes(make())


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def _png(
    width: int, height: int, *chunks: bytes, depth: int = 8, color: int = 2, data=b""
) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    content = b"".join((head, *chunks, _chunk(b"IDAT", data), _chunk(b"IEND", b"")))
    return b"\x89PNG\r\n\x1a\n" + content


def _with_chunk(kind: bytes, content: bytes) -> bytes:
    good = _encoded()
    return good[:33] + _chunk(kind, content) + good[33:]


def _zeros(count: int) -> bytes:
    """`count` zeros, deflated without ever being in memory."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(1 << 20)) for _ in range(count >> 20)]
    return b"".join((*parts, packer.compress(bytes(count & 0xFFFFF)), packer.flush()))


def _animated(kind: str) -> bytes:
    return _encoded(kind, save_all=True, append_images=[_picture(size=(40, 24)) for _ in range(3)])


def _exif(orientation: int, size=(40, 24)) -> bytes:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = orientation
    return _encoded("JPEG", size=size, exif=exif)


def _jpeg_sides(width: int, height: int) -> bytes:
    good = _encoded("JPEG")
    at = good.index(b"\xff\xc0") + 5
    return good[:at] + struct.pack(">HH", height, width) + good[at + 4 :]


def _tiff_in_circles() -> bytes:
    """A directory that follows itself."""
    return b"II*\0" + struct.pack("<IHHHIII", 8, 1, 256, 3, 1, 1, 8)


def _link(target: str) -> Write:
    return lambda path, data: os.symlink(target, path)


# Name of the file, how it is written, and what becomes of a run with a good neighbour.
_EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(canary) (w) file\n"
ROWS: dict[str, tuple[str, Write, set[int]]] = {
    "1 x 1": ("x.png", _bytes(lambda: _encoded(size=(1, 1))), GOOD),
    "1,000,000 x 1": ("x.png", _bytes(lambda: _encoded(size=(1_000_000, 1))), EITHER),
    "1 x 60,000": ("x.png", _bytes(lambda: _encoded(size=(1, 60_000))), EITHER),
    "cut JPEG": ("x.jpg", _bytes(lambda: _encoded("JPEG", size=(400, 400))[:900]), BAD),
    "cut PNG": ("x.png", lambda path, data: path.write_bytes(data.picture.read_bytes()[:900]), BAD),
    "head of a PNG": ("x.png", _bytes(lambda: _encoded()[:33]), BAD),
    "head of a JPEG": ("x.jpg", _bytes(lambda: _encoded("JPEG")[:20]), BAD),
    "zero bytes": ("x.png", _bytes(bytes), BAD),
    "one byte": ("x.jpg", _bytes(lambda: b"\xff"), BAD),
    "16-bit grey": ("x.png", _bytes(lambda: _encoded(mode="I;16")), GOOD),
    "32-bit TIFF": ("x.tif", _bytes(lambda: _encoded("TIFF", "I")), GOOD),
    "float TIFF": ("x.tif", _bytes(lambda: _encoded("TIFF", "F")), GOOD),
    "CMYK": ("x.jpg", _bytes(lambda: _encoded("JPEG", "CMYK")), GOOD),
    "palette": ("x.png", _bytes(lambda: _encoded(mode="P", transparency=0)), GOOD),
    "palette, transparent bytes": (
        "x.png",
        _bytes(lambda: _encoded(mode="P", transparency=bytes(7))),
        GOOD,
    ),
    "one bit": ("x.png", _bytes(lambda: _encoded(mode="1")), GOOD),
    "RGBA": ("x.png", _bytes(lambda: _encoded(mode="RGBA")), GOOD),
    "animated GIF": ("x.gif", _bytes(lambda: _animated("GIF")), GOOD),
    "animated WebP": ("x.webp", _bytes(lambda: _animated("WEBP")), GOOD),
    "animated PNG": ("x.png", _bytes(lambda: _animated("PNG")), GOOD),
    "TIFF of pages": ("x.tiff", _bytes(lambda: _animated("TIFF")), GOOD),
    "TIFF in circles": ("x.tif", _bytes(_tiff_in_circles), BAD),
    "cut TIFF": ("x.tif", _bytes(lambda: _encoded("TIFF")[:-99]), BAD),
    "wrong suffix": ("x.jpg", _bytes(lambda: _encoded()), GOOD),
    "text": ("x.jpg", _bytes(lambda: b"<html>Not found</html>" * 99), BAD),
    "SVG": ("x.png", _bytes(lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>'), BAD),
    "PostScript": ("x.png", _bytes(lambda: _EPS + b"closefile\nshowpage\n%%EOF\n"), BAD),
    "PPM of 10**15 pixels": ("x.ppm", _bytes(lambda: b"P6 99999999 9999999 255\n"), BAD),
    "PPM of letters": ("x.ppm", _bytes(lambda: b"P3 2 2 255\n" + b"a " * 99), BAD),
    "BMP of a negative width": (
        "x.bmp",
        _bytes(lambda: _encoded("BMP")[:18] + struct.pack("<i", -9) + _encoded("BMP")[22:]),
        EITHER,
    ),
    "PNG of no width": ("x.png", _bytes(lambda: _png(0, 9)), BAD),
    "PNG of 2**31 columns": ("x.png", _bytes(lambda: _png(2**31 - 1, 1)), BAD),
    "PNG of 50,000 x 50,000": ("x.png", _bytes(lambda: _png(50_000, 50_000)), BAD),
    "PNG bomb": (
        "x.png",
        _bytes(lambda: _png(30_000, 30_000, depth=1, color=0, data=_zeros(30_000 * 3751))),
        BAD,
    ),
    "PNG below the limit": (
        "x.png",
        _bytes(lambda: _png(8_000, 8_000, depth=1, color=0, data=_zeros(8_000 * 1001))),
        EITHER,
    ),
    "PNG without palette": ("x.png", _bytes(lambda: _png(9, 9, color=3, data=_zeros(90))), EITHER),
    "PNG, iCCP of 120 MB": (
        "x.png",
        _bytes(lambda: _with_chunk(b"iCCP", b"a\0\0" + _zeros(120_000_000))),
        EITHER,
    ),
    "PNG, zTXt of 120 MB": (
        "x.png",
        _bytes(lambda: _with_chunk(b"zTXt", b"a\0\0" + _zeros(120_000_000))),
        EITHER,
    ),
    "PNG, wrong checksum": (
        "x.png", _bytes(lambda: _encoded()[:40] + b"\0" + _encoded()[41:]), BAD),
    "PNG, broken EXIF": (
        "x.png", _bytes(lambda: _with_chunk(b"eXIf", b"II*\0\xff\xff\xff\xff")), EITHER),
    "PNG, endless EXIF": (
        "x.png", _bytes(lambda: _with_chunk(b"eXIf", _tiff_in_circles())), EITHER),
    "PNG, odd gamma": ("x.png", _bytes(lambda: _with_chunk(b"gAMA", b"\0\0\0\0")), EITHER),
    "PNG, short tRNS": ("x.png", _bytes(lambda: _with_chunk(b"tRNS", b"\0")), EITHER),
    "JPEG of 65,500 x 65,500": ("x.jpg", _bytes(lambda: _jpeg_sides(65_500, 65_500)), BAD),
    "JPEG of no height": ("x.jpg", _bytes(lambda: _jpeg_sides(9, 0)), BAD),
    "EXIF 0": ("x.jpg", _bytes(lambda: _exif(0)), GOOD),
    "EXIF 9": ("x.jpg", _bytes(lambda: _exif(9)), GOOD),
    "a pipe": ("x.jpg", lambda path, data: os.mkfifo(path), BAD | NAMED),
    "link to /dev/zero": ("x.png", _link("/dev/zero"), BAD | NAMED),
    "link to /dev/stdin": ("x.png", _link("/proc/self/fd/0"), BAD | NAMED),
    "link to memory": ("x.png", _link("/proc/self/mem"), BAD | NAMED),
    "folder named as a picture": ("x.jpg", lambda path, data: path.mkdir(), NAMED),
    "link to nothing": ("x.png", _link("nothing"), NAMED),
    "link to itself": ("x.png", _link("x.png"), NAMED),
    "link to its folder": ("x.png", _link("."), NAMED | GOOD),
    "nothing": ("x.png", lambda path, data: None, NAMED),
    "a name of 255 letters": (f"{'n' * 251}.png", _bytes(lambda: _encoded()), EITHER),
    "a name that is too long": (f"{'n' * 400}.png", lambda path, data: None, NAMED),
    "a name that is not UTF-8": (os.fsdecode(b"\xff\xfe.png"), _bytes(lambda: _encoded()), EITHER),
    "bad, not UTF-8": (os.fsdecode(b"\xff\xfe.png"), _bytes(bytes), BAD),
    "a name with colours": ("\x1b[31mred\x07.png", _bytes(lambda: _encoded()), GOOD),
    "bad, with colours": ("\x1b[31mred\x07.png", _bytes(bytes), BAD),
    "a name of lines": ("a\nerror: b\r.png", _bytes(lambda: _encoded()), GOOD),
    "bad, of lines": ("a\nerror: b\r.png", _bytes(bytes), BAD),
    "a name with NEL": ("a\x85b\x9b31m.png", _bytes(lambda: _encoded()), GOOD),
    "a name like an option": ("--help.png", _bytes(lambda: _encoded()), GOOD),
    "a name of dots": ("...png", _bytes(lambda: _encoded()), EITHER),
    "the neighbour's name": ("GOOD.png", _bytes(lambda: _encoded()), GOOD),
    "the name of the parts": ("good.png.png", _bytes(lambda: _encoded()), GOOD),
}  # fmt: skip

# What a command writes of a picture: its path in `out` without the suffix, and its suffix.
_WRITTEN = {"demo": ("preds", ".json"), "heatmap": ("heatmaps", ".npz")}


def _neighbour_is_done(command: str) -> Callable[[Path, int], str | None]:
    place, suffix = _WRITTEN[command]

    def check(folder: Path, code: int) -> str | None:
        made = sorted(path.name for path in (folder / "out" / place).glob(f"*{suffix}"))
        if code in (DONE, PARTLY) and not any("good" in name for name in made):
            return f"the neighbour was not done: {made}"
        is_another = not (folder / "in" / "x.png").is_dir()
        if code == DONE and len(made) < 2 and command == "demo" and is_another:
            return f"exit code 0, but only {made} was written"
        return None

    return check


def _command(command: str, data: Data) -> list[object]:
    return [
        command,
        *(["--encoder", data.encoder(1), "--texts", "a"] if command == "heatmap" else []),
    ]


def _beside(command: str, name: str, write: Write) -> Callable[[Path, Data], list[object]]:
    def make(folder: Path, data: Data) -> list[object]:
        good = write_file(folder / "in" / "good.png", data.picture.read_bytes())
        write(folder / "in" / name, data)
        return [*_command(command, data), "--out-dir", "out", folder / "in" / name, good]

    return make


def _in_folder(command: str, name: str, write: Write) -> Callable[[Path, Data], list[object]]:
    def make(folder: Path, data: Data) -> list[object]:
        write_file(folder / "in" / "good.png", data.picture.read_bytes())
        write(folder / "in" / name, data)
        return [*_command(command, data), "--out-dir", "out", "in"]

    return make


def _turned(orientation: int) -> Case:
    def make(folder: Path, data: Data) -> list[object]:
        return ["demo", "--out-dir", "out", write_file(folder / "x.jpg", _exif(orientation))]

    def check(folder: Path, code: int) -> str | None:
        values = json.loads((folder / "out" / "preds" / "x.json").read_text())
        size = [values["width"], values["height"]]
        expected = [40, 24] if orientation < 5 else [24, 40]
        return None if size == expected else f"the picture is {size} px, not {expected}"

    return case(f"picture/EXIF {orientation}/demo", "fgclip-det", make, DONE, check=check)


def _gone(command: str, index: int, change: Callable[[Path], None], how: str) -> Case:
    """A picture that changes once the first result takes its name."""

    def make(folder: Path, data: Data) -> list[object]:
        for name in ("a", "b", "good"):
            write_file(folder / "in" / f"{name}.png", data.picture.read_bytes())
        return [*_command(command, data), "--out-dir", "out", "in"]

    def inside(folder: Path) -> None:
        replace, left = os.replace, [1]

        def replaced(*arguments, **keywords) -> None:
            replace(*arguments, **keywords)
            if left:
                left.clear()
                change(folder / "in" / f"{'ab'[index]}.png")

        os.replace = replaced

    return case(
        f"picture/{how} in the middle, number {index}/{command}",
        "fgclip-det", make, EITHER, inside=inside, places=("out", "in"),
        check=_neighbour_is_done(command),
    )  # fmt: skip


def _bad(count: int) -> Callable[[Path, Data], list[object]]:
    def make(folder: Path, data: Data) -> list[object]:
        (folder / "in").mkdir()
        bad = [write_file(folder / "in" / f"{number}.png", b"a") for number in range(count)]
        return ["demo", "--out-dir", "out", *(bad or ["in"])]

    return make


def cases() -> Iterator[Case]:
    """Each row with ``demo`` and ``heatmap``, named and in a folder."""
    for name, (file, write, codes) in ROWS.items():
        for command in ("demo", "heatmap"):
            make, check = _beside(command, file, write), _neighbour_is_done(command)
            if len(file) > 255:
                make = _beside(command, file, lambda path, data: None)
            yield case(f"picture/{name}/{command}", "fgclip-det", make, codes, check=check)
        if len(file) < 256 and codes is not GOOD:
            make = _in_folder("demo", file, write)
            # In a folder, what is no file is no picture of it.
            allowed = codes | EITHER if REFUSED in codes else codes
            check = _neighbour_is_done("demo") if codes is BAD else None
            id = f"picture/{name}/demo of the folder"
            yield case(id, "fgclip-det", make, allowed - {REFUSED}, check=check)
    yield from map(_turned, range(1, 9))
    for command in ("demo", "heatmap"):
        for index in range(2):
            yield _gone(command, index, os.unlink, "removed")
            yield _gone(command, index, lambda path: path.write_bytes(b""), "emptied")
            yield _gone(command, index, lambda path: path.write_bytes(_encoded()), "shrunk")
    yield case("picture/no good one/demo", "fgclip-det", _bad(1), REFUSED)
    yield case("picture/two bad ones/demo", "fgclip-det", _bad(2), REFUSED, errors=2)
    yield case("picture/empty folder/demo", "fgclip-det", _bad(0), REFUSED)
