"""Pickles of plain data, read without running anything.

A pickle is a program. This reader knows lists, dicts, tuples, numbers, strings and numpy arrays of
numbers, and tensors where they are asked for; whatever else a pickle asks for is refused before it
is looked up.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import safe_pickle


class _Callable:
    """A function that a pickle may call and in no way change, as it could a function or a class."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a pickle may not change what it calls")


def _from_buffer(buffer: Any, dtype: Any, shape: tuple, order: str) -> np.ndarray:
    """Stands for numpy's function of this kind, which newer pickles of arrays call."""
    if not isinstance(dtype, safe_pickle.PlainDType) or not isinstance(buffer, bytes | bytearray):
        raise pickle.UnpicklingError("a numpy array is not plain numbers or text")
    return np.frombuffer(buffer, dtype=dtype.dtype).reshape(shape, order=order)


def _encode(text: str, encoding: str) -> bytes:
    """Stands for `_codecs.encode`, by which the oldest pickles give bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _storage(content: Any) -> torch.TypedStorage:
    """Stands for torch's function of this kind, which unpickles anything."""
    if not isinstance(content, bytes):
        raise pickle.UnpicklingError("the numbers of a tensor are no bytes")
    storage = torch.load(io.BytesIO(content), weights_only=True)
    if not isinstance(storage, torch.TypedStorage):
        raise pickle.UnpicklingError("the numbers of a tensor are no storage")
    return storage


def _tensor(storage: Any, offset: int, shape: tuple, stride: tuple, *_: Any) -> np.ndarray:
    """Stands for torch's rebuilding of a tensor; gives an array, without gradients and hooks."""
    if not isinstance(storage, torch.TypedStorage):
        raise pickle.UnpicklingError("a tensor is not made of numbers")
    flat = torch.empty(0, dtype=storage.dtype).set_(storage)
    # This one refuses to reach beyond the numbers, where `set_` would add some.
    view = flat.as_strided(shape, stride, offset)
    return view.float().numpy() if view.dtype == torch.bfloat16 else view.numpy()


_NAMES = {
    "numpy.dtype": safe_pickle.PlainDType,
    "numpy.ndarray": safe_pickle.PlainArray,
    "builtins.bytes": safe_pickle.empty_bytes,
    "__builtin__.bytes": safe_pickle.empty_bytes,
    "_codecs.encode": _encode,
    **{
        f"{package}.{name}": function
        for package in ("numpy.core", "numpy._core")
        for name, function in (
            ("multiarray._reconstruct", safe_pickle.PlainArray),
            ("multiarray.scalar", safe_pickle.plain_scalar),
            ("numeric._frombuffer", _from_buffer),
        )
    },
}
_TENSOR_NAMES = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch.storage._load_from_bytes": _storage,
    # Of hooks of gradients, which are not kept.
    "collections.OrderedDict": lambda: {},
}


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, content: bytes, names: dict[str, Callable[..., Any]]) -> None:
        super().__init__(io.BytesIO(content))
        self._names = names

    def find_class(self, module: str, name: str) -> _Callable:
        function = self._names.get(f"{module}.{name}")
        if function is None:
            raise pickle.UnpicklingError(
                f"it would run {f'{module}.{name}'!r}, and nothing was run; convert tensors and "
                "other objects to lists or numpy arrays where you trust it"
            )
        return _Callable(function)


def load_plain_pickle(path: str | Path, tensors: bool = False) -> Any:
    """Content of a pickle of lists, dicts, tuples, numbers, strings and numpy arrays.

    Args:
        path: The file.
        tensors: Whether tensors of numbers are plain too; they are given as numpy arrays.

    Raises:
        ValueError: The file is missing or truncated, or holds anything else.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read ({error.strerror}): check it") from error
    names = {**_NAMES, **_TENSOR_NAMES} if tensors else _NAMES
    try:
        return safe_pickle.to_plain_numpy(_PlainUnpickler(content, names).load())
    except Exception as error:  # whatever a broken or hostile file makes the machine raise
        reason = str(error) or type(error).__name__
        raise ValueError(f"pickle {str(path)!r} is refused: {reason}") from error
