"""A check that the pictures that annotations list are on the disk."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fgclip_det.datasets.annotation_files import read_annotations
from fgclip_det.io import listed


def check_images(source: Any, root: str | Path | None = None) -> int:
    """Make sure that every picture of a dataset or of an annotation file is there.

    Each folder is listed once, which takes seconds where a look at each of COCO's 118,287 pictures
    would take minutes on a network disk.

    Args:
        source: A dataset of mmdet's kind, whose records name their ``img_path``; or the path of a
            COCO-style annotation file.
        root: For a file: the folder that its ``file_name`` entries are relative to.

    Returns:
        Number of pictures.

    Raises:
        ValueError: Some are missing; tells how many and names the first five.
    """
    if isinstance(source, str | os.PathLike):
        if root is None:
            raise ValueError(f"check_images needs the root folder of the pictures of {source!r}")
        names = [image["file_name"] for image in read_annotations(source).images]
        return check_image_paths(os.path.join(root, name) for name in names)
    return check_image_paths(source.get_data_info(i)["img_path"] for i in range(len(source)))


def check_image_paths(paths: Iterable[str]) -> int:
    """Make sure that every one of some pictures is there.

    Args:
        paths: Paths of local files.

    Returns:
        Number of pictures.

    Raises:
        ValueError: Some are missing; tells how many and names the first five.
    """
    paths = list(paths)
    remote = next((path for path in paths if "://" in path), None)
    if remote is not None:
        raise ValueError(f"{remote!r} is on no local disk: leave check_images off")
    missing = missing_image_paths(paths)
    if missing:
        first = listed(list(map(repr, missing)), "missing pictures")
        raise ValueError(
            f"{len(missing)} of {len(paths)} images are missing, the first: {first}: check the "
            "folder of the images, and that all of its archive was unpacked"
        )
    return len(paths)


def missing_image_paths(paths: Iterable[str]) -> list[str]:
    """Those of some paths of local files where there is no file, in their order."""
    paths = list(paths)
    present: dict[str, set[str]] = defaultdict(set)
    for folder in {os.path.dirname(path) for path in paths}:
        if os.path.isdir(folder or "."):
            present[folder] = set(os.listdir(folder or "."))
    return [p for p in paths if os.path.basename(p) not in present[os.path.dirname(p)]]
