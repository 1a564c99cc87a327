"""Where one of several processes ends, the others end too, with one line that tells why."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch.distributed as dist
from mmengine.dist import get_rank, get_world_size

from fgclip_det.exit_codes import OtherProcessError

# Name in the store that all processes share, which torchrun's process or the first one keeps.
_ENDED = "fgclip_det/ended"
_GONE = ("Connection closed", "Connection reset", "Broken pipe", "closed connection", "aborted")
_LATE = ("Timed out", "timed out", "timeout")


@contextlib.contextmanager
def linked_processes() -> Iterator[None]:
    """Around the work of one process of a run, from before it joins the others until its end.

    Raises:
        OtherProcessError: This one was waiting for another, which ended or did not answer in time.
    """
    try:
        yield
    except OtherProcessError:
        raise
    except Exception as error:
        if not dist.is_available() or not dist.is_initialized():
            raise
        if is_lost_connection(error):
            raise OtherProcessError(_why_lost(error)) from None
        with contextlib.suppress(RuntimeError):  # nobody is left to be told
            reason = f"process {get_rank()} did: {str(error) or type(error).__name__}"
            _store().compare_set(_ENDED, "", reason)
        raise
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def is_lost_connection(error: BaseException) -> bool:
    """Whether torch says that another process is gone, or did not answer in time."""
    if not isinstance(error, RuntimeError):
        return False
    text = str(error)
    is_of_backend = isinstance(error, dist.DistError) or "gloo/" in text
    return is_of_backend and any(sign in text for sign in (*_GONE, *_LATE))


def _why_lost(error: Exception) -> str:
    told = None
    with contextlib.suppress(RuntimeError):  # the store went with the process that kept it
        told = _store().get(_ENDED).decode() if _store().check([_ENDED]) else None
    ends = f"process {get_rank()} of {get_world_size()} ends"
    if told:
        return f"{ends}, as {told}"
    if any(sign in str(error) for sign in _GONE):
        return f"{ends}: another one is gone (killed, or its machine is): go on with --resume"
    return (
        f"{ends}: another one did not answer within the limit of env_cfg.dist_cfg.timeout: look "
        "what it does, raise the limit if that is right, and go on with --resume"
    )


def _store() -> dist.Store:
    return dist.distributed_c10d._get_default_store()
