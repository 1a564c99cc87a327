"""FG-OVD's subsets: their files, their published numbers of negatives, and what of them to run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope

from fgclip_det.datasets import FGOVDDataset
from fgclip_det.fg_ovd.files import FGOVDFile, read_fg_ovd

# File of each subset without its ending, and N of the published tables.
SUBSETS: dict[str, tuple[str, int]] = {
    "hard": ("1_attributes", 5),
    "medium": ("2_attributes", 5),
    "easy": ("3_attributes", 5),
    "trivial": ("shuffle_negatives", 5),
    "color": ("color", 2),
    "material": ("material", 2),
    "pattern": ("pattern", 2),
    "transparency": ("transparency", 2),
}


@dataclass(frozen=True)
class Subset:
    """A subset that is to be run.

    Attributes:
        name: Of `SUBSETS`.
        path: Its annotation file.
        file: What that holds.
        dataset: Every picture of it that has a caption.
        n_negatives: N of its result.
        numbers: Every number of negatives that is asked for, rising. 0 is always among them, since
            a detector's scores with fewer captions are others than the first ones of many.
    """

    name: str
    path: Path
    file: FGOVDFile
    dataset: FGOVDDataset
    n_negatives: int
    numbers: tuple[int, ...]

    @cached_property
    def img_paths(self) -> dict[int, str]:
        """Path of each picture by its id."""
        infos = (self.dataset.get_data_info(index) for index in range(len(self.dataset)))
        return {info["img_id"]: info["img_path"] for info in infos}

    @cached_property
    def captions(self) -> list[str]:
        """Each text that is asked for once, whatever the number of negatives."""
        shown = self.img_paths
        vocabularies = (v for n in self.numbers for v in self.file.vocabularies(n))
        texts = (t for v in vocabularies if v.image_id in shown for t in self.file.captions_of(v))
        return list(dict.fromkeys(texts))


def find_subsets(
    dataset: Mapping[str, Any],
    names: str = "all",
    n_negatives: int | None = None,
    *,
    sweep: bool = False,
    skip_missing: bool = False,
) -> tuple[list[Subset], dict[str, str]]:
    """The subsets whose files lie beside the one that a config names.

    Args:
        dataset: Config of an `FGOVDDataset`; its ``ann_file`` is one of the files of `SUBSETS`.
        names: Of `SUBSETS`, with commas, or "all": those that are there.
        n_negatives: N; None takes the config's for its own subset, and the published ones.
        sweep: Whether to ask for every number of negatives from 0 to N.
        skip_missing: See `FGOVDDataset`; the config may say it too.

    Returns:
        What can be run, and by name why another one cannot.

    Raises:
        ValueError: A name is unknown or has no file, the config's file is missing or none of
            FG-OVD's, a file cannot be used, pictures are missing, or nothing can be run.
    """
    if dataset.get("type") != FGOVDDataset.__name__:
        raise ValueError(
            f"the config's test_dataloader has a dataset of type {dataset.get('type')!r}: use one "
            "of configs/fg_ovd, or one like them"
        )
    own = _own_file(dataset)
    skip_missing = skip_missing or bool(dataset.get("skip_missing"))
    init_default_scope("mmdet")
    found: list[Subset] = []
    left_out: dict[str, str] = {}
    for name in _wanted(names):
        stem, published = SUBSETS[name]
        path = own.with_name(f"{stem}.json")
        if not path.is_file():
            if names != "all":
                raise ValueError(f"--subsets {name}: there is no file {str(path)!r}")
            left_out[name] = f"there is no file {path}"
            continue
        file = read_fg_ovd(path)
        number = n_negatives
        if number is None:
            number = dataset.get("n_negatives", published) if path == own else published
        if not file.vocabularies(number):
            left_out[name] = f"no caption has {number} negatives: at most {file.max_negatives}"
            continue
        # With 0 negatives no caption is left out: a picture serves every number. Serialized lists
        # would save little, and cost MMEngine a walk through all of Python's memory.
        settings = {**dataset, "ann_file": str(path), "n_negatives": 0, "serialize_data": False}
        built = DATASETS.build({**settings, "skip_missing": skip_missing, "file": file})
        numbers = tuple(range(number + 1)) if sweep else tuple(sorted({0, number}))
        found.append(Subset(name, path, file, built, number, numbers))
    if not found:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise ValueError(f"there is nothing to run ({reasons}): check --subsets and --n-negatives")
    return found, left_out


def _own_file(dataset: Mapping[str, Any]) -> Path:
    path = Path(os.path.abspath(Path(dataset.get("data_root") or "", dataset["ann_file"])))
    files = [f"{stem}.json" for stem, _ in SUBSETS.values()]
    if not path.is_file() or path.name not in files:
        raise ValueError(
            f"the config's ann_file {str(path)!r} must be there and be one of {', '.join(files)}: "
            "the other subsets are looked for beside it (tools/test.py takes any file)"
        )
    return path


def _wanted(names: str) -> Sequence[str]:
    wanted = SUBSETS if names == "all" else dict.fromkeys(name.strip() for name in names.split(","))
    for name in wanted:
        if name not in SUBSETS:
            raise ValueError(f"no subset {name!r}: choose all, or of {','.join(SUBSETS)}")
    return list(wanted)
