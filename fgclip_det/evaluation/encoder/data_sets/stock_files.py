"""Stock files and folders below the folder of a data set, with lines on what is wrong with them."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fgclip_det.io import is_id, listed, quoted, read_json

# Pictures that are looked for in each place before the next one is tried.
_TRIED = 1000
_WORDS: dict[type, str] = {str: "a text", int: "a whole number", list: "a list", dict: "an object"}


def stock_path(root: Path, *names: str) -> Path:
    """The first of some files or folders that is there.

    Raises:
        ValueError: None is there.
    """
    found = next((root / name for name in names if (root / name).exists()), None)
    if found is None:
        raise ValueError(
            f"{str(root)!r} holds no {names[0]}: give the folder that holds this protocol's stock "
            "files under their stock names"
        )
    return found


def picture_paths(images: Path | None, names: Sequence[str], *places: Path) -> list[Path]:
    """Files of pictures, in the first place that has one of them.

    Args:
        images: Where the user says that they are, whatever is in `places`.
        names: Of the files; may have folders, which a place may have or lack, or be absolute.
        places: Folders that they usually lie in.
    """
    layouts: list[Callable[[str], Path]] = []
    for place in places if images is None else (images,):
        layouts.append(lambda name, place=place: place / _inside(name))
        layouts.append(lambda name, place=place: place / Path(name).name)
    for layout in layouts:
        if any(os.path.isfile(layout(name)) for name in islice(names, _TRIED)):
            return [layout(name) for name in names]
    return [layouts[0](name) for name in names]


def _inside(name: str) -> str:
    """A name that leads nowhere but into the folder that it is put to."""
    path = Path(name)
    return path.name if path.is_absolute() or ".." in path.parts else name


def read_entries(path: Path, key: str | None, fields: Mapping[str, type], of: str) -> list[dict]:
    """A list of objects of a JSON file, each with fields of the given types.

    Args:
        path: The file.
        key: Of the list; None where the file is the list.
        fields: Type of each field; an int is an id.
        of: What the file is, for messages, such as "COCO's captions_val2017.json".

    Raises:
        ValueError: It cannot be read, is another file, or an entry lacks something.
    """
    return entries_of(read_json(path, max_bytes=None), path, key, fields, of)


def entries_of(
    values: Any, path: Path, key: str | None, fields: Mapping[str, type], of: str
) -> list[dict]:
    """`read_entries` of a file that was read already."""
    where = f"{str(path)!r}"
    if key is not None:
        if not isinstance(values, dict) or key not in values:
            raise ValueError(f"{where} has no {key!r}: it is another file than {of}")
        values, where = values[key], f"{key!r} of {where}"
    if not isinstance(values, list):
        raise ValueError(f"{where} is no list: it is another file than {of}")
    if not values:
        raise ValueError(f"{where} is empty: get {of} again")
    for number, entry in enumerate(values):
        for name, kind in fields.items():
            value = entry.get(name) if isinstance(entry, dict) else None
            if not (is_id(value) if kind is int else isinstance(value, kind)):
                raise ValueError(
                    f"{where}: number {number} has no {name!r} that is {_WORDS[kind]} "
                    f"({quoted(value)}): it is another file than {of}, or broken: get it again"
                )
    return values


def by_id(entries: Sequence[dict], path: Path, what: str) -> dict[int, dict]:
    """Entries by their ``id``.

    Raises:
        ValueError: Two have the same.
    """
    check_once([entry["id"] for entry in entries], path, f"{what} id")
    return {entry["id"]: entry for entry in entries}


def check_once(values: Sequence[Any], path: Path, what: str) -> None:
    """Refuse what stands twice in a file.

    Raises:
        ValueError: As said; names those.
    """
    if len(set(values)) < len(values):
        twice = [quoted(value) for value, count in Counter(values).items() if count > 1]
        raise ValueError(
            f"{str(path)!r} has the same {what} twice ({listed(twice, f'{what}s twice')}): "
            "keep one each"
        )


def check_known(number: int, known: Mapping[int, Any], where: str) -> None:
    """Refuse an id that the file does not list.

    Raises:
        ValueError: As said.
    """
    if number not in known:
        raise ValueError(f"{where} is {number}, which the file does not list: get it again")


def box_corners(box: Any, where: str) -> list[float]:
    """x, y, width, height in px -> x1, y1, x2, y2.

    Raises:
        ValueError: It is no box.
    """
    numbers = isinstance(box, list) and len(box) == 4
    if not numbers or not all(type(n) in (int, float) and math.isfinite(n) for n in box):
        raise ValueError(f"{where} has the bbox {quoted(box)}: x, y, width, height are needed")
    x, y, width, height = box
    if width < 0 or height < 0:
        raise ValueError(
            f"{where} has the bbox {quoted(box)}: width and height must not be below 0"
        )
    return [x, y, x + width, y + height]


def corner_array(corners: Sequence[Sequence[float]]) -> np.ndarray:
    """K lists of four numbers -> (K, 4) float64, for no box too."""
    return np.asarray(corners, dtype=np.float64).reshape(-1, 4)
