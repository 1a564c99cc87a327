"""Which rows of a loss each process has, and how a process sees those of the others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, distributed
from torch.autograd import Function


@dataclass(frozen=True)
class RowShares:
    """Rows of one kind (pictures, regions, groups) on each process that a loss goes over.

    Every process that takes part has the same `counts`, and so enters the same collectives, also
    where it has no row itself.

    Attributes:
        counts: Rows of each process, in the order of ranks; one number for a loss of one process.
        rank: Place of this process in `counts`.
    """

    counts: tuple[int, ...]
    rank: int = 0

    @classmethod
    def local(cls, count: int) -> RowShares:
        """The rows of this process alone, whatever others have."""
        return cls((count,))

    @classmethod
    def of_all_processes(cls, counts: list[int], device: torch.device) -> list[RowShares]:
        """The shares of several kinds of rows, told to each other in one collective.

        Args:
            counts: Rows of each kind that this process has.
            device: Of the process group's collectives.
        """
        if world_size() == 1:
            return [cls.local(count) for count in counts]
        own = torch.tensor(counts, device=device)
        everybody = [torch.empty_like(own) for _ in range(world_size())]
        distributed.all_gather(everybody, own)
        kinds = torch.stack(everybody, dim=1).tolist()
        return [cls(tuple(of_kind), distributed.get_rank()) for of_kind in kinds]

    @property
    def total(self) -> int:
        """Rows of all processes together."""
        return sum(self.counts)

    @property
    def own(self) -> int:
        """Rows of this process."""
        return self.counts[self.rank]

    @property
    def start(self) -> int:
        """Place of this process's first row among all."""
        return sum(self.counts[: self.rank])

    def labels(self, device: torch.device) -> Tensor:
        """(own,) int64: place of each own row among all."""
        return torch.arange(self.start, self.start + self.own, device=device)

    def gather(self, rows: Tensor) -> Tensor:
        """Rows of all processes in the order of ranks, each with its gradient.

        Args:
            rows: (own, D) of this process.

        Returns:
            (total, D). Gradients that other processes have for `rows` reach them in backward.
        """
        if len(self.counts) == 1 or not self.total:
            return rows
        longest = max(self.counts)
        everybody = _Gather.apply(F.pad(rows, (0, 0, 0, longest - len(rows))))
        if len(everybody) == self.total:
            return everybody
        parts = everybody.split(longest)
        return torch.cat([part[:count] for part, count in zip(parts, self.counts, strict=True)])

    def mean(self, losses: Tensor) -> Tensor:
        """What this process adds to the mean over the rows of all processes.

        Gradients are averaged over processes, as DistributedDataParallel does it: the mean over
        processes of this result is the mean over all rows, however unevenly these are spread.

        Args:
            losses: (own,), one for each row of this process.

        Returns:
            Scalar; zero, with a gradient path, where no process has a row.
        """
        return losses.sum() * (len(self.counts) / max(self.total, 1))


class _Gather(Function):
    """Equal shares of rows (B, D) -> (W * B, D), gradients summed over processes.

    torch.distributed.nn gathers into a list, which is then copied, and but for NCCL it takes three
    times as much again in backward.
    """

    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        everybody = rows.new_empty(world_size() * len(rows), *rows.shape[1:])
        distributed.all_gather_into_tensor(everybody, rows.contiguous())
        return everybody

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        own = gradient.new_empty(len(gradient) // world_size(), *gradient.shape[1:])
        distributed.reduce_scatter_tensor(own, gradient.contiguous())
        return own


def world_size() -> int:
    """Processes of the default group; 1 without one."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()
