"""What a `weights_only=True` checkpoint may rebuild besides tensors: mmengine's log history.

mmengine stores numpy arrays, numpy scalars, `HistoryBuffer` and `ConfigDict` beside the weights.
Allow-listing numpy's own reconstruction functions would be unsafe: `numpy.dtype.__setstate__`
lets a pickle declare raw bytes to be Python object pointers, and `builtins.getattr`, which a
pickled `HistoryBuffer` calls, reaches anything. So each name maps to a function or class here
that rebuilds plain numbers and text and refuses everything else.
"""

import importlib
import importlib.util
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

PLAIN_KINDS = "biufcSU"
HISTORY_METHODS = ("min", "max", "current", "mean")


class PlainDType:
    """Stands for `numpy.dtype` while a checkpoint is read: numbers, bool and text only."""

    def __init__(self, name: Any, align: bool = False, copy: bool = False) -> None:
        dtype = np.dtype(name) if isinstance(name, str) else None
        if dtype is None or dtype.kind not in PLAIN_KINDS or dtype.fields or dtype.subdtype:
            raise UnpicklingError(f"numpy dtype {name!r} is not plain numbers or text")
        self.dtype = dtype

    def __setstate__(self, state: tuple) -> None:
        """Take the byte order; check that nothing else in numpy's state departs from plain."""
        _, byte_order, *structure = state[:5]
        if any(part is not None for part in structure) or byte_order not in ("<", ">", "|", "="):
            raise UnpicklingError(f"numpy dtype state {state!r} is not plain numbers or text")
        self.dtype = self.dtype.newbyteorder(byte_order)


class PlainArray(np.ndarray):
    """A numpy array read from a checkpoint; pickles as, and behaves as, `numpy.ndarray`."""

    def __new__(cls, base: type, shape: tuple, code: bytes) -> "PlainArray":
        return super().__new__(cls, (0,), dtype=np.int8)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, raw = state
        if not isinstance(dtype, PlainDType) or not isinstance(raw, bytes):
            raise UnpicklingError("a numpy array in the checkpoint is not plain numbers or text")
        super().__setstate__((1, shape, dtype.dtype, is_fortran, raw))

    def __reduce__(self) -> tuple:
        return self.view(np.ndarray).__reduce__()


def plain_scalar(dtype: PlainDType, raw: bytes) -> np.generic:
    """Rebuild one numpy scalar from its bytes."""
    if not isinstance(dtype, PlainDType) or not isinstance(raw, bytes):
        raise UnpicklingError("a numpy scalar in the checkpoint is not a plain number or text")
    return np.frombuffer(raw, dtype=dtype.dtype, count=1)[0]


def history_method(owner: Any, name: str) -> Any:
    """Stands for `builtins.getattr`, with which `HistoryBuffer` names its statistics."""
    if getattr(owner, "__name__", "") != "HistoryBuffer" or name not in HISTORY_METHODS:
        raise UnpicklingError(f"getattr({owner!r}, {name!r}) is not a statistic of HistoryBuffer")
    return getattr(owner, name)


def empty_bytes() -> bytes:
    """Stands for `builtins.bytes`, which pickle calls for the data of an empty array."""
    return b""


def register() -> None:
    """Add the names of this module to torch's allow-list, with mmengine's where installed."""
    names: list[tuple[Any, str]] = [
        (PlainDType, "numpy.dtype"),
        (PlainArray, "numpy.ndarray"),
        (empty_bytes, "builtins.bytes"),
        (history_method, "builtins.getattr"),
    ]
    for package in ("numpy.core", "numpy._core"):
        names.append((PlainArray, f"{package}.multiarray._reconstruct"))
        names.append((plain_scalar, f"{package}.multiarray.scalar"))
    if importlib.util.find_spec("mmengine") is not None:
        buffer = importlib.import_module("mmengine.logging.history_buffer").HistoryBuffer
        config = importlib.import_module("mmengine.config").ConfigDict
        names.append((buffer, "mmengine.logging.history_buffer.HistoryBuffer"))
        names.append((config, "mmengine.config.config.ConfigDict"))
    torch.serialization.add_safe_globals(names)


def to_plain_numpy(value: Any) -> Any:
    """Replace each `PlainArray` inside dicts, sequences and history buffers by its base array."""
    if isinstance(value, PlainArray):
        return value.view(np.ndarray)
    if isinstance(value, dict):
        for key in value:
            dict.__setitem__(value, key, to_plain_numpy(dict.__getitem__(value, key)))
    elif isinstance(value, list):
        value[:] = [to_plain_numpy(item) for item in value]
    elif type(value) is tuple:
        return tuple(to_plain_numpy(item) for item in value)
    elif type(value).__name__ == "HistoryBuffer":
        to_plain_numpy(vars(value))
    return value
