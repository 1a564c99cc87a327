"""Lists of pictures from what users give: files, folders, arrays and Pillow images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fgclip_det.io import read_image, to_rgb

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
Picture = str | os.PathLike | np.ndarray | Image.Image


def find_images(paths: str | os.PathLike | Iterable[str | os.PathLike]) -> list[Path]:
    """Files among `paths`, and the pictures in folders among them, sorted by name.

    Raises:
        ValueError: A path does not exist, a folder holds no picture, or there is no path.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    found: list[Path] = []
    for path in map(Path, paths):
        try:
            if path.is_dir():
                found += _in_folder(path)
            elif path.exists():
                found.append(path)
            else:
                raise ValueError(f"no picture at {str(path)!r}: check the path")
        except OSError as error:
            raise ValueError(
                f"{str(path)!r} cannot be looked into ({error.strerror}): check the path"
            ) from None
    if not found:
        raise ValueError("no pictures were given: name files or folders")
    return found


def _in_folder(folder: Path) -> list[Path]:
    inside = sorted(p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS and p.is_file())
    if not inside:
        raise ValueError(
            f"folder {str(folder)!r} holds no picture: looked for {', '.join(EXTENSIONS)}"
        )
    return inside


def list_pictures(images: Picture | Iterable[Picture]) -> list[Picture]:
    """A picture or several, folders among them replaced by what they hold.

    Raises:
        ValueError: There is none.
    """
    if isinstance(images, np.ndarray | Image.Image):
        return [images]
    if isinstance(images, str | os.PathLike):
        return list(find_images(images))
    pictures: list[Picture] = []
    for image in images:
        is_path = isinstance(image, str | os.PathLike)
        pictures += find_images(image) if is_path else [image]
    if not pictures:
        raise ValueError("no pictures were given: name files or folders, or pass arrays")
    return pictures


def to_pixels(picture: Picture) -> np.ndarray:
    """A picture of any kind as (H, W, 3) uint8, RGB; a file as it is shown, see `read_image`.

    Raises:
        ValueError: It cannot be read, or is an array of another shape or type.
    """
    if isinstance(picture, str | os.PathLike):
        return read_image(picture)
    if isinstance(picture, Image.Image):
        return to_rgb(picture)
    good = isinstance(picture, np.ndarray) and picture.ndim == 3 and picture.shape[2] == 3
    if not good or picture.dtype != np.uint8 or 0 in picture.shape:
        shape, dtype = getattr(picture, "shape", None), getattr(picture, "dtype", None)
        raise ValueError(
            f"a picture must be an (H, W, 3) uint8 RGB array, a file or a Pillow image, not "
            f"{type(picture).__name__} of shape {shape} and dtype {dtype}"
        )
    return picture


def unique_stems(paths: Sequence[Path]) -> list[str]:
    """A file stem for each path, distinct even where pictures of two folders share a name."""
    taken: set[str] = set()
    stems = []
    for path in paths:
        candidates = [path.stem, f"{path.parent.name}_{path.stem}"]
        candidates += [f"{path.stem}_{number}" for number in range(2, len(paths) + 2)]
        stem = next(c for c in candidates if c.lower() not in taken)
        taken.add(stem.lower())
        stems.append(stem)
    return stems
