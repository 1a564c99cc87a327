"""Pictures from what users give: files, folders, patterns, addresses, arrays, images, tensors.

A file of several frames, such as a GIF, is one picture, its first, wherever it is among others:
`animation_frames` gives all of them. Videos are for whoever reads videos, and refused here.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, ImageSequence
from torch import Tensor

from fgclip_det.apis.argument_checks import check_path
from fgclip_det.apis.inputs.addresses import name_of_address, read_address, shown
from fgclip_det.apis.inputs.kinds import EXTENSIONS, is_folder, is_url, is_video
from fgclip_det.apis.inputs.patterns import is_pattern, matches
from fgclip_det.apis.inputs.piped import STANDARD_INPUT, PipedPicture, read_standard_input
from fgclip_det.io import check_padded_size, read_image, to_rgb
from fgclip_det.io.images import opened_picture


@dataclass(frozen=True)
class NamedPicture:
    """Pixels with the name that answers are to have as their ``image_path``.

    Attributes:
        name: Any text.
        pixels: An array, image or tensor.
    """

    name: str
    pixels: np.ndarray | Image.Image | Tensor


# A file, folder, pattern or address, or "-" for the standard input; (H, W, 3) uint8, RGB; an image
# of Pillow's, turned as it is shown; (3, H, W) RGB, uint8 or floats in [0, 1].
Picture = str | os.PathLike | np.ndarray | Image.Image | Tensor | NamedPicture
# A picture longer than this many times its other side would shrink to nothing: it is padded.
_MAX_ASPECT = 16


def find_images(
    paths: str | os.PathLike | Iterable[str | os.PathLike], recursive: bool = True
) -> list[Path | str]:
    """What `paths` name, sorted within folders and patterns.

    Args:
        paths: Files, folders, patterns, addresses, or "-" for the standard input.
        recursive: Whether folders are looked into with all below, or by themselves.

    Returns:
        A `Path` for each file; addresses, and a picture of the standard input, as text.

    Raises:
        ValueError: A path does not exist or is of a video, a folder holds no picture, or there is
            no path.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    elif not isinstance(paths, Iterable):
        check_path(paths, "a picture")
    found = [
        path if is_url(path) or isinstance(path, PipedPicture) else Path(path)
        for given in paths
        for path, _ in _found(given, recursive=recursive)
    ]
    if not found:
        raise ValueError("no pictures were given: name files or folders")
    return found


def named_images(
    paths: Iterable[str | os.PathLike],
    without: Iterable[str | os.PathLike] = (),
    recursive: bool = True,
) -> dict[str, str]:
    """`find_images`, each once, with a name for what is made of it.

    That is the file's name without its ending; below a given folder also the way to it: ``a/x`` of
    ``photos/a/x.jpg`` where ``photos`` was given. Of an address it is its last part. Names may
    repeat.

    Args:
        paths: Files, folders, patterns, addresses, or "-" for the standard input.
        without: Folders that are not looked into, whether they exist or not.
        recursive: Whether folders are looked into with all below, or by themselves.

    Raises:
        ValueError: See `find_images`.
    """
    hidden = {os.path.realpath(folder) for folder in without}
    names: dict[str, str] = {}
    for given in paths:
        check_path(given, "a picture")
        # A picture that is named in two ways, by itself and with its folder, is one.
        given = given if isinstance(given, str) and _is_no_path(given) else Path(given)
        for path, name in _found(given, hidden, recursive):
            names.setdefault(path, name)
    return names


def _is_no_path(given: str | os.PathLike) -> bool:
    return isinstance(given, PipedPicture) or given == STANDARD_INPUT or is_url(given)


def _found(
    given: str | os.PathLike, hidden: Iterable[str] = (), recursive: bool = True
) -> Iterator[tuple[str, str]]:
    """Paths and names of a file, or of what a folder, a pattern or the standard input names."""
    check_path(given, "a picture")
    if given == STANDARD_INPUT and not isinstance(given, PipedPicture):
        for one in read_standard_input():
            yield from _found(one, hidden, recursive)
        return
    if isinstance(given, PipedPicture):
        yield given, "stdin"
        return
    if is_video(given):
        raise ValueError(
            f"{_told(given)} is a video, not a picture: fgclip-det detect handles videos"
        )
    if is_url(given):
        yield given, name_of_address(given)
        return
    path = os.fspath(given)
    # A `Path` of "./-" has lost what tells that file from the standard input.
    path = os.path.join(os.curdir, path) if path == STANDARD_INPUT else path
    yield from _on_disk(path, hidden, recursive)


def _told(given: str | os.PathLike) -> str:
    return repr(shown(given) if is_url(given) else os.fspath(given))


def _on_disk(path: str, hidden: Iterable[str], recursive: bool) -> Iterator[tuple[str, str]]:
    try:
        single = [(path, _stem(path))]
        pictures = _in_folder(path, hidden, recursive) if is_folder(path) else single
    except (FileNotFoundError, NotADirectoryError):
        # In this order: a file that has such signs in its own name is that file.
        if is_pattern(path):
            yield from _matching(path, hidden, recursive)
            return
        raise ValueError(f"no picture at {path!r}: check the path") from None
    except OSError as error:
        where = repr(error.filename or path)
        raise ValueError(
            f"{where} cannot be looked into ({error.strerror}): check the path"
        ) from None
    if not pictures:
        below = "" if recursive else "; folders below it were not looked into"
        raise ValueError(
            f"folder {path!r} holds no picture: looked for {', '.join(EXTENSIONS)}{below}"
        )
    yield from pictures


def _matching(pattern: str, hidden: Iterable[str], recursive: bool) -> Iterator[tuple[str, str]]:
    pictures, folders = matches(pattern, hidden)
    for folder in folders:
        inside = _in_folder(folder, hidden, recursive)
        pictures += ((path, f"{os.path.basename(folder)}/{name}") for path, name in inside)
    if not pictures:
        raise ValueError(
            f"no picture matches {pattern!r}: check the path (looked for {', '.join(EXTENSIONS)})"
        )
    yield from pictures


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _in_folder(folder: str, hidden: Iterable[str], recursive: bool) -> list[tuple[str, str]]:
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
                if not recursive:
                    continue
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


def list_pictures(images: Picture | Iterable[Picture], recursive: bool = True) -> list[Picture]:
    """A picture or several, folders among them replaced by what they hold.

    Args:
        images: A tensor (N, 3, H, W) is N of them.
        recursive: Whether folders are looked into with all below, or by themselves.

    Raises:
        ValueError: There is none, or it is of another kind.
    """
    pictures = [one for image in _several(images) for one in _meant(image, recursive)]
    if not pictures:
        raise ValueError("no pictures were given: name files or folders, or pass arrays")
    return pictures


def each_picture(
    images: Picture | Iterable[Picture], recursive: bool = True, as_list: bool = False
) -> list[Picture] | Iterator[Picture]:
    """`list_pictures`, but of an iterator an iterator, which takes one at a time.

    Of that, a path that names no picture is handed on as it is: whoever reads it says so.

    Args:
        images: See `list_pictures`.
        recursive: See `list_pictures`.
        as_list: Whether an iterator is read to its end, too.

    Raises:
        ValueError: See `list_pictures`; there being none in an iterator shows at its end.
    """
    if as_list or not isinstance(images, Iterator):
        return list_pictures(images, recursive)
    return _one_by_one(images, recursive)


def _one_by_one(images: Iterator[Picture], recursive: bool) -> Iterator[Picture]:
    image = None
    for image in images:
        try:
            meant = list(_meant(image, recursive))
        except ValueError:
            if not isinstance(image, str | os.PathLike) or is_video(image):
                raise
            meant = [image]
        yield from meant
    if image is None:
        raise ValueError("no pictures were given: name files or folders, or pass arrays")


def _several(images: Picture | Iterable[Picture]) -> Iterable[Picture]:
    if isinstance(images, str | os.PathLike | np.ndarray | Image.Image | NamedPicture):
        return [images]
    if isinstance(images, Tensor):
        return images if images.ndim == 4 else [images]
    if isinstance(images, bytes | bytearray | Mapping) or not isinstance(images, Iterable):
        raise ValueError(
            f"images cannot be a {type(images).__name__}: give a file, a folder, an (H, W, 3) "
            "uint8 RGB array, a Pillow image, a (3, H, W) tensor or several of them"
        )
    return images


def _meant(image: Picture, recursive: bool) -> Iterator[Picture]:
    if isinstance(image, str | os.PathLike):
        return (path for path, _ in _found(image, recursive=recursive))
    return iter([image])


def animation_frames(path: str | os.PathLike) -> Iterator[NamedPicture]:
    """Frames of a GIF, WebP or TIFF file, as they are shown; one of them is in memory at a time.

    Args:
        path: A file; one of a single picture has one frame.

    Yields:
        Each frame under the name ``x.gif#0001`` and so on, counted from 1.

    Raises:
        ValueError: It cannot be read, or breaks off.
    """
    with opened_picture(path) as (image, _):
        for number, frame in enumerate(ImageSequence.Iterator(image), start=1):
            yield NamedPicture(f"{os.fspath(path)}#{number:04}", as_shown(frame))


def name_of(picture: Picture) -> str | None:
    """What answers call a picture: its path, address or name; None of mere pixels."""
    if isinstance(picture, NamedPicture):
        return picture.name
    if is_url(picture):
        return shown(picture)
    return str(picture) if isinstance(picture, str | os.PathLike) else None


def to_pixels(picture: Picture) -> np.ndarray:
    """A picture of any kind as (H, W, 3) uint8, RGB; files and Pillow images as they are shown.

    Raises:
        ValueError: It cannot be read, or is an array of another shape or type.
    """
    if isinstance(picture, NamedPicture):
        picture = picture.pixels
    if isinstance(picture, PipedPicture):
        return picture.pixels()
    if is_url(picture):
        return read_address(picture)
    if isinstance(picture, str | os.PathLike):
        return read_image(picture)
    if isinstance(picture, Image.Image):
        return as_shown(picture)
    if isinstance(picture, Tensor):
        return _from_tensor(picture)
    good = isinstance(picture, np.ndarray) and picture.ndim == 3 and picture.shape[2] == 3
    if not good or picture.dtype != np.uint8 or 0 in picture.shape:
        shape, dtype = getattr(picture, "shape", None), getattr(picture, "dtype", None)
        raise ValueError(
            "a picture must be an (H, W, 3) uint8 RGB array, a file, a Pillow image or a tensor, "
            f"not {type(picture).__name__} of shape {shape} and dtype {dtype}"
        )
    return picture


def _from_tensor(tensor: Tensor) -> np.ndarray:
    """Raises `ValueError` for others than (3, H, W), uint8 or floats in [0, 1]."""
    tensor = tensor.detach()
    told = f"of shape {tuple(tensor.shape)} and dtype {tensor.dtype}"
    if tensor.ndim != 3 or len(tensor) != 3 or not tensor.numel():
        mend = "permute(2, 0, 1) it" if tensor.ndim == 3 and tensor.shape[2] == 3 else "reshape it"
        raise ValueError(f"a tensor of a picture must be (3, H, W), RGB, not {told}: {mend}")
    if tensor.is_floating_point():
        # NaN is in no range.
        if not ((tensor >= 0) & (tensor <= 1)).all():
            raise ValueError(
                f"a tensor of a picture {told} must be in [0, 1], RGB, but has values from "
                f"{tensor.min():.4g} to {tensor.max():.4g}: divide by 255, or undo the "
                "normalisation"
            )
        tensor = (tensor.float() * 255).round().to(torch.uint8)
    if tensor.dtype != torch.uint8:
        raise ValueError(
            f"a tensor of a picture must be uint8, or of floats in [0, 1], not {told}: convert it"
        )
    return np.ascontiguousarray(tensor.cpu().numpy().transpose(1, 2, 0))


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
