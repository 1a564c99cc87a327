"""Work that several processes share: batches are formed before, so that each is made alike.

With as many threads in each, features are equal to the bit however many processes there are.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor


@contextmanager
def joined_processes() -> Iterator[None]:
    """A group of the processes that torchrun started, while this lasts; nothing without it.

    It is of the CPU: features are shared there, wherever they are made. The first process alone
    warns.
    """
    if not dist.is_available() or not dist.is_torchelastic_launched():
        yield
        return
    dist.init_process_group("gloo")
    try:
        with warnings.catch_warnings():
            if dist.get_rank():
                warnings.simplefilter("ignore")
            yield
    finally:
        dist.destroy_process_group()


def process_number() -> tuple[int, int]:
    """Number of this process, from 0, and how many share the work: (0, 1) alone."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def own_device(device: str) -> str:
    """The device that is asked for; of "cuda" one for each process, where there are several."""
    number, processes = process_number()
    count = torch.cuda.device_count()
    return f"cuda:{number % count}" if device == "cuda" and processes > 1 and count else device


def put_together(parts: Tensor) -> Tensor:
    """What each process made, on the CPU: zero in the rows of the others, in all of them.

    The others' zeros change no number of a row.

    Raises:
        ConnectionError: Another process ended before.
    """
    if process_number()[1] > 1:
        try:
            dist.all_reduce(parts)
        except RuntimeError:
            # What the backend says is where it happened, and not why.
            raise ConnectionError(
                "another of torchrun's processes ended: its own line tells why"
            ) from None
    return parts
