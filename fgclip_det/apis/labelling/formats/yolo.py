"""Ultralytics' folders: ``yolo/data.yaml``, ``images/`` and ``labels/``, boxes as shown."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import yaml

from fgclip_det.apis.labelling.formats.splits import LabelSplits
from fgclip_det.apis.labelling.labels import LabelledPicture
from fgclip_det.io import read_bytes, replaced_folder, write_bytes, write_text


def write(folder: Path, splits: LabelSplits) -> None:
    """Write the folder; one that is there is replaced, whole or not at all.

    Pictures are links to the files that were labelled, copies where the disk knows no links.
    Boxes are those of the picture as shown: Ultralytics turns it by its EXIF entry. A picture in
    which nothing was found has an empty file, which tells that nothing is there.

    Raises:
        OSError: Writing failed.
    """
    with replaced_folder(folder) as partial:
        for split, pictures in splits.pictures.items():
            for kind in ("images", "labels"):
                (partial / kind / split).mkdir(parents=True, exist_ok=True)
            names = file_names(one.file for one in pictures)
            for picture in pictures:
                name = names[picture.file]
                target = (splits.folder / picture.file).resolve()
                _link(partial / "images" / split / name, folder / "images" / split / name, target)
                text = "".join(f"{line}\n" for line in lines(picture))
                path = partial / "labels" / split / PurePosixPath(name).with_suffix(".txt")
                path.parent.mkdir(parents=True, exist_ok=True)
                write_text(path, text)
        told = {
            "path": os.fspath(folder.resolve()),
            **{split: f"images/{split}" for split in splits.pictures},
            "names": dict(enumerate(splits.names)),
        }
        write_text(partial / "data.yaml", yaml.safe_dump(told, sort_keys=False))


def lines(picture: LabelledPicture) -> Iterable[str]:
    """``class cx cy w h`` of each label, in shares of the picture's sides."""
    width, height = picture.size("shown")
    for label in picture.labels:
        left, top, right, bottom = label.box
        shares = (
            (left + right) / 2 / width,
            (top + bottom) / 2 / height,
            (right - left) / width,
            (bottom - top) / height,
        )
        yield " ".join([str(label.name), *(f"{share:.6f}" for share in shares)])


def file_names(files: Iterable[str]) -> dict[str, str]:
    """Names of pictures, such that no two of them have one label file.

    ``a.jpg`` and ``a.png`` would: each gets 8 hex digits of its name then.
    """
    given = list(files)
    stems = Counter(str(PurePosixPath(name).with_suffix("")) for name in given)
    names = {}
    for name in given:
        path = PurePosixPath(name)
        if stems[str(path.with_suffix(""))] > 1:
            mark = hashlib.sha256(name.encode()).hexdigest()[:8]
            path = path.with_name(f"{path.stem}-{mark}{path.suffix}")
        names[name] = str(path)
    return names


def _link(made: Path, final: Path, target: Path) -> None:
    """A link at `made`, which is right once it is at `final`."""
    made.parent.mkdir(parents=True, exist_ok=True)
    place = final.parent.resolve()
    try:
        made.symlink_to(os.path.relpath(target, place))
    except (OSError, NotImplementedError, ValueError):  # Windows asks for rights; other drives
        write_bytes(made, read_bytes(target, "picture"))
