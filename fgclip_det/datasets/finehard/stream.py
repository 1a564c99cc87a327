"""FineHARD from tar shards."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from mmdet.registry import DATASETS

from fgclip_det.datasets.finehard import left_out
from fgclip_det.datasets.finehard.left_out import ItemLeftOut
from fgclip_det.datasets.finehard.rules import FineHARDItem, RegionText
from fgclip_det.datasets.finehard.samples import FineHARDSamples
from fgclip_det.datasets.finehard.shard_order import ShardSampler, StreamPlace
from fgclip_det.datasets.finehard.shards import ShardFolder
from fgclip_det.io import decode_image

# Shards open beside those of the lanes, some of which are at their end where another begins.
_SPARE = 8


@DATASETS.register_module()
class FineHARDStream(FineHARDSamples):
    """Reads shards of ``tools/prepare_finehard.py``; `FineHARDSamples` tells what a sample is.

    In a config its sampler is `ShardSampler`, which gives the order; the loops of `ResumableRunner`
    go on in its middle, whatever the number of workers and of processes. In a loop of one's own,
    iterating gives the samples of this process in that order, without end, and ``state_dict`` and
    ``load_state_dict`` tell and set the place.

    A process holds the places of the items of the shards that it reads at the time, and nothing
    that grows with the number of items.

    Args:
        folder: Of the shards.
        generation: See `FineHARDSamples`, as for those that follow.
        seed: Of the order when it is iterated; in a config the sampler has its own.
        lanes: Shards that are read side by side, see `ShardEpoch`; best a multiple of the number of
            processes.

    Attributes:
        shard_counts: (S,) int64: items of each shard.
        lanes: As given.

    Raises:
        ValueError: Shards are missing or cut off, or a setting cannot be.
    """

    def __init__(
        self,
        folder: str,
        generation: int = 1,
        image_size: int | None = None,
        tokenizer: str | None = None,
        max_boxes: int = 4,
        max_negatives: int | None = None,
        region_text: RegionText = "random",
        as_published: bool = False,
        seed: int = 0,
        lanes: int = 16,
    ) -> None:
        super().__init__(
            generation, image_size, tokenizer, max_boxes, max_negatives, region_text, as_published
        )
        if type(lanes) is not int or lanes < 1:
            raise ValueError(f"lanes is {lanes!r}: give a whole number from 1")
        self._shards = ShardFolder(folder, most_open=lanes + _SPARE)
        self.shard_counts = self._shards.counts
        self._seed = seed
        self.lanes = lanes
        self._place = StreamPlace(ShardSampler(self, seed))

    def __len__(self) -> int:
        return len(self._shards)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for place, number in self._place:
            yield self.sample(number, random.Random(f"{self._seed} {place}"))

    def state_dict(self) -> dict[str, Any]:
        """Where iterating stands; the same on all processes that took as many samples."""
        return self._place.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there when iterated next, with this or another number of processes.

        Raises:
            ValueError: The state is of other shards, or of another seed.
        """
        self._place.load_state_dict(state)

    def key(self, number: int) -> str:
        """Name of an item that no other has: its shard, and its row there."""
        return self._shards.key(number)

    def load(self, number: int) -> tuple[str, Callable[[FineHARDItem], np.ndarray]]:
        """See `FineHARDSamples.load`."""
        text, picture = self._shards.read(number)
        where = f"picture of {self.key(number)!r}"
        return text.decode("utf-8", "replace"), partial(_decoded, picture, where)


def _decoded(picture: bytes, where: str, item: FineHARDItem) -> np.ndarray:
    try:
        return decode_image(picture, where)
    except ValueError as error:
        raise ItemLeftOut(left_out.BROKEN_PICTURE, f"{item.path!r}: {error}") from None
