"""An order of all items that is as good as random, and reads few shards at a time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import InfiniteSampler
from torch.utils.data import Dataset

# The first numbers of keys of random streams, so that none is another's.
_SHARDS, _ROWS = 2, 3


class ShardEpoch:
    """A permutation of all items: place n of an epoch is a function of the seed and the epoch.

    Shards, in random order, are dealt to lanes of about equal length; a lane goes through its
    shards one after another, each in a random order of its items. Place n is of lane ``n % lanes``
    (until the first lane ends): a batch has items of as many shards as there are lanes, and where
    the number of processes divides that of lanes, process r of W, which takes the places
    ``r, r + W, ...``, reads no shard that another reads at the time.

    Args:
        counts: (S,) int64, items of each shard.
        seed: 0 or above.
        epoch: From 0.
        lanes: Shards that are read side by side; with fewer shards, the greatest divisor that is
            no more than they are.
    """

    def __init__(self, counts: np.ndarray, seed: int, epoch: int, lanes: int) -> None:
        self._counts = counts
        self._starts = np.cumsum(counts) - counts
        self._key = seed, epoch
        lanes = max(d for d in range(1, min(lanes, len(counts)) + 1) if lanes % d == 0)
        self._lanes: list[list[int]] = [[] for _ in range(lanes)]
        self._lengths = np.zeros(lanes, dtype=np.int64)
        shortest = [(0, lane) for lane in range(lanes)]
        for shard in _stream(_SHARDS, *self._key).permutation(len(counts)).tolist():
            length, lane = heapq.heappop(shortest)
            self._lanes[lane].append(shard)
            self._lengths[lane] = length + int(counts[shard])
            heapq.heappush(shortest, (int(self._lengths[lane]), lane))

    def __len__(self) -> int:
        return int(self._lengths.sum())

    def numbers(self, first: int = 0) -> Iterator[int]:
        """The items from a place on; no shard before it is looked at.

        Args:
            first: From 0 to the number of items.
        """
        low, high = 0, int(self._lengths.max())
        while low < high:  # the last round that begins at the place or before
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._before(middle) <= first else (low, middle - 1)
        rounds = itertools.zip_longest(*(self._lane(lane, low) for lane in range(len(self._lanes))))
        numbers = (number for one in rounds for number in one if number is not None)
        return itertools.islice(numbers, first - self._before(low), None)

    def _before(self, rounds: int) -> int:
        """Places before a round."""
        return int(np.minimum(self._lengths, rounds).sum())

    def _lane(self, lane: int, skip: int) -> Iterator[int]:
        for shard in self._lanes[lane]:
            count = int(self._counts[shard])
            if skip >= count:
                skip -= count
                continue
            order = _stream(_ROWS, *self._key, shard).permutation(count)[skip:]
            yield from (order + self._starts[shard]).tolist()
            skip = 0


def _stream(*key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(key))


@DATA_SAMPLERS.register_module()
class ShardSampler(InfiniteSampler):
    """Endless order of a `FineHARDStream` for training by iterations: epoch after epoch.

    Each epoch has each item once. Of the list of all epochs, process r of W takes the places
    ``r, r + W, ...``; so the list goes on at the same place with another number of processes.

    Args:
        dataset: With ``shard_counts`` and ``lanes`` (see `ShardEpoch`; best a multiple of the
            number of processes).
        seed: 0 or above, the same on all processes; None draws one that they share.

    Attributes:
        has_one_order: Whether the list of all processes is what one process would take.

    Raises:
        ValueError: `dataset` has no shards.
    """

    has_one_order = True

    def __init__(self, dataset: Dataset, seed: int | None = None) -> None:
        if not hasattr(dataset, "shard_counts"):
            raise ValueError(
                f"{type(dataset).__name__} has no shards: use InfiniteSampler, or FineHARDStream"
            )
        self.counts: np.ndarray = dataset.shard_counts
        self.lanes: int = dataset.lanes
        super().__init__(dataset, shuffle=True, seed=seed)
        # The parent's generator goes on where it stopped, and goes to no other process.
        self.indices = ()

    def __iter__(self) -> Iterator[int]:
        return self._indices_of_rank()

    def numbers(self, first: int = 0) -> Iterator[int]:
        """The list of all processes, from a place on, without end."""
        epoch, place = divmod(first, len(self))
        while True:
            yield from ShardEpoch(self.counts, self.seed, epoch, self.lanes).numbers(place)
            epoch, place = epoch + 1, 0

    def _infinite_indices(self) -> Iterator[int]:
        return self.numbers()


class StreamPlace:
    """Where one process stands in the list of a `ShardSampler`, for loops of one's own.

    Args:
        sampler: Its list.
    """

    def __init__(self, sampler: ShardSampler) -> None:
        self._sampler = sampler
        self._taken = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Place and number of each item from here on; one that was handed out counts as taken."""
        sampler = self._sampler
        first = self._taken + sampler.rank
        numbers = itertools.islice(sampler.numbers(first), 0, None, sampler.world_size)
        for step, number in enumerate(numbers):
            self._taken += sampler.world_size
            yield first + step * sampler.world_size, number

    def state_dict(self) -> dict[str, Any]:
        """Samples that all processes took, and what the list depends on."""
        return {"samples_seen": self._taken, **self._list()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there, with this or another number of processes.

        Raises:
            ValueError: It is the place in another list.
        """
        own = self._list()
        wrong = {name: state.get(name) for name in own if state.get(name) != own[name]}
        taken = state.get("samples_seen")
        if wrong or type(taken) is not int or taken < 0:
            raise ValueError(
                f"the state {state!r} is of another stream than {own!r}: give it the same shards, "
                "seed and lanes"
            )
        self._taken = taken

    def _list(self) -> dict[str, Any]:
        sampler = self._sampler
        return {"seed": sampler.seed, "lanes": sampler.lanes, "items": len(sampler)}
