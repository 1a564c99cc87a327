"""FineHARD as it is published: annotation files of one JSON array each, and a file a picture."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.registry import DATASETS

from fgclip_det.datasets.finehard import left_out
from fgclip_det.datasets.finehard.left_out import ItemLeftOut
from fgclip_det.datasets.finehard.rules import FineHARDItem, RegionText
from fgclip_det.datasets.finehard.samples import FineHARDSamples
from fgclip_det.io import open_regular, read_image, read_json_array


@DATASETS.register_module()
class FineHARDDataset(FineHARDSamples):
    """Reads annotation files as they are published; `FineHARDSamples` tells what a sample is.

    When it is made it goes through the files once, at about 70 MB/s, and remembers 16 bytes an
    item: where each begins. For millions of items make shards (``tools/prepare_finehard.py``) and
    read them with `FineHARDStream`.

    Args:
        ann_files: An annotation file, several, or a folder of ``*.json`` and ``*.jsonl``.
        image_root: Folder that ``f_path`` is relative to.
        generation: See `FineHARDSamples`, as for all others.

    Raises:
        ValueError: A file is missing, no JSON, or holds no item; a setting that cannot be.
    """

    def __init__(
        self,
        ann_files: str | Sequence[str],
        image_root: str,
        generation: int = 1,
        image_size: int | None = None,
        tokenizer: str | None = None,
        max_boxes: int = 4,
        max_negatives: int | None = None,
        region_text: RegionText = "random",
        as_published: bool = False,
    ) -> None:
        super().__init__(
            generation, image_size, tokenizer, max_boxes, max_negatives, region_text, as_published
        )
        self.image_root = Path(image_root)
        if not self.image_root.is_dir():
            raise ValueError(f"image_root {image_root!r} is no folder: name that of the pictures")
        self.ann_files = annotation_files(ann_files)
        places, ends = array("q"), []
        for path in self.ann_files:
            for piece in read_json_array(path, "annotation file"):
                places.extend((piece.offset, piece.size))
            ends.append(len(places) // 2)
        if not places:
            raise ValueError(f"annotation files {ann_files!r} hold no item: get them again")
        # One block that workers share, where lists would be copied as their counters change.
        self._places = np.frombuffer(places, dtype=np.int64).reshape(-1, 2)
        self._ends = ends
        self._opened: tuple[int, ExitStack, dict[int, int]] | None = None

    def __len__(self) -> int:
        return len(self._places)

    def load(self, number: int) -> tuple[str, Callable[[FineHARDItem], np.ndarray]]:
        """See `FineHARDSamples.load`."""
        offset, size = self._places[number].tolist()
        data = os.pread(self._handle(bisect_right(self._ends, number)), size, offset)
        return data.decode("utf-8", "replace"), partial(read_picture_file, self.image_root)

    def _handle(self, file: int) -> int:
        # Reading at a place moves nothing that a forked worker would share.
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), ExitStack(), {}
        _, stack, handles = self._opened
        if file not in handles:
            stream = stack.enter_context(open_regular(self.ann_files[file], "annotation file"))
            handles[file] = stream.fileno()
        return handles[file]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


def annotation_files(given: str | os.PathLike | Sequence[str]) -> list[Path]:
    """The annotation files of a folder, sorted, or those that are named.

    Raises:
        ValueError: There are none.
    """
    if isinstance(given, str | os.PathLike):
        folder = Path(given)
        if not folder.is_dir():
            return [folder]
        found = sorted(p for p in folder.iterdir() if p.suffix in (".json", ".jsonl"))
    else:
        found = [Path(path) for path in given]
    if not found:
        raise ValueError(f"no annotation file in {str(given)!r}: it must hold *.json or *.jsonl")
    return found


def read_picture_file(folder: Path, item: FineHARDItem) -> np.ndarray:
    """The picture of an item, (H, W, 3) uint8, RGB, as it is stored.

    Raises:
        ItemLeftOut: It is missing or cannot be read.
    """
    path = folder / item.path
    if not path.is_file():
        raise ItemLeftOut(left_out.NO_PICTURE, repr(str(path)))
    try:
        return read_image(path, "stored")
    except ValueError as error:
        raise ItemLeftOut(left_out.BROKEN_PICTURE, str(error)) from None
