"""The data of a config, checked by the first process for all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log

from fgclip_det.datasets.check.data_check import DataSource, check_source
from fgclip_det.datasets.fg_ovd import FGOVDDataset
from fgclip_det.datasets.ov_coco import OVCocoDataset
from fgclip_det.datasets.region_captions import RegionCaptionDataset

_LOADERS = ("train_dataloader", "val_dataloader")


def check_training_data(config: Mapping[str, Any]) -> None:
    """Check all that a training reads, see `check_source`; oddities are logged.

    In a run of several processes the first one checks, and all of them hear the verdict.

    Args:
        config: With ``train_dataloader`` and perhaps ``val_dataloader``.

    Raises:
        ValueError: In every process: data cannot be what they claim to be.
    """
    verdict = ["the data check of the first process failed: its error tells why"]
    try:
        if is_main_process():
            verdict = [_verdict(config)]
    finally:
        # Whatever happened: the others are waiting.
        broadcast_object_list(verdict)
    if verdict[0]:
        raise ValueError(verdict[0])


def sources_of(config: Mapping[str, Any]) -> list[DataSource]:
    """The data that a config trains and validates on, each once.

    Data sets of other kinds than those of this package and MMDetection's ``CocoDataset`` are left
    out, and so are those on no local disk.
    """
    datasets = ((config.get(name) or {}).get("dataset") for name in _LOADERS)
    return list(dict.fromkeys(source for one in datasets for source in _sources(one)))


def _verdict(config: Mapping[str, Any]) -> str:
    """What is wrong, or nothing."""
    try:
        for source in sources_of(config):
            for text in check_source(source):
                print_log(f"data check, {source.ann_file}: {text}", "current")
    except (ValueError, OSError) as error:
        return str(error) or type(error).__name__
    return ""


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
    if issubclass(kind, RegionCaptionDataset) and dataset["ann_file"].endswith(".jsonl"):
        source = DataSource(dataset["ann_file"], dataset["image_root"])
    elif issubclass(kind, CocoDataset | FGOVDDataset):
        root = dataset.get("data_root") or ""
        prefix = (dataset.get("data_prefix") or {}).get("img") or ""
        source = DataSource(
            os.path.join(root, dataset["ann_file"]),
            os.path.join(root, prefix),
            not _drops_empty(dataset, kind),
            bool(dataset.get("skip_missing")),
        )
    else:
        return
    if "://" not in source.ann_file + source.image_root and not dataset.get("backend_args"):
        yield source


def _drops_empty(dataset: Mapping[str, Any], kind: type) -> bool:
    if dataset.get("test_mode"):
        return False
    settings = dataset.get("filter_cfg") or {}
    return bool(settings.get("filter_empty_gt", issubclass(kind, OVCocoDataset)))
