"""Which data of a config can be checked, and how its pictures are read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import CocoDataset, LVISV1Dataset, Objects365V1Dataset
from mmdet.registry import DATASETS, TRANSFORMS

from fgclip_det.datasets.check.data_check import DataSource
from fgclip_det.datasets.fg_ovd import FGOVDDataset
from fgclip_det.datasets.ov_coco import OVCocoDataset
from fgclip_det.datasets.region_captions import RegionCaptionDataset
from fgclip_det.datasets.stored_pictures import StoredPictures

_LOADERS = ("train_dataloader", "val_dataloader")
# Whose files name pictures and boxes as COCO's do. Others of MMDetection's that derive from
# `CocoDataset` hold segments of panoptic files, say, or make other names of those of a file.
_KINDS = (OVCocoDataset, FGOVDDataset, CocoDataset, LVISV1Dataset, Objects365V1Dataset)
_READERS = ("load_data_list", "parse_data_info")
_LOCAL = (None, "local", "disk")


def sources_of(config: Mapping[str, Any]) -> list[DataSource]:
    """The data that a config trains and validates on, each once.

    Left out are data sets that read their files in a way of their own, other than those of this
    package and MMDetection's ``CocoDataset`` and ``LVISV1Dataset``, and those whose pictures are on
    no local disk or are read by another transform than ``LoadImageFromFile``.
    """
    datasets = (_dict(config.get(name)).get("dataset") for name in _LOADERS)
    return list(dict.fromkeys(source for one in datasets for source in _sources(one)))


def _sources(dataset: Any) -> Iterator[DataSource]:
    if isinstance(dataset, list | tuple):
        for one in dataset:
            yield from _sources(one)
    if not isinstance(dataset, Mapping):
        return
    for key in ("dataset", "datasets"):  # of wrappers
        yield from _sources(dataset.get(key))
    kind = dataset.get("type")
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    if not isinstance(kind, type) or not isinstance(dataset.get("ann_file"), str):
        return
    loaders = list(_picture_loaders(dataset.get("pipeline")))
    if issubclass(kind, RegionCaptionDataset):
        if not dataset["ann_file"].endswith(".jsonl") or "image_root" not in dataset:
            return
        source = DataSource(dataset["ann_file"], os.fspath(dataset["image_root"]))
    elif _reads_as_coco(kind) and (loaders or not dataset.get("pipeline")):
        root = dataset.get("data_root") or ""
        prefix = _dict(dataset.get("data_prefix")).get("img") or ""
        source = DataSource(
            os.path.join(root, dataset["ann_file"]),
            os.path.join(root, prefix),
            not _drops_empty(dataset, kind),
            bool(dataset.get("skip_missing")),
            not issubclass(kind, StoredPictures) and any(map(_turns, loaders)),
        )
    else:
        return
    if "://" not in source.ann_file + source.image_root and all(
        map(_is_local, [dataset, *loaders])
    ):
        yield source


def _dict(value: Any) -> Mapping[str, Any]:
    """Settings, or none where they are something else, of which their data set complains."""
    return value if isinstance(value, Mapping) else {}


def _reads_as_coco(kind: type) -> bool:
    return any(
        all(getattr(kind, name, None) is getattr(known, name) for name in _READERS)
        for known in _KINDS
    )


def _picture_loaders(step: Any) -> Iterator[Mapping[str, Any]]:
    """Settings of each transform of a pipeline that reads the picture, also of nested ones."""
    if isinstance(step, list | tuple):
        for one in step:
            yield from _picture_loaders(one)
    if not isinstance(step, Mapping):
        return
    kind = step.get("type")
    kind = TRANSFORMS.get(kind) if isinstance(kind, str) else kind
    if isinstance(kind, type) and issubclass(kind, LoadImageFromFile):
        yield step
    for value in step.values():
        yield from _picture_loaders(value)


def _turns(loader: Mapping[str, Any]) -> bool:
    """Whether pictures are turned by their EXIF entry."""
    turning = loader.get("color_type", "color") in ("color", "grayscale")
    return turning and loader.get("imdecode_backend", "cv2") in ("cv2", "pillow")


def _is_local(settings: Mapping[str, Any]) -> bool:
    given = (_dict(settings.get(key)) for key in ("backend_args", "file_client_args"))
    return all(one.get("backend") in _LOCAL for one in given)


def _drops_empty(dataset: Mapping[str, Any], kind: type) -> bool:
    if dataset.get("test_mode"):
        return False
    settings = _dict(dataset.get("filter_cfg"))
    return bool(settings.get("filter_empty_gt", issubclass(kind, OVCocoDataset)))
