"""ImageNet-1K's validation pictures and ImageNet-V2, by folders."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from fgclip_det.evaluation.encoder.data_sets.records import Classification
from fgclip_det.evaluation.encoder.data_sets.stock_files import stock_path
from fgclip_det.io import listed, read_text

_V2 = "imagenetv2-matched-frequency-format-val"
# Those of torchvision's ImageFolder.
_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def imagenet_names() -> list[str]:
    """OpenAI's 1,000 names; line k is class k."""
    return _lines("imagenet_classnames.txt")


def imagenet_templates() -> list[str]:
    """OpenAI's 80 sentences for ImageNet; ``{}`` is the name."""
    return _lines("imagenet_templates.txt")


def read_imagenet(
    root: Path, images: Path | None = None, num_classes: int = 1000
) -> Classification:
    """Class k is the k-th folder name in order.

    Args:
        root: Holds ``val/<wnid>/*.JPEG``.
        images: The folder of the ``<wnid>`` folders, if another.
        num_classes: Folders of a small copy, which has the first so many classes.

    Raises:
        ValueError: There are other than `num_classes` folders, or one without a picture.
    """
    names = _some_names(num_classes)
    folder = images or stock_path(root, "val", "IN1K_val/val")
    classes = _folders(folder)
    if len(classes) != num_classes:
        raise ValueError(
            f"{str(folder)!r} has {len(classes)} class folders, not {num_classes}: get the missing "
            "ones, or give --num-classes for a small copy of the first classes"
        )
    pictures, labels = _pictures(folder, dict(zip(classes, range(num_classes), strict=True)))
    return Classification(pictures, labels, names, imagenet_names() if num_classes < 1000 else None)


def read_imagenet_v2(
    root: Path, images: Path | None = None, num_classes: int = 1000
) -> Classification:
    """The class is the number that a folder is named by, not its place in order.

    Args:
        root: Holds ``imagenetv2-matched-frequency-format-val/<number>/*.jpeg``.
        images: The folder of the numbers, if another.
        num_classes: Classes of a small copy, which has the first so many.

    Raises:
        ValueError: A folder is named by no number below `num_classes`, or some are missing.
    """
    names = _some_names(num_classes)
    folder = images or stock_path(root, _V2)
    # "01" is no other name of "1": their pictures would count as one class.
    known = {str(number): number for number in range(num_classes)}
    there = _folders(folder)
    wrong = [name for name in there if name not in known]
    if wrong:
        raise ValueError(
            f"{str(folder)!r} has folders that are no class from 0 to {num_classes - 1} "
            f"({listed(wrong, 'folders')}): take {_V2}, or give another --num-classes"
        )
    missing = sorted(known[name] for name in known.keys() - {*there})
    if missing:
        raise ValueError(
            f"{str(folder)!r} lacks the folders of classes {listed(missing, 'missing classes')}: "
            "get them, or give --num-classes for a small copy of the first classes"
        )
    pictures, labels = _pictures(folder, {name: known[name] for name in there})
    return Classification(pictures, labels, names)


def _some_names(num_classes: int) -> list[str]:
    if not 1 <= num_classes <= 1000:
        raise ValueError(f"num_classes is {num_classes}: it must be 1 to 1000")
    return imagenet_names()[:num_classes]


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise ValueError(f"{str(folder)!r} is no folder: give the one of the class folders")
    return sorted(one.name for one in folder.iterdir() if one.is_dir())


def _pictures(folder: Path, classes: dict[str, int]) -> tuple[list[Path], list[int]]:
    """Pictures by folder, then by name, as ImageFolder orders them, and their classes."""
    pictures: list[Path] = []
    labels: list[int] = []
    for name, label in classes.items():
        own = sorted(
            Path(base) / file
            for base, _, files in os.walk(folder / name, followlinks=True)
            for file in files
            if file.lower().endswith(_SUFFIXES)
        )
        if not own:
            raise ValueError(f"{str(folder / name)!r} holds no picture: get it again")
        pictures += own
        labels += [label] * len(own)
    return pictures, labels


def _lines(name: str) -> list[str]:
    with resources.as_file(resources.files("fgclip_det.vocabulary") / "data" / name) as path:
        lines = read_text(path).splitlines()
    return [line for line in lines if line and not line.startswith("#")]
