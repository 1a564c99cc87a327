"""The order of a run: one list of samples, dealt to any number of processes, with its seeds.

Sample n of an epoch is row n of the permutation that the seed and the epoch give. An iteration
takes the next ``parts * batch_size`` of them, and part p of it every ``parts``-th from the p-th on
(`RunLayout`). So which samples an iteration sees, and with which random numbers each of them is
read, depends neither on the number of processes nor on how the iteration is cut.
"""

from __future__ import annotations

import copy
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.dist import get_dist_info
from torch.utils.data import BatchSampler, Sampler

from fgclip_det.engine.resume.run_layout import check_count, check_parts

# The first number of a key, so that the keys of steps and of samples never meet.
_STEP, _SAMPLE = 0, 1


def seed_step(seed: int, part: int, iteration: int) -> None:
    """Seed Python, NumPy and torch (each device) for the training step of one part.

    Args:
        seed: Seed of the run, 0 or above.
        part: Part of the iteration; with as many parts as processes, the rank of the process.
        iteration: Iterations done before this one since the run began.
    """
    _seed_generators(_STEP, seed, part, iteration)


def _seed_generators(*key: int) -> None:
    words = np.random.SeedSequence(key).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]) << 32 | int(words[3]))


@dataclass(frozen=True)
class SeededBatch:
    """Rows of one batch; going through them seeds the generators before each row.

    The data loader does that right before it asks the dataset for the row, in the process which
    does the work. So a sample depends on neither the worker that reads it nor what that worker read
    before, and the dataset stays the user's own object.

    Attributes:
        rows: Rows of the dataset.
        key: Seed of the run, a number that keeps dealers apart, iteration.
        places: Place of each row among the samples of that key.
    """

    rows: list[int]
    key: tuple[int, int, int]
    places: range

    def __iter__(self) -> Iterator[int]:
        for place, row in zip(self.places, self.rows, strict=True):
            _seed_generators(_SAMPLE, *self.key, place)
            yield row

    def __len__(self) -> int:
        return len(self.rows)


class ResumableBatchSampler(Sampler[SeededBatch]):
    """The batches of this process, seeded, from the position that `start` names.

    MMEngine's `DefaultSampler` and `InfiniteSampler`, and what is made of them with a true
    ``has_one_order``, give the order, which is dealt here. Other samplers, and batch samplers of a
    config, deal by themselves to the processes that there are; what they give is taken as it is,
    and `is_dealt` is False.

    Where the samples of an epoch's last iteration cannot be shared evenly, the first ones of the
    epoch fill it up, at most ``parts - 1`` of them (whatever ``round_up`` says: a process without a
    batch would leave the others waiting). With `drop_last` an incomplete iteration is left out.

    Args:
        sampler: Rows of the dataset.
        batch_size: Rows of a batch.
        batch_sampler: Config of what makes batches of rows; None is `drop_last`'s.
        drop_last: Whether to leave out an incomplete last iteration.
        endless: Whether to go through the sampler again and again, as training by iterations does.
        parts: Batches of an iteration; None is one for each process.

    Raises:
        ValueError: `batch_size` is no whole number from 1, `parts` does not fit the processes or
            the sampler, or there are no samples.
    """

    def __init__(
        self,
        sampler: Sampler[int],
        batch_size: int,
        batch_sampler: dict | None = None,
        drop_last: bool = False,
        endless: bool = False,
        parts: int | None = None,
    ) -> None:
        check_count("train_dataloader.batch_size", batch_size)
        self.rank, self.processes = get_dist_info()
        self.sampler = sampler
        self.drop_last = drop_last
        self.endless = endless
        has_one_order = getattr(sampler, "has_one_order", False)
        has_one_order |= type(sampler) in (DefaultSampler, InfiniteSampler)
        self.is_dealt = batch_sampler is None and has_one_order
        if self.is_dealt:
            self.batch_sampler = None
        elif batch_sampler is None:
            self.batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        else:
            arguments = dict(sampler=sampler, batch_size=batch_size)
            self.batch_sampler = DATA_SAMPLERS.build(batch_sampler, default_args=arguments)
        if self.is_dealt and not len(sampler.dataset):
            raise ValueError("the training data have 0 samples: check train_dataloader.dataset")
        if parts is not None and not self.is_dealt:
            raise ValueError(
                f"train_cfg.parts is {parts!r}, and the sampler or batch sampler of "
                "train_dataloader deals by itself: leave parts out, or take MMEngine's "
                "DefaultSampler or InfiniteSampler"
            )
        self.deal(check_parts(parts, self.processes), batch_size)
        self.start(seed=0, iteration=0)

    def deal(self, parts: int, batch_size: int) -> None:
        """Say what an iteration is made of (`RunLayout`).

        Args:
            parts: Batches of an iteration, a multiple of the number of processes.
            batch_size: Samples of a batch.
        """
        self.parts = parts
        self.batch_size = batch_size

    @property
    def own_parts(self) -> range:
        """Parts of each iteration that this process trains, in this order."""
        return range(self.rank, self.parts, self.processes)

    def start(self, seed: int, iteration: int, skip: int = 0) -> None:
        """Say where the next pass begins.

        Args:
            seed: Seed of the run, 0 or above.
            iteration: Iterations done since the run began.
            skip: Iterations of the pass that were done already; no picture of theirs is read.
        """
        self._seed = seed
        self._iteration = iteration
        self._skip = skip

    def __iter__(self) -> Iterator[SeededBatch]:
        one_pass = self._blocks if self.is_dealt else self.batch_sampler.__iter__
        taken = itertools.islice(self._endlessly(one_pass), self._skip, None)
        for iteration, rows in enumerate(taken, self._iteration):
            if not self.is_dealt:
                key = self._seed, self.rank, iteration
                yield SeededBatch(list(rows), key, range(len(rows)))
                continue
            for part in self.own_parts:
                places = range(part, len(rows), self.parts)
                yield SeededBatch(rows[part :: self.parts], (self._seed, 0, iteration), places)

    def __len__(self) -> int:
        """Iterations of a pass through the data."""
        if self.batch_sampler is not None:
            return len(self.batch_sampler)
        iterations = len(self.sampler.dataset) / (self.parts * self.batch_size)
        return math.floor(iterations) if self.drop_last else math.ceil(iterations)

    def samples_of(self, index: int) -> int:
        """Samples of an iteration of all processes, without those that fill it up.

        Args:
            index: Number of the iteration in its pass, or since the run began.
        """
        samples = self.parts * self.batch_size
        if not self.is_dealt or isinstance(self.sampler, InfiniteSampler):
            return samples
        return min(samples, len(self.sampler.dataset) - index % len(self) * samples)

    def _endlessly(self, one_pass: Callable[[], Iterable[list[int]]]) -> Iterator[list[int]]:
        for epoch in itertools.count():
            if self.endless and hasattr(self.sampler, "set_epoch"):
                self.sampler.set_epoch(epoch)
            is_empty = True
            for rows in one_pass():
                is_empty = False
                yield rows
            if is_empty:
                raise ValueError(
                    f"the training data gives no batch of {self.batch_size}: lower "
                    "train_dataloader.batch_size or unset drop_last"
                )
            if not self.endless:
                return

    def _blocks(self) -> Iterator[list[int]]:
        """The rows of each iteration of a pass."""
        rows, samples = iter(_whole_order(self.sampler)), self.parts * self.batch_size
        first: list[int] = []
        while block := list(itertools.islice(rows, samples)):
            first = first or block
            if len(block) < samples and self.drop_last:
                return
            lacking = -len(block) % self.parts
            yield block + list(itertools.islice(itertools.cycle(first), lacking))


def _whole_order(sampler: DefaultSampler | InfiniteSampler) -> Sampler[int]:
    """A copy of `sampler` that gives the rows of all processes, and none of them twice."""
    whole = copy.copy(sampler)
    whole.rank, whole.world_size = 0, 1
    if isinstance(whole, InfiniteSampler):
        whole.indices = whole._indices_of_rank()
    else:
        whole.num_samples = whole.total_size = len(whole.dataset)
    return whole


def resumable_loader(dataloader: dict, endless: bool = False, parts: int | None = None) -> dict:
    """The config of a data loader with a `ResumableBatchSampler` around its batch sampler."""
    config = dict(dataloader)
    sampler = dict(type=ResumableBatchSampler, endless=endless, parts=parts)
    if config.get("batch_sampler") is None:
        sampler["drop_last"] = config.pop("drop_last", False)
    sampler["batch_sampler"] = config.get("batch_sampler")
    return {**config, "batch_sampler": sampler}
