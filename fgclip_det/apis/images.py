"""Pictures from disk, of any kind that Pillow reads, as 8-bit RGB."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_BITS_16_TO_8 = 257
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
    """A picture of any kind as (H, W, 3) uint8, RGB.

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


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read a picture as it is shown: EXIF rotation applied, transparency put on white.

    Args:
        path: A file that Pillow reads; grey, palette, CMYK and 16-bit pictures are converted.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ValueError: Missing, empty, truncated, too large or no picture.
    """
    path = Path(path)
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"picture {str(path)!r} is empty: copy it again")
    try:
        with Image.open(path) as image:
            return to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise ValueError(f"no picture at {str(path)!r}: check the path") from None
    except UnidentifiedImageError:
        raise ValueError(
            f"{str(path)!r} is not a picture of a known format: give a PNG or JPEG file"
        ) from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"picture {str(path)!r} is too large ({error}): make it smaller") from None
    except Exception as error:  # broken bytes raise whatever a format's reader runs into
        raise ValueError(
            f"picture {str(path)!r} cannot be read ({error}): truncated, copy it again"
        ) from None


def to_rgb(image: Image.Image) -> np.ndarray:
    """A Pillow picture of any mode as (H, W, 3) uint8, RGB."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if image.mode != "I" or values.max(initial=0) > 255:
            values = values // _BITS_16_TO_8
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    elif image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


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
