"""What the first process does alone, while the others wait without limit to hear the outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist
from mmengine.dist import get_rank, get_world_size

from fgclip_det.engine.launch.process_group import patient_group
from fgclip_det.exit_codes import OtherProcessError

T = TypeVar("T")


def on_first_process(work: Callable[[], T]) -> T:
    """Do something in the first process alone. All processes call this.

    Args:
        work: Enters no collective; what it returns can be pickled.

    Returns:
        In every process, what `work` returned.

    Raises:
        OtherProcessError: In the others, where `work` raised; the first process raises that error.
    """
    if get_world_size() == 1:
        return work()
    outcome: list[Any] = [None, None]
    if get_rank() == 0:
        try:
            outcome = [work(), None]
        except Exception as error:
            outcome[1] = str(error) or type(error).__name__
            raise
        finally:
            # Whatever happened: the others are waiting.
            dist.broadcast_object_list(outcome, group=patient_group())
    else:
        dist.broadcast_object_list(outcome, group=patient_group())
        if outcome[1] is not None:
            raise OtherProcessError(f"process {get_rank()} ends, as process 0 did: {outcome[1]}")
    return outcome[0]


def gathered_objects(mine: T) -> list[T] | None:
    """What each process has, by its number, in the first one; None in the others.

    Args:
        mine: Can be pickled, its tensors on the CPU.
    """
    if get_world_size() == 1:
        return [mine]
    parts = [None] * get_world_size() if get_rank() == 0 else None
    dist.gather_object(mine, parts, group=patient_group())
    return parts
