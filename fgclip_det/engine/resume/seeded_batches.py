"""Batches that bring their seeds along, from any position of a training run."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from mmdet.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler, Sampler

# The first number of a key, so that the keys of steps and of samples never meet.
_STEP, _SAMPLE = 0, 1


def seed_step(seed: int, rank: int, iteration: int) -> None:
    """Seed Python, NumPy and torch (each device) for one training step of one process.

    Args:
        seed: Seed of the run, 0 or above.
        rank: Rank of the process.
        iteration: Iterations done before this one since the run began.
    """
    _seed_generators(_STEP, seed, rank, iteration)


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
        key: Seed of the run, rank, iteration.
    """

    rows: list[int]
    key: tuple[int, int, int]

    def __iter__(self) -> Iterator[int]:
        for place, row in enumerate(self.rows):
            _seed_generators(_SAMPLE, *self.key, place)
            yield row

    def __len__(self) -> int:
        return len(self.rows)


class ResumableBatchSampler(Sampler[SeededBatch]):
    """The batches of another batch sampler, seeded, from the position that `start` names.

    Args:
        sampler: Rows of the dataset.
        batch_size: Rows of a batch.
        batch_sampler: Config of what makes batches of rows; None is torch's.
        drop_last: Whether torch's leaves out an incomplete last batch.
        endless: Whether to go through the sampler again and again, as training by iterations does.
    """

    def __init__(
        self,
        sampler: Sampler[int],
        batch_size: int,
        batch_sampler: dict | None = None,
        drop_last: bool = False,
        endless: bool = False,
    ) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        if batch_sampler is None:
            self.batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        else:
            arguments = dict(sampler=sampler, batch_size=batch_size)
            self.batch_sampler = DATA_SAMPLERS.build(batch_sampler, default_args=arguments)
        self.endless = endless
        self.start(seed=0, rank=0, iteration=0)

    def start(self, seed: int, rank: int, iteration: int, skip: int = 0) -> None:
        """Say where the next pass begins.

        Args:
            seed: Seed of the run, 0 or above.
            rank: Rank of the process.
            iteration: Iterations done since the run began.
            skip: Batches of the pass that were used already; no picture of theirs is read.
        """
        self._key = seed, rank
        self._iteration = iteration
        self._skip = skip

    def __iter__(self) -> Iterator[SeededBatch]:
        batches = itertools.islice(self._batches(), self._skip, None)
        for iteration, rows in enumerate(batches, self._iteration):
            yield SeededBatch(list(rows), (*self._key, iteration))

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def _batches(self) -> Iterator[list[int]]:
        for epoch in itertools.count():
            if self.endless and hasattr(self.sampler, "set_epoch"):
                self.sampler.set_epoch(epoch)
            is_empty = True
            for rows in self.batch_sampler:
                is_empty = False
                yield rows
            if is_empty:
                raise ValueError(
                    f"the training data gives no batch of {self.batch_size}: lower "
                    "train_dataloader.batch_size or unset drop_last"
                )
            if not self.endless:
                return


def resumable_loader(dataloader: dict, endless: bool = False) -> dict:
    """The config of a data loader with a `ResumableBatchSampler` around its batch sampler."""
    config = dict(dataloader)
    sampler = dict(type=ResumableBatchSampler, endless=endless)
    if config.get("batch_sampler") is None:
        sampler["drop_last"] = config.pop("drop_last", False)
    sampler["batch_sampler"] = config.get("batch_sampler")
    return {**config, "batch_sampler": sampler}
