"""The annotation files of OV-COCO, in both of its protocols, made from those of COCO 2017.

48 classes are base, 17 novel, and the other 15 unused (``Vocabulary.parse("ov_coco")``).

65-way (OVR-CNN, F-ViT; mmdet's ``coco2ovd.py``): categories are the 65, an image is kept if it has
at least one kept annotation. On COCO 2017 that leaves 107,761 images to train and 4,836 to test on.

- ``ov_coco_65_train.json``: base annotations of train2017.
- ``ov_coco_65_val.json``: base and novel annotations of val2017.

80-way (ovdet): all images and all 80 categories are kept, and base and novel are evaluated apart.

- ``ov_coco_80_train.json``: base annotations of train2017.
- ``ov_coco_80_val_base.json``, ``ov_coco_80_val_novel.json``: those of val2017.
- ``ov_coco_80_vocabulary.json``: the 80 names and the groups, for `OVCocoDataset`.

Both protocols keep each annotation of a kept class as it is. So crowds stay: training ignores them,
evaluation counts a detection on one neither as right nor as wrong, and an image stays whose only
annotation is a crowd. So do the few boxes without area, which training leaves out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from fgclip_det.datasets.annotation_files import (
    AnnotationFile,
    check_categories,
    find_sources,
    read_annotations,
    summarize,
)
from fgclip_det.datasets.image_files import check_image_paths
from fgclip_det.datasets.prepare.prepared_files import PreparedFile
from fgclip_det.vocabulary import Vocabulary

PROTOCOLS = (65, 80)
_DATASET = "COCO 2017"
_SPLITS = ("val", "train")
# The ids that COCO leaves out of 1 to 90.
_UNUSED_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}


def coco_names() -> dict[int, str]:
    """Name of each of COCO's 80 category ids, in the order of the ids."""
    ids = [number for number in range(1, 91) if number not in _UNUSED_IDS]
    return dict(zip(ids, Vocabulary.parse("coco").names, strict=True))


def ov_coco_files(
    coco: str | Path, protocols: Iterable[int] = PROTOCOLS, images: str | Path | None = None
) -> Iterator[PreparedFile]:
    """The files of some protocols, for `write_files` or `check_files`.

    Args:
        coco: Folder with ``annotations/instances_train2017.json`` and ``_val2017.json``.
        protocols: 65, 80 or both.
        images: Folder with ``train2017/`` and ``val2017/``, to make sure that every image that a
            file lists is there; None does not look.

    Returns:
        The files, made as they are asked for. Each source is read once.

    Raises:
        ValueError: A protocol is unknown or a source is missing; and while files are made, a source
            is broken or no COCO 2017, has no box to keep, or images are missing.
    """
    protocols = list(protocols)
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise ValueError(f"OV-COCO has no protocol {protocol!r}: choose 65 or 80")
    sources = find_sources(coco, [f"instances_{split}2017.json" for split in _SPLITS])
    return _make_files(dict(zip(_SPLITS, sources, strict=True)), protocols, images)


def _make_files(
    sources: dict[str, Path], protocols: list[int], images: str | Path | None
) -> Iterator[PreparedFile]:
    for split, path in sources.items():
        source = read_annotations(path)
        check_categories(source, coco_names(), _DATASET)
        for protocol in protocols:
            for suffix, groups in _outputs(protocol, split):
                file = _restrict(source, protocol, f"{split}{suffix}", groups)
                if images is not None:
                    folder = Path(images) / f"{split}2017"
                    listed = file.lists["images"]
                    check_image_paths(str(folder / image["file_name"]) for image in listed)
                yield file
    if 80 in protocols:
        yield _vocabulary_80()


def _outputs(protocol: int, split: str) -> list[tuple[str, tuple[str, ...]]]:
    """Suffix and kept groups of each file of a split."""
    if split == "train":
        return [("", ("base",))]
    if protocol == 65:
        return [("", ("base", "novel"))]
    return [("_base", ("base",)), ("_novel", ("novel",))]


def _restrict(
    source: AnnotationFile, protocol: int, split: str, groups: tuple[str, ...]
) -> PreparedFile:
    vocabulary = Vocabulary.parse("ov_coco")
    kept_names = {name for group in groups for name in vocabulary.subset(group)}
    kept_ids = {c["id"] for c in source.categories if c["name"] in kept_names}
    annotations = [a for a in source.annotations if a["category_id"] in kept_ids]
    if all(annotation.get("iscrowd", 0) for annotation in annotations):
        raise ValueError(
            f"{str(source.path)!r} has no box of a {' or '.join(groups)} class: nothing is left "
            f"for the {split} file"
        )
    images, categories = source.images, source.categories
    if protocol == 65:
        kept_images = {annotation["image_id"] for annotation in annotations}
        images = [image for image in images if image["id"] in kept_images]
        categories = [c for c in categories if c["name"] in set(vocabulary.names)]
    what = f"OV-COCO, {protocol}-way: {' and '.join(groups)} annotations of {source.path.name}"
    info = source.head.get("info")
    head = {**source.head, "info": {**(info if isinstance(info, dict) else {}), "subset": what}}
    lists = {"images": images, "annotations": annotations, "categories": categories}
    members = {
        group: {c["id"] for c in categories if c["name"] in set(names)}
        for group, names in (vocabulary.groups or {}).items()
    }
    summary = summarize(source, lists, members)
    return PreparedFile(f"ov_coco_{protocol}_{split}.json", head, lists, summary)


def _vocabulary_80() -> PreparedFile:
    vocabulary = Vocabulary.parse("coco", groups=Vocabulary.parse("ov_coco").groups)
    count = f"{len(vocabulary.base_classes)} base, {len(vocabulary.novel_classes)} novel"
    return PreparedFile(
        "ov_coco_80_vocabulary.json",
        head=vocabulary.to_dict(),
        summary=f"{len(vocabulary)} names, {count}",
    )
