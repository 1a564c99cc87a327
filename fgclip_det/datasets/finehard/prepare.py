"""From annotation files and pictures to shards."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fgclip_det.datasets.finehard import left_out
from fgclip_det.datasets.finehard.annotation_items import annotation_files
from fgclip_det.datasets.finehard.left_out import ItemLeftOut
from fgclip_det.datasets.finehard.rules import FineHARDRules
from fgclip_det.datasets.finehard.shards import (
    INDEX,
    ShardItem,
    ShardRecord,
    read_record,
    write_index,
    write_shard,
)
from fgclip_det.io import (
    JsonPiece,
    check_writable,
    parse_json,
    read_bytes,
    read_header,
    read_json_array,
)

# What neither generation can use is not written.
_RULES = (FineHARDRules(generation=2), FineHARDRules(generation=1))
_UNSAFE = re.compile(r"[^\w-]+", re.ASCII)


def prepare_shards(
    annotations: str | os.PathLike,
    images: str | os.PathLike,
    out: str | os.PathLike,
    items_per_shard: int = 5000,
) -> dict[str, Any]:
    """Write shards of what FineHARD publishes; a run that was cut off goes on.

    Shard k of an annotation file is made of its items from ``k * items_per_shard`` on, so that one
    that is there need not be made again.

    Args:
        annotations: An annotation file or a folder of them, see `read_json_array`.
        images: Folder that ``f_path`` is relative to.
        out: Folder of the shards; made if it is missing.
        items_per_shard: Items that a shard is made of, those that are left out among them.

    Returns:
        The index, as `write_index` makes it, and ``made``: the shards that were not there before.

    Raises:
        ValueError: Files are missing or broken, no picture is where it should be, or the shards in
            `out` are of other files or settings.
        OSError: Writing failed.
    """
    if type(items_per_shard) is not int or items_per_shard < 1:
        raise ValueError(f"items_per_shard is {items_per_shard!r}: give a whole number from 1")
    images, out = Path(images), Path(out)
    if not images.is_dir():
        raise ValueError(f"the folder of pictures {str(images)!r} is missing: check the path")
    files = annotation_files(annotations)
    stems = [_UNSAFE.sub("_", path.stem) for path in files]
    if len(set(stems)) < len(stems):
        raise ValueError(f"two of {sorted(stems)} would get shards of one name: rename a file")
    sizes = [_size(path) for path in files]
    check_writable(out)
    # First, not after hours: the shards that are going to be there are named after these files.
    _check_others(out, lambda shard: shard.stem.rpartition("-")[0] in stems)
    out.mkdir(parents=True, exist_ok=True)
    records: dict[str, ShardRecord] = {}
    made = 0
    with tqdm(total=sum(sizes), unit="B", unit_scale=True, disable=None, leave=False) as bar:
        for path, stem, size in zip(files, stems, sizes, strict=True):
            bar.set_description(stem)
            source = {"file": path.name, "bytes": size, "items_per_shard": items_per_shard}
            file = _AnnotationFile(path, images, out, stem, source, bar)
            for name, record, is_new in file.shards(items_per_shard):
                records[name] = record
                made += is_new
                _check_any(record, images)
    _check_others(out, lambda shard: shard.name in records)
    return {**write_index(out, records), "made": made}


def _size(path: Path) -> int:
    if not path.is_file():
        raise ValueError(f"annotation file {str(path)!r} is missing: check the path")
    return path.stat().st_size


def _check_any(record: ShardRecord, images: Path) -> None:
    if record.left_out.get(left_out.NO_PICTURE) and not record.items:
        raise ValueError(
            f"of {record.source['file']!r} no picture of a whole shard is in {str(images)!r}: is "
            "it the folder that f_path is relative to?"
        )


def _check_others(out: Path, is_ours: Callable[[Path], bool]) -> None:
    """Shards of an annotation file that is no longer given would be silently left out."""
    others = sorted(path.name for path in out.glob("*.tar") if not is_ours(path))
    if others:
        raise ValueError(
            f"{str(out)!r} holds shards of other annotation files, such as {others[0]!r}: remove "
            "them, or give all files at once"
        )


@dataclass
class _AnnotationFile:
    path: Path
    images: Path
    out: Path
    stem: str
    source: dict[str, Any]
    bar: tqdm
    # Hashes of the pictures that were named so far: a file is a few hundred thousand of them.
    seen: set[int] = field(default_factory=set)

    def shards(self, items_per_shard: int) -> Iterator[tuple[str, ShardRecord, bool]]:
        """Name and record of each shard, and whether it was made now."""
        pieces = enumerate(read_json_array(self.path, "annotation file"))
        for number in itertools.count():
            block = list(itertools.islice(pieces, items_per_shard))
            if not block:
                return
            tar = self.out / f"{self.stem}-{number:05d}.tar"
            source = {**self.source, "first": block[0][0], "offset": block[0][1].offset}
            record = self._whole(tar, source)
            is_new = record is None
            if record is None:
                counts: dict[str, int] = {}
                # A reader must not take what is being made for all of it.
                (self.out / INDEX).unlink(missing_ok=True)
                record = write_shard(tar, self._items(block, counts), counts, source)
            else:
                for _ in self._items(block, {}, is_read=False):
                    pass
            yield tar.name, record, is_new

    def _whole(self, tar: Path, source: dict[str, Any]) -> ShardRecord | None:
        """The record of a shard that was made before."""
        if not tar.with_suffix(".json").is_file():
            return None
        record = read_record(tar)
        if record.source != source:
            raise ValueError(
                f"{str(tar)!r} was made of other files or settings ({record.source}, now {source}):"
                " remove the shards, or name another folder"
            )
        is_there = tar.is_file() and tar.stat().st_size == record.bytes
        return record if is_there else None

    def _items(
        self,
        block: Iterable[tuple[int, JsonPiece]],
        counts: dict[str, int],
        is_read: bool = True,
    ) -> Iterator[ShardItem]:
        for number, piece in block:
            self.bar.update(piece.size)
            try:
                path = self._path(number, piece)
                if is_read:
                    picture = _picture(self.images / path)
                    yield ShardItem(f"{self.stem}_{number:08d}", piece.text, path, picture)
            except ItemLeftOut as error:
                counts[error.kind] = counts.get(error.kind, 0) + 1

    def _path(self, number: int, piece: JsonPiece) -> str:
        """Path of an item's picture, if the item can be used and was not there before."""
        try:
            record = parse_json(piece.text, f"item {number} of {str(self.path)!r}")
        except ValueError as error:
            raise ItemLeftOut(left_out.NO_ITEM, str(error)) from None
        path = None
        for rules in _RULES:
            try:
                path = rules.read(record).path
                break
            except ItemLeftOut as error:
                problem = error
        if path is None:
            raise problem
        key = hash(path)
        if key in self.seen:
            raise ItemLeftOut(left_out.TWICE, path)
        self.seen.add(key)
        return path


def _picture(path: Path) -> bytes:
    if not path.is_file():
        raise ItemLeftOut(left_out.NO_PICTURE, str(path))
    try:
        read_header(path)
        return read_bytes(path, "picture")
    except ValueError as error:
        raise ItemLeftOut(left_out.BROKEN_PICTURE, str(error)) from None
