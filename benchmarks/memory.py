"""Peak memory of one call, its result included, its inputs not.

On CUDA this is what torch's allocator counts. On the CPU torch counts tensors only, and operators
also allocate by `new` and `std::vector`; so it is the process's peak resident memory, which the
kernel keeps (`VmHWM`) and sets back on request. Two things would hide memory from it: an allocator
that serves a call from pages it kept from an earlier one, hence `malloc_trim` before each call and
a process of its own whose malloc keeps no large blocks; and the kernel's counters, which are exact
to about half a MiB only.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
# Blocks from this size on go back to the system as soon as they are freed.
SMALL_BLOCKS = {"MALLOC_MMAP_THRESHOLD_": "65536"}


def resident(field: str) -> int:
    """A line of /proc/self/status in bytes: `VmRSS` is now, `VmHWM` the peak."""
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{STATUS} has no {field}")


def _peak_on_cpu(call: Callable[[], Any]) -> int:
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    CLEAR.write_text(RESET_PEAK, encoding="ascii")
    before = resident("VmRSS")
    result = call()
    peak = resident("VmHWM")
    del result
    return max(0, peak - before)


def _peak_on_cuda(call: Callable[[], Any]) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = call()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated()
    del result
    return max(0, peak - before)


def peak_bytes(call: Callable[[], Any], device: str) -> int | None:
    """Peak memory of `call()` in bytes, above what was taken before it.

    Args:
        call: Called twice; the first call lets thread pools and tables come into being.
        device: "cpu" or "cuda".

    Returns:
        Bytes, or None where the system does not tell (no Linux, or a closed /proc).
    """
    call()
    if device == "cuda":
        return _peak_on_cuda(call)
    try:
        return _peak_on_cpu(call)
    except OSError:
        return None


@contextlib.contextmanager
def measuring_process(threads: int) -> Iterator[ProcessPoolExecutor]:
    """A fresh process of `threads` CPU threads to call `peak_bytes` in; gives its executor."""
    before = {name: os.environ.get(name) for name in SMALL_BLOCKS}
    os.environ.update(SMALL_BLOCKS)
    try:
        with ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=torch.set_num_threads,
            initargs=(threads,),
        ) as executor:
            executor.submit(os.getpid).result()
            yield executor
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
