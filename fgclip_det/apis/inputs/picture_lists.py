"""Lists of pictures from what users give: files, folders, arrays and Pillow images."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from fgclip_det.apis.argument_checks import check_path
from fgclip_det.io import check_padded_size, read_image, to_rgb

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
Picture = str | os.PathLike | np.ndarray | Image.Image
# A picture longer than this many times its other side would shrink to nothing: it is padded.
_MAX_ASPECT = 16


def find_images(paths: str | os.PathLike | Iterable[str | os.PathLike]) -> list[Path]:
    """Files among `paths`, and the pictures in and below folders among them, sorted by name.

    Raises:
        ValueError: A path does not exist, a folder holds no picture, or there is no path.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    elif not isinstance(paths, Iterable):
        check_path(paths, "a picture")
    found = [Path(path) for given in paths for path, _ in _found(given)]
    if not found:
        raise ValueError("no pictures were given: name files or folders")
    return found


def named_images(
    paths: Iterable[str | os.PathLike], without: Iterable[str | os.PathLike] = ()
) -> dict[str, str]:
    """`find_images`, each once, with a name for what is made of it.

    That is the file's name without its ending; below a given folder also the way to it: ``a/x`` of
    ``photos/a/x.jpg`` where ``photos`` was given. Names may repeat.

    Args:
        paths: Files and folders.
        without: Folders that are not looked into, whether they exist or not.

    Raises:
        ValueError: See `find_images`.
    """
    hidden = {os.path.realpath(folder) for folder in without}
    names: dict[str, str] = {}
    for given in paths:
        check_path(given, "a picture")
        # A picture that is named in two ways, by itself and with its folder, is one.
        for path, name in _found(Path(given), hidden):
            names.setdefault(path, name)
    return names


def _found(given: str | os.PathLike, hidden: Iterable[str] = ()) -> Iterator[tuple[str, str]]:
    """Paths and names of a file, or of the pictures in a folder and below."""
    check_path(given, "a picture")
    path = os.fspath(given)
    try:
        is_folder = stat.S_ISDIR(os.stat(path).st_mode)
        pictures = _in_folder(path, hidden) if is_folder else [(path, _stem(path))]
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"no picture at {os.fspath(given)!r}: check the path") from None
    except OSError as error:
        where = repr(error.filename or path)
        raise ValueError(
            f"{where} cannot be looked into ({error.strerror}): check the path"
        ) from None
    if not pictures:
        raise ValueError(f"folder {path!r} holds no picture: looked for {', '.join(EXTENSIONS)}")
    yield from pictures


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _in_folder(folder: str, hidden: Iterable[str]) -> list[tuple[str, str]]:
    """Links to folders, and folders whose name begins with a period, are not looked into.

    Nor are, with a warning, folders of drawings that a command wrote.
    """
    found = []
    pending = [(folder, "")]
    while pending:
        here, way = pending.pop()
        with os.scandir(here) as inside:
            entries = sorted(inside, key=lambda entry: entry.name)
        folders = []
        for entry in entries:
            stem, ending = os.path.splitext(entry.name)
            if entry.is_dir(follow_symlinks=False):
                if stem[0] == "." or (hidden and os.path.realpath(entry.path) in hidden):
                    continue
                if _holds_drawings(entry):
                    warnings.warn(
                        f"{entry.path!r} holds what was drawn into pictures, and is passed over: "
                        "name it to look into it",
                        stacklevel=2,
                    )
                    continue
                folders.append((entry.path, f"{way}{entry.name}/"))
            elif ending.lower() in EXTENSIONS and not _is_linked_folder(entry):
                # Links to nothing and pipes among them: whoever reads them says so.
                found.append((entry.path, way + stem))
        pending += reversed(folders)
    return found


def _holds_drawings(folder: os.DirEntry) -> bool:
    """Whether a command wrote it: what it drew has its numbers beside it."""
    if folder.name == "vis":
        return (Path(folder.path).parent / "preds").is_dir()
    return folder.name == "heatmaps" and any(Path(folder.path).rglob("*.npz"))


def _is_linked_folder(entry: os.DirEntry) -> bool:
    return entry.is_symlink() and os.path.isdir(entry.path)


def list_pictures(images: Picture | Iterable[Picture]) -> list[Picture]:
    """A picture or several, folders among them replaced by what they hold.

    Raises:
        ValueError: There is none, or it is of another kind.
    """
    if isinstance(images, str | os.PathLike | np.ndarray | Image.Image):
        images = [images]
    elif isinstance(images, bytes | bytearray | Mapping) or not isinstance(images, Iterable):
        raise ValueError(
            f"images cannot be a {type(images).__name__}: give a file, a folder, an (H, W, 3) "
            "uint8 RGB array, a Pillow image or several of them"
        )
    pictures: list[Picture] = []
    for image in images:
        is_path = isinstance(image, str | os.PathLike)
        pictures += (path for path, _ in _found(image)) if is_path else [image]
    if not pictures:
        raise ValueError("no pictures were given: name files or folders, or pass arrays")
    return pictures


def to_pixels(picture: Picture) -> np.ndarray:
    """A picture of any kind as (H, W, 3) uint8, RGB; files and Pillow images as they are shown.

    Raises:
        ValueError: It cannot be read, or is an array of another shape or type.
    """
    if isinstance(picture, str | os.PathLike):
        return read_image(picture)
    if isinstance(picture, Image.Image):
        return as_shown(picture)
    good = isinstance(picture, np.ndarray) and picture.ndim == 3 and picture.shape[2] == 3
    if not good or picture.dtype != np.uint8 or 0 in picture.shape:
        shape, dtype = getattr(picture, "shape", None), getattr(picture, "dtype", None)
        raise ValueError(
            f"a picture must be an (H, W, 3) uint8 RGB array, a file or a Pillow image, not "
            f"{type(picture).__name__} of shape {shape} and dtype {dtype}"
        )
    return picture


def as_shown(picture: Image.Image) -> np.ndarray:
    """A Pillow image as (H, W, 3) uint8, RGB, turned by the EXIF entry that it may still have.

    Raises:
        ValueError: Its file, which Pillow reads late, is broken.
    """
    try:
        return to_rgb(ImageOps.exif_transpose(picture))
    except Exception as error:  # broken bytes raise whatever a format's reader runs into
        raise ValueError(f"a Pillow image cannot be read ({error}): open it again") from None


def limit_aspect(rgb: np.ndarray, where: str) -> np.ndarray:
    """Pad a very long or very tall picture at its bottom or right; boxes stay where they are.

    Raises:
        ValueError: It would grow beyond what is padded; `where` names it.
    """
    height, width = rgb.shape[:2]
    rows = max(height, -(-width // _MAX_ASPECT))
    columns = max(width, -(-height // _MAX_ASPECT))
    if (rows, columns) == (height, width):
        return rgb
    check_padded_size(columns, rows, where)
    return np.pad(rgb, ((0, rows - height), (0, columns - width), (0, 0)), mode="edge")
