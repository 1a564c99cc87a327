"""COCO-style annotation files: read whole, checked before anything is made from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from reprlib import repr as short
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from fgclip_det.io import is_id, read_json

_LISTS = ("images", "annotations", "categories")
# Far beyond every picture, and false for NaN and infinities too.
_LIMIT = 1e9


@dataclass(frozen=True)
class AnnotationFile:
    """A COCO-style file in memory.

    Attributes:
        path: Where it was read from.
        images: Its images, in the order of the file.
        annotations: Its annotations, in the order of the file; ``bbox`` is xywh in pixels.
        categories: Its categories, by ascending id.
        head: All else that it holds, such as ``info`` and ``licenses``.
    """

    path: Path
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    head: dict[str, Any]


def find_sources(root: str | Path, names: Iterable[str]) -> list[Path]:
    """Paths of the annotation files of a dataset, all of which are there.

    Args:
        root: Folder of the dataset, which holds ``annotations/``.
        names: File names in ``annotations/``.

    Raises:
        ValueError: The folder, its ``annotations/`` or a file is missing.
    """
    root, names = Path(root), list(names)
    wanted = " and ".join(f"annotations/{name}" for name in names)
    for folder in (root, root / "annotations"):
        if not folder.is_dir():
            raise ValueError(f"no folder {str(folder)!r}: give the one that holds {wanted}")
    paths = [root / "annotations" / name for name in names]
    for path in paths:
        if not path.is_file():
            raise ValueError(f"no annotation file {str(path)!r}: download it; {wanted} are needed")
    return paths


def read_annotations(
    path: str | Path,
    image_name: str | None = "file_name",
    unlabelled: bool = False,
    sized: bool = True,
) -> AnnotationFile:
    """Read a COCO-style detection file and check every entry.

    Boxes that are degenerate or reach outside their image pass: what becomes of them is the
    protocol's to say. An annotation without an ``area`` gets that of its box.

    Args:
        path: JSON file.
        image_name: The key of an image that tells which picture it is; None for either
            ``file_name`` or, as in LVIS, ``coco_url``.
        unlabelled: Whether a file without ``annotations`` will do, as that of a test split is.
        sized: Whether every image must tell its ``width`` and ``height``.

    Raises:
        ValueError: The file is missing, truncated or no such file, or an entry lacks a field, bears
            the id of another, or belongs to an image or a category that the file does not list.
    """
    path = Path(path)
    values = read_json(path, "annotation file", max_bytes=None)
    no_coco = f"{str(path)!r} is no COCO detection file"
    if not isinstance(values, dict):
        raise ValueError(f"{no_coco} (it holds a {type(values).__name__}, not an object)")
    if unlabelled:
        values.setdefault("annotations", [])
    for key in _LISTS:
        entries = values.get(key)
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise ValueError(f"{no_coco}: it has no list {key!r}; take the instances file")
    images, annotations, categories = (values.pop(key) for key in _LISTS)
    _check_ids(path, "category", categories)
    for category in categories:
        if not isinstance(category.get("name"), str):
            raise ValueError(f"{str(path)!r}: category {category['id']} has no 'name'")
    _check_ids(path, "image", images)
    names = ("file_name", "coco_url") if image_name is None else (image_name,)
    check_images(repr(str(path)), images, names, sized)
    _check_ids(path, "annotation", annotations)
    _check_annotations(path, annotations, _ids(images), _ids(categories))
    categories = sorted(categories, key=lambda category: category["id"])
    return AnnotationFile(path, images, annotations, categories, values)


def check_images(
    source: str,
    images: Iterable[Mapping[str, Any]],
    names: Sequence[str] = ("file_name",),
    sized: bool = True,
) -> None:
    """Make sure that images tell which picture each is, and its size.

    Args:
        source: What to call their file in the message.
        images: With an ``id`` each.
        names: Keys of which one at least must tell the picture.
        sized: Whether ``width`` and ``height`` must be there.

    Raises:
        ValueError: An image has none of the keys, or its ``width`` or ``height`` is missing or no
            number from 1; it is named.
    """
    for image in images:
        where = f"{source}: image {image['id']}"
        if not any(isinstance(image.get(key), str) and image[key] for key in names):
            raise ValueError(
                f"{where} has no {names[0]!r}, but {short(image.get(names[0]))}: give the path of "
                "its picture"
            )
        for key in ("width", "height"):
            if not sized and key not in image:
                continue
            if not _is_number(image.get(key)) or image[key] < 1:
                raise ValueError(
                    f"{where} has the {key} {short(image.get(key))}: no number of pixels"
                )


def image_file_name(image: Mapping[str, Any]) -> str:
    """The picture of an image, relative to the folder of pictures.

    Args:
        image: An image of an `AnnotationFile`; of LVIS, whose images have no ``file_name``, the
            last folder and the name in ``coco_url``, such as ``train2017/000000000009.jpg``.
    """
    if image.get("file_name"):
        return image["file_name"]
    return "/".join(PurePosixPath(urlsplit(image["coco_url"]).path).parts[-2:])


def check_categories(file: AnnotationFile, names: Mapping[int, str], dataset: str) -> None:
    """Make sure that a file has the categories of a dataset.

    Args:
        file: What `read_annotations` gave.
        names: Name of each category id of the dataset.
        dataset: What to call it in the message.

    Raises:
        ValueError: An id is missing, too many, or bears another name; the first one is named.
    """
    found = {category["id"]: category["name"] for category in file.categories}
    for number in sorted({*found, *names}):
        if found.get(number) != names.get(number):
            here = f"is {found[number]!r}" if number in found else "is missing"
            there = f"is {names[number]!r}" if number in names else "does not exist"
            raise ValueError(
                f"{str(file.path)!r}: category id {number} {here}, but {there} in {dataset}: "
                f"take the annotation file of {dataset} itself"
            )


def summarize(
    source: AnnotationFile, lists: dict[str, list[dict[str, Any]]], groups: dict[str, set[int]]
) -> str:
    """Images, boxes and categories of a file that is made from another, in words.

    Args:
        source: Where its annotations come from.
        lists: Its images, annotations and categories.
        groups: Category ids of each group.
    """
    annotations = lists["annotations"]
    with_boxes = {annotation["image_id"] for annotation in annotations}
    text = (
        f"{len(lists['images'])} images ({len(with_boxes)} with boxes), "
        f"{len(lists['categories'])} categories, "
        f"{len(annotations)} boxes{_oddities(source, annotations)}"
    )
    for group, members in groups.items():
        boxes = [a["category_id"] for a in annotations if a["category_id"] in members]
        text += f"; {group}: {len(boxes)} boxes of {len(set(boxes))} of {len(members)} classes"
    return text


def _oddities(source: AnnotationFile, annotations: Sequence[dict[str, Any]]) -> str:
    """Number of annotations that are crowds or have an odd box, in brackets; "" for none."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in source.images}
    kinds = Counter(_box_kind(a, *sizes[a["image_id"]]) for a in annotations)
    counts = {
        "of crowds": sum(bool(annotation.get("iscrowd", 0)) for annotation in annotations),
        "without area in the image": kinds["empty"],
        "over the border of the image": kinds["over"],
    }
    parts = [f"{number} {what}" for what, number in counts.items() if number]
    return f" ({', '.join(parts)}, kept)" if parts else ""


def _box_kind(annotation: dict[str, Any], width: float, height: float) -> str | None:
    x, y, w, h = annotation["bbox"]
    overlaps = min(x + w, width) > max(x, 0) and min(y + h, height) > max(y, 0)
    # What mmdet's COCO datasets leave out of training.
    if annotation["area"] <= 0 or w < 1 or h < 1 or not overlaps:
        return "empty"
    # Boxes of COCO itself overstep by rounding, hence the pixel.
    if x < -1 or y < -1 or x + w > width + 1 or y + h > height + 1:
        return "over"
    return None


def _ids(entries: list[dict[str, Any]]) -> set[int]:
    return {entry["id"] for entry in entries}


def _check_ids(path: Path, what: str, entries: list[dict[str, Any]]) -> None:
    seen: set[int] = set()
    for index, entry in enumerate(entries):
        number = entry.get("id")
        if not is_id(number):
            raise ValueError(
                f"{str(path)!r}: {what} number {index} has the id {short(number)}: no int of 64 "
                "bits"
            )
        if number in seen:
            raise ValueError(f"{str(path)!r}: two entries bear the {what} id {number}")
        seen.add(number)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and -_LIMIT < value < _LIMIT


def _check_annotations(
    path: Path, annotations: list[dict[str, Any]], image_ids: set[int], category_ids: set[int]
) -> None:
    progress = tqdm(annotations, desc=f"check {path.name}", disable=None, leave=False)
    for annotation in progress:
        problem = _annotation_problem(annotation, image_ids, category_ids)
        if problem:
            progress.close()
            raise ValueError(f"{str(path)!r}: annotation {annotation['id']} {problem}")


def _annotation_problem(
    annotation: dict[str, Any], image_ids: set[int], category_ids: set[int]
) -> str | None:
    for key, ids in (("image_id", image_ids), ("category_id", category_ids)):
        number = annotation.get(key)
        if type(number) is not int or number not in ids:
            return f"has the {key} {short(number)}, which the file does not list"
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return f"has the bbox {short(box)}: four numbers are needed, x, y, width and height"
    annotation.setdefault("area", box[2] * box[3])
    if not _is_number(annotation.get("area")):
        area = annotation.get("area")
        return f"has the area {short(area)}: a number is needed, width times height of the box, say"
    return None
