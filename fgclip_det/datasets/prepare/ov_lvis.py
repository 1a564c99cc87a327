"""The annotation files of OV-LVIS, made from those of LVIS v1.

The 866 frequent and common classes are base, the 337 rare ones novel, by the ``frequency`` of the
categories of the training file (ViLD, Detic).

- ``ov_lvis_train.json``: base annotations of lvis_v1_train.
- ``ov_lvis_val.json``: all annotations of lvis_v1_val.
- ``ov_lvis_vocabulary.json``: the 1203 names with their wordings, and the groups.

All images and all 1203 categories are kept. Images get a ``file_name`` such as
``train2017/000000391895.jpg``, relative to a folder of COCO, for LVIS draws both of its splits from
both of COCO's. One category name of the published files is mended, in all three files:
"speaker_(stero_equipment)" becomes "speaker_(stereo_equipment)".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from fgclip_det.datasets.annotation_files import (
    AnnotationFile,
    check_categories,
    find_sources,
    image_file_name,
    read_annotations,
    summarize,
)
from fgclip_det.datasets.image_files import check_image_paths
from fgclip_det.datasets.prepare.prepared_files import PreparedFile
from fgclip_det.vocabulary import Vocabulary

_DATASET = "LVIS v1"
_SPLITS = ("train", "val")
_MENDED = {"speaker_(stero_equipment)": "speaker_(stereo_equipment)"}
_GROUP_OF_FREQUENCY = {"f": "base", "c": "base", "r": "novel"}
_GROUP_SIZES = {"base": 866, "novel": 337}


def ov_lvis_files(lvis: str | Path, images: str | Path | None = None) -> Iterator[PreparedFile]:
    """The files of OV-LVIS, for `write_files` or `check_files`.

    Args:
        lvis: Folder with ``annotations/lvis_v1_train.json`` and ``_val.json``.
        images: Folder with COCO's ``train2017/`` and ``val2017/``, to make sure that every image
            that a file lists is there; None does not look.

    Returns:
        The files, made as they are asked for.

    Raises:
        ValueError: A source is missing; and while files are made, a source is broken or no LVIS v1,
            has no box to keep, or images are missing.
    """
    sources = find_sources(lvis, [f"lvis_v1_{split}.json" for split in _SPLITS])
    return _make_files(dict(zip(_SPLITS, sources, strict=True)), images)


def _make_files(sources: dict[str, Path], images: str | Path | None) -> Iterator[PreparedFile]:
    train = _read(sources["train"])
    groups = _groups(train)
    yield _restrict(train, "train", {"base": groups["base"]}, groups, images)
    categories = train.categories
    # Gigabytes, which the next file need not wait beside.
    del train
    val = replace(_read(sources["val"]), categories=categories)
    yield _restrict(val, "val", groups, groups, images)
    yield _vocabulary(categories, groups)


def _read(path: Path) -> AnnotationFile:
    source = read_annotations(path, image_name="coco_url")
    for category in source.categories:
        category["name"] = _MENDED.get(category["name"], category["name"])
    names = dict(enumerate(Vocabulary.parse("lvis").names, start=1))
    check_categories(source, names, _DATASET)
    for image in source.images:
        image["file_name"] = image_file_name({"coco_url": image["coco_url"]})
    return source


def _groups(train: AnnotationFile) -> dict[str, set[int]]:
    """Category ids of the base and the novel classes."""
    groups: dict[str, set[int]] = {group: set() for group in _GROUP_SIZES}
    for category in train.categories:
        frequency = category.get("frequency")
        if frequency not in ("f", "c", "r"):
            raise ValueError(
                f"{str(train.path)!r}: category id {category['id']} has the frequency "
                f"{frequency!r}: 'f', 'c' or 'r' is needed, as in {_DATASET}"
            )
        groups[_GROUP_OF_FREQUENCY[frequency]].add(category["id"])
    sizes = {group: len(members) for group, members in groups.items()}
    if sizes != _GROUP_SIZES:
        found = Counter(category["frequency"] for category in train.categories)
        raise ValueError(
            f"{str(train.path)!r} has {sizes['base']} frequent and common and {found['r']} rare "
            f"categories, {_DATASET} has 866 and 337: take the annotation file of {_DATASET} itself"
        )
    return groups


def _restrict(
    source: AnnotationFile,
    split: str,
    kept: dict[str, set[int]],
    groups: dict[str, set[int]],
    images: str | Path | None,
) -> PreparedFile:
    kept_ids = set().union(*kept.values())
    annotations = [a for a in source.annotations if a["category_id"] in kept_ids]
    if not annotations:
        raise ValueError(
            f"{str(source.path)!r} has no box of a {' or '.join(kept)} class: nothing is left for "
            f"the {split} file"
        )
    if images is not None:
        check_image_paths(str(Path(images) / image["file_name"]) for image in source.images)
    what = f"OV-LVIS: {' and '.join(kept)} annotations of {source.path.name}"
    info = source.head.get("info")
    head: dict[str, Any] = {
        **source.head,
        "info": {**(info if isinstance(info, dict) else {}), "subset": what},
    }
    lists = {
        "images": source.images,
        "annotations": annotations,
        "categories": source.categories,
    }
    return PreparedFile(f"ov_lvis_{split}.json", head, lists, summarize(source, lists, groups))


def _vocabulary(categories: list[dict[str, Any]], groups: dict[str, set[int]]) -> PreparedFile:
    names = {
        group: [category["name"] for category in categories if category["id"] in members]
        for group, members in groups.items()
    }
    vocabulary = Vocabulary.parse("lvis", groups=names)
    count = f"{len(vocabulary.base_classes)} base, {len(vocabulary.novel_classes)} novel"
    return PreparedFile(
        "ov_lvis_vocabulary.json",
        head=vocabulary.to_dict(),
        summary=f"{len(vocabulary)} names, {count}",
    )
