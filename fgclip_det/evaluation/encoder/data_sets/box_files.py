"""Boxes with classes, from annotation files of COCO's kind: COCO, LVIS and BoxClass-CN."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fgclip_det.evaluation.encoder.data_sets.records import Boxes
from fgclip_det.evaluation.encoder.data_sets.stock_files import (
    box_corners,
    by_id,
    check_known,
    check_once,
    corner_array,
    entries_of,
    picture_paths,
    stock_path,
)
from fgclip_det.io import quoted, read_json

_ANNOTATION = {"id": int, "image_id": int, "category_id": int, "bbox": list}


class _Content(NamedTuple):
    """Images and categories by id, in the order of the file, and annotations in that order."""

    images: dict[int, dict]
    categories: dict[int, dict]
    annotations: list[dict]


def read_coco_boxes(root: Path, images: Path | None = None) -> Boxes:
    """Every annotation of val2017, crowds too; classes in the order of the file.

    Args:
        root: Holds ``annotations/instances_val2017.json`` and ``val2017/``.
        images: Folder of the pictures, if elsewhere.

    Raises:
        ValueError: A file is missing or broken; what is wrong is named.
    """
    path = stock_path(root, "annotations/instances_val2017.json", "instances_val2017.json")
    return read_boxes(path, images or root / "val2017")


def read_boxes(path: Path, images: Path) -> Boxes:
    """`read_coco_boxes` of any file of this kind, whose pictures lie in `images`.

    Raises:
        ValueError: The file is missing or broken; what is wrong is named.
    """
    content = _read(path, "file_name", "COCO's annotations/instances_val2017.json")
    labels = {number: place for place, number in enumerate(content.categories)}
    names = [one["name"] for one in content.categories.values()]
    ids = sorted(content.images)
    files = [content.images[one]["file_name"] for one in ids]
    check_once(files, path, "file_name")
    paths = picture_paths(images, files)
    return _by_picture(content.annotations, ids, paths, labels, names)


def read_lvis_boxes(root: Path, images: Path | None = None) -> Boxes:
    """Every annotation of LVIS v1's val; class = id - 1, names with blanks for underscores.

    The authors' population is the pictures in their one folder, ``coco/val2017``.

    Args:
        root: Holds ``lvis_v1_val.json``, and ``coco/val2017/`` and ``coco/train2017/``.
        images: One folder of all pictures, if elsewhere; it is the authors' then.

    Raises:
        ValueError: A file is missing or broken; what is wrong is named.
    """
    path = stock_path(root, "lvis_v1_val.json", "annotations/lvis_v1_val.json")
    content = _read(path, "coco_url", "LVIS's lvis_v1_val.json")
    names = [name.replace("_", " ") for name in _names_by_number(content.categories, path)]
    ids = sorted(content.images)
    # Such as "val2017/000000461321.jpg": the last folder of the address and the file.
    files = ["/".join(content.images[one]["coco_url"].split("/")[-2:]) for one in ids]
    check_once(files, path, "coco_url")
    if images is None:
        paths = picture_paths(None, files, root / "coco", root)
        published = [place for place, file in enumerate(files) if file.startswith("val2017/")]
    else:
        paths, published = [images / Path(file).name for file in files], None
    labels = {number: number - 1 for number in content.categories}
    return _by_picture(content.annotations, ids, paths, labels, names, published)


def read_boxclass_cn(root: Path, images: Path | None = None) -> Boxes:
    """Every annotation of BoxClass-CN in the order of the file; class = id - 1.

    Args:
        root: Holds ``valid_category_data_total_zh.json`` and ``images/``.
        images: Folder of the pictures, if elsewhere.

    Raises:
        ValueError: A file is missing or broken; what is wrong is named.
    """
    path = stock_path(root, "valid_category_data_total_zh.json")
    content = _read(path, "file_name", "BoxClass-CN's valid_category_data_total_zh.json")
    names = _names_by_number(content.categories, path)
    files = [one["file_name"] for one in content.images.values()]
    check_once(files, path, "file_name")
    paths = picture_paths(images, files, root / "images", root)
    labels = {number: number - 1 for number in content.categories}
    places = {number: place for place, number in enumerate(content.images)}
    return _boxes(content.annotations, places, paths, labels, names)


def _read(path: Path, name_of_picture: str, of: str) -> _Content:
    values: Any = read_json(path, max_bytes=None)
    images = entries_of(values, path, "images", {"id": int, name_of_picture: str}, of)
    categories = entries_of(values, path, "categories", {"id": int, "name": str}, of)
    annotations = entries_of(values, path, "annotations", _ANNOTATION, of)
    content = _Content(
        by_id(images, path, "image"), by_id(categories, path, "category"), annotations
    )
    check_once([one["id"] for one in annotations], path, "annotation id")
    for one in annotations:
        where = f"{str(path)!r}: the {{}} of annotation {one['id']}"
        check_known(one["image_id"], content.images, where.format("image_id"))
        check_known(one["category_id"], content.categories, where.format("category_id"))
    return content


def _names_by_number(categories: Mapping[int, dict], path: Path) -> list[str]:
    """Names by id, which the authors take for the number of the class, counted from 1."""
    if sorted(categories) != list(range(1, len(categories) + 1)):
        wrong = next(one for one in sorted(categories) if not 1 <= one <= len(categories))
        raise ValueError(
            f"{str(path)!r} has {len(categories)} categories and the category id {quoted(wrong)}: "
            f"they must be 1 to {len(categories)}, for the class is the id - 1"
        )
    return [categories[number]["name"] for number in sorted(categories)]


def _by_picture(
    annotations: Sequence[dict],
    ids: Sequence[int],
    paths: Sequence[Path],
    labels: Mapping[int, int],
    names: Sequence[str],
    published: Sequence[int] | None = None,
) -> Boxes:
    """Boxes picture by picture in the order of `ids`, of each in the order of the file."""
    own: dict[int, list[dict]] = defaultdict(list)
    for one in annotations:
        own[one["image_id"]].append(one)
    in_order = [one for number in ids for one in own[number]]
    places = {number: place for place, number in enumerate(ids)}
    return _boxes(in_order, places, paths, labels, names, published)


def _boxes(
    annotations: Sequence[dict],
    places: Mapping[int, int],
    paths: Sequence[Path],
    labels: Mapping[int, int],
    names: Sequence[str],
    published: Sequence[int] | None = None,
) -> Boxes:
    corners = [box_corners(one["bbox"], f"annotation {one['id']}") for one in annotations]
    return Boxes(
        pictures=paths,
        owners=[places[one["image_id"]] for one in annotations],
        corners=corner_array(corners),
        labels=[labels[one["category_id"]] for one in annotations],
        names=names,
        annotation_ids=[one["id"] for one in annotations],
        published_pictures=published,
    )
