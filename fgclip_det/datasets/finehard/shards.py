"""Tar shards in WebDataset's layout, with an index that tells where each item lies.

A shard ``a-00000.tar`` holds for each item ``KEY.json``, the item as it stands in its annotation
file, and ``KEY.jpg`` (or another suffix), its picture as it is. Beside it ``a-00000.json`` tells
where both lie, so that a reader needs no other item; ``index.json`` tells of all shards. Readers of
WebDataset's own see the tar files alone, and need neither.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from fgclip_det.datasets.finehard import left_out
from fgclip_det.datasets.finehard.left_out import ItemLeftOut
from fgclip_det.io import listed, open_regular, quoted, read_json, replaced_file, write_json

INDEX = "index.json"
_FORMAT = "fgclip_det shards 1"
_BLOCK = tarfile.BLOCKSIZE
_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")


class ShardItem(NamedTuple):
    """An item to be written.

    Attributes:
        key: Without a dot and unique in its shard.
        text: The item's JSON.
        picture_path: Whose suffix the picture gets.
        picture: Bytes of the picture's file.
    """

    key: str
    text: str
    picture_path: str
    picture: bytes


@dataclass(frozen=True)
class ShardRecord:
    """What stands beside a shard.

    Attributes:
        items: Number of items.
        bytes: Of the tar file.
        left_out: Items that were not written, by kind.
        source: What it was made from.
        places: For each item the offset and size of its JSON, and of its picture.
    """

    items: int
    bytes: int
    left_out: dict[str, int]
    source: dict[str, Any]
    places: list[list[int]]


def write_shard(
    path: Path, items: Iterable[ShardItem], counts: dict[str, int], source: dict[str, Any]
) -> ShardRecord:
    """Write a shard, whole or not at all, and then what stands beside it.

    Args:
        path: The tar file.
        items: May add to `counts` while they are gone through.
        counts: Items that were left out, by kind.
        source: What it is made from.

    Raises:
        OSError: Writing failed.
    """
    places = []
    with replaced_file(path) as partial, tarfile.open(partial, "w") as tar:
        for item in items:
            suffix = PurePosixPath(item.picture_path).suffix.lower()
            suffix = suffix if _SUFFIX.fullmatch(suffix) and suffix != ".json" else ".img"
            text = item.text.encode()
            places.append(
                [
                    *(_add(tar, f"{item.key}.json", text), len(text)),
                    *(_add(tar, f"{item.key}{suffix}", item.picture), len(item.picture)),
                ]
            )
    record = ShardRecord(len(places), path.stat().st_size, counts, source, places)
    write_json(path.with_suffix(".json"), asdict(record), indent=None)
    return record


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Add a member; where its data begin. The same data give the same bytes."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
    return tar.offset - -(-len(data) // _BLOCK) * _BLOCK


def read_record(path: Path) -> ShardRecord:
    """What stands beside a shard.

    Args:
        path: The tar file.

    Raises:
        ValueError: It is missing or not such a record.
    """
    beside = path.with_suffix(".json")
    content = read_json(beside, "shard record", max_bytes=None)
    try:
        record = ShardRecord(**content)
        places = np.array(record.places, dtype=np.int64).reshape(-1, 4)
        is_sound = len(places) == record.items and (places >= 0).all()
        is_sound &= bool((places[:, ::2] + places[:, 1::2] <= record.bytes).all())
    except (TypeError, ValueError, OverflowError) as error:
        is_sound, content = False, error
    if not is_sound:
        raise ValueError(
            f"shard record {str(beside)!r} is none ({quoted(content)}): remove it and prepare the "
            "shards again"
        )
    return record


def write_index(folder: Path, records: dict[str, ShardRecord]) -> dict[str, Any]:
    """Write what tells of all shards of a folder, and return it.

    Args:
        folder: Of the shards.
        records: By the name of the tar file.
    """
    kinds: dict[str, int] = {}
    for record in records.values():
        for kind, number in record.left_out.items():
            kinds[kind] = kinds.get(kind, 0) + number
    shards = [
        {"name": name, "items": record.items, "bytes": record.bytes}
        for name, record in sorted(records.items())
        if record.items
    ]
    total = sum(shard["items"] for shard in shards)
    index = {"format": _FORMAT, "items": total, "left_out": kinds, "shards": shards}
    write_json(folder / INDEX, index)
    return index


class ShardFolder:
    """Items of shards by their numbers; what it holds in memory is bounded by the open shards.

    Args:
        folder: As `write_index` left it.
        most_open: Shards that are held open, each with 32 bytes for each of its items.

    Attributes:
        names: Of the tar files.
        counts: (S,) int64: items of each.
        left_out: What was left out when they were made, by kind.

    Raises:
        ValueError: No such folder, or a shard is missing or of another size than it was made with.
    """

    def __init__(self, folder: str | os.PathLike, most_open: int) -> None:
        self._most_open = most_open
        self.folder = Path(folder)
        if not (self.folder / INDEX).is_file():
            raise ValueError(
                f"there is no {INDEX} in {str(folder)!r}: make shards with "
                "tools/prepare_finehard.py, or let it finish"
            )
        index = read_json(self.folder / INDEX, "shard index", max_bytes=None)
        try:
            if index["format"] != _FORMAT:
                raise ValueError(f"its format is {quoted(index['format'])}")
            self.names = [str(shard["name"]) for shard in index["shards"]]
            self.counts = np.array([shard["items"] for shard in index["shards"]], dtype=np.int64)
            sizes = [shard["bytes"] for shard in index["shards"]]
            self.left_out = dict(index["left_out"])
            if (self.counts < 1).any() or not self.names:
                raise ValueError("it has no shards, or empty ones")
            if any(Path(name).name != name for name in self.names):
                raise ValueError("a shard lies in another folder")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{str(self.folder / INDEX)!r} is no index of shards ({error}): prepare them again"
            ) from None
        self._check_sizes(sizes)
        self._ends = np.cumsum(self.counts)
        self._open: OrderedDict[int, tuple[ExitStack, BinaryIO, np.ndarray]] = OrderedDict()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _check_sizes(self, sizes: list[int]) -> None:
        wrong = []
        for name, size in zip(self.names, sizes, strict=True):
            path = self.folder / name
            found = path.stat().st_size if path.is_file() else None
            if found is None:
                wrong.append(f"{name} is missing")
            elif found != size:
                wrong.append(f"{name} has {found} bytes for {size}")
        if wrong:
            raise ValueError(
                f"shards in {str(self.folder)!r} are not as they were made: "
                f"{listed(wrong, 'wrong shards', '; ')}: copy them again, or remove them with the "
                ".json beside them and prepare them again"
            )

    def place(self, number: int) -> tuple[int, int]:
        """Shard and row in it of an item."""
        shard = int(np.searchsorted(self._ends, number, side="right"))
        return shard, int(number - (self._ends[shard] - self.counts[shard]))

    def key(self, number: int) -> str:
        """Name of an item that no other has: its shard, and its row there."""
        shard, row = self.place(number)
        return f"{self.names[shard].removesuffix('.tar')}/{row}"

    def read(self, number: int) -> tuple[bytes, bytes]:
        """JSON text and picture of an item, as they were written.

        Raises:
            ItemLeftOut: The shard does not hold them any more.
        """
        shard, row = self.place(number)
        try:
            stream, places = self._opened(shard)
            start, size, picture_start, picture_size = places[row].tolist()
            text = os.pread(stream.fileno(), size, start)
            picture = os.pread(stream.fileno(), picture_size, picture_start)
        except (OSError, ValueError, IndexError) as error:
            raise ItemLeftOut(left_out.NOT_IN_SHARD, f"{self.key(number)}: {error}") from None
        if len(text) < size or len(picture) < picture_size:
            raise ItemLeftOut(left_out.NOT_IN_SHARD, f"{self.key(number)}: the shard is cut off")
        return text, picture

    def _opened(self, shard: int) -> tuple[BinaryIO, np.ndarray]:
        if shard in self._open:
            self._open.move_to_end(shard)
        else:
            path = self.folder / self.names[shard]
            places = np.array(read_record(path).places, dtype=np.int64).reshape(-1, 4)
            with ExitStack() as stack:
                stream = stack.enter_context(open_regular(path, "shard"))
                if hasattr(os, "posix_fadvise"):
                    # Read ahead from end to end, before its items are picked in another order.
                    os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
                self._open[shard] = stack.pop_all(), stream, places
            while len(self._open) > self._most_open:
                self._open.popitem(last=False)[1][0].close()
        return self._open[shard][1:]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}
