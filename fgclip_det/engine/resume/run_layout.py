"""What an iteration of a run is made of, whatever the number of processes."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class RunLayout:
    """An iteration's samples, and the batches that they are dealt into.

    Attributes:
        parts: Batches of an iteration, each the work of one process at one time; process r of W
            trains parts r, r + W, … one after another.
        batch_size: Samples of a part.
        accumulative_counts: Iterations of one update of the weights.
    """

    parts: int
    batch_size: int
    accumulative_counts: int

    @property
    def samples(self) -> int:
        """Samples of an iteration."""
        return self.parts * self.batch_size


def check_count(key: str, count: object) -> None:
    """Check what a config says a number of.

    Raises:
        ValueError: `count` is no whole number from 1; it names the config's `key`.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"{key} is {count!r}: give a whole number from 1")


def check_parts(parts: int | None, processes: int) -> int:
    """The parts of an iteration of a new run.

    Args:
        parts: What the config asks for; None is one for each process.
        processes: Processes of the run.

    Raises:
        ValueError: `parts` is no number that the processes can share evenly.
    """
    if parts is None:
        return processes
    check_count("train_cfg.parts", parts)
    if parts % processes:
        raise ValueError(
            f"train_cfg.parts is {parts}, which {processes} processes cannot share evenly: start "
            f"{_working_numbers(parts, processes)} of them, or give a multiple of {processes}"
        )
    return parts


def resumed_layout(
    saved: RunLayout, asked: RunLayout, processes: int, can_be_dealt: bool
) -> RunLayout:
    """How a run goes on, on as many or on another number of processes.

    An iteration stays what it was: the same samples, and as many iterations for an update. Where
    the config's batch size gives as many samples with the processes of now, it is taken. Where it
    is the one of the checkpoint, the parts of the checkpoint are kept: fewer processes train
    several of them one after another, more processes cut them into smaller ones.

    Args:
        saved: Layout that the checkpoint was trained with.
        asked: Layout by the config and the processes of now.
        processes: Processes of now.
        can_be_dealt: Whether the batches can be dealt to another number of processes.

    Returns:
        The layout to go on with; its parts are a multiple of `processes`.

    Raises:
        ValueError: The config asks for another number of samples an update, or the processes cannot
            share the iteration.
    """
    if asked.accumulative_counts != saved.accumulative_counts:
        raise ValueError(
            f"optim_wrapper.accumulative_counts is {asked.accumulative_counts}, and the checkpoint "
            f"was trained with {saved.accumulative_counts}: leave it as it was (on fewer processes "
            "batches are accumulated without it), or start a new run from its weights (load_from)"
        )
    if not can_be_dealt and asked.parts != saved.parts:
        raise ValueError(
            f"the checkpoint was trained on {saved.parts} processes, not on {processes} processes, "
            "and only MMEngine's DefaultSampler and InfiniteSampler, without a batch_sampler, are "
            f"dealt to another number: start {saved.parts} of them"
        )
    if asked.samples == saved.samples:
        return asked
    if asked.batch_size != saved.batch_size or asked.parts != processes:
        raise ValueError(
            f"{asked.parts} batches of {asked.batch_size} are {asked.samples} samples an "
            f"iteration, and the checkpoint was trained with {saved.samples} ({saved.parts} "
            f"batches of {saved.batch_size}): set train_dataloader.batch_size to "
            f"{saved.batch_size} and leave train_cfg.parts out, give two whose product is "
            f"{saved.samples}, or start a new run from its weights (load_from)"
        )
    if saved.samples % processes:
        raise ValueError(
            f"{processes} processes cannot share the {saved.samples} samples of an iteration of "
            f"this checkpoint evenly: start {_working_numbers(saved.samples, processes)} of them"
        )
    parts = math.lcm(saved.parts, processes)
    return RunLayout(parts, saved.samples // parts, saved.accumulative_counts)


def _working_numbers(shared: int, processes: int, most: int = 6) -> str:
    """The numbers of processes next to `processes` that share `shared` things evenly."""
    numbers = [number for number in range(1, shared + 1) if shared % number == 0]
    nearest = sorted(sorted(numbers, key=lambda number: abs(number - processes))[:most])
    return " or ".join(map(str, nearest))
