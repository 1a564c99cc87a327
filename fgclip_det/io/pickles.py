"""Pickles of plain data, read without running anything.

A pickle is a program. This reader knows lists, dicts, tuples, numbers, strings and numpy arrays of
numbers, and tensors for whoever passes a function that decodes them; whatever else a pickle asks
for is refused before it is looked up.

Allow-listing numpy's own reconstruction functions would be unsafe: `numpy.dtype.__setstate__` lets
a pickle declare raw bytes to be Python object pointers. So each name maps to a function or class
here that rebuilds plain numbers and text and refuses everything else.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fgclip_det.io.regular_files import read_bytes

PLAIN_KINDS = "biufcSU"
DecodeTensor = Callable[[bytes, int, tuple[int, ...], tuple[int, ...]], np.ndarray]


class PlainDType:
    """Stands for `numpy.dtype` while a file is read: numbers, bool and text only."""

    # Neither a set nor the keys of a dict, which are not searched, can hide one.
    __hash__ = None

    def __init__(self, name: Any, align: bool = False, copy: bool = False) -> None:
        dtype = np.dtype(name) if isinstance(name, str) else None
        if dtype is None or dtype.kind not in PLAIN_KINDS or dtype.fields or dtype.subdtype:
            raise pickle.UnpicklingError(f"numpy dtype {name!r} is not plain numbers or text")
        self.dtype = dtype

    def __setstate__(self, state: tuple) -> None:
        """Take the byte order; check that nothing else in numpy's state departs from plain."""
        _, byte_order, *structure = state[:5]
        if any(part is not None for part in structure) or byte_order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(
                f"numpy dtype state {state!r} is not plain numbers or text"
            )
        self.dtype = self.dtype.newbyteorder(byte_order)


class PlainArray(np.ndarray):
    """A numpy array while a file is read; pickles as, and behaves as, `numpy.ndarray`."""

    def __new__(cls, base: type, shape: tuple, code: bytes) -> PlainArray:
        return super().__new__(cls, (0,), dtype=np.int8)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, raw = state
        if not isinstance(dtype, PlainDType) or not isinstance(raw, bytes):
            raise pickle.UnpicklingError("a numpy array is not plain numbers or text")
        super().__setstate__((1, shape, dtype.dtype, is_fortran, raw))

    def __reduce__(self) -> tuple:
        return self.view(np.ndarray).__reduce__()


def plain_scalar(dtype: PlainDType, raw: bytes) -> np.generic:
    """Rebuild one numpy scalar from its bytes."""
    if not isinstance(dtype, PlainDType) or not isinstance(raw, bytes):
        raise pickle.UnpicklingError("a numpy scalar is not a plain number or text")
    if not dtype.dtype.itemsize and not raw:  # an empty text
        return dtype.dtype.type()
    return np.frombuffer(raw, dtype=dtype.dtype, count=1)[0]


def empty_bytes() -> bytes:
    """Stands for `builtins.bytes`, which pickle calls for the data of an empty array."""
    return b""


def to_plain_numpy(value: Any, has_parts: Callable[[Any], bool] = lambda value: False) -> Any:
    """Replace each `PlainArray` inside dicts, lists and tuples by its base array.

    Each container is visited once, so one that holds itself or is shared many times ends too.

    Args:
        value: What was read.
        has_parts: Tells objects whose attributes are to be replaced likewise.
    """
    return _Plain(has_parts).convert(value)


class _Plain:
    def __init__(self, has_parts: Callable[[Any], bool]) -> None:
        self._has_parts = has_parts
        # By id; the values are held so that no id is used again.
        self._done: dict[int, tuple[Any, Any]] = {}
        self._unfilled: list[dict | list] = []

    def convert(self, value: Any) -> Any:
        found = self._converted(value)
        while self._unfilled:
            part = self._unfilled.pop()
            # Not by methods of a class of its own, such as a config's.
            own = dict if isinstance(part, dict) else list
            for key in list(part) if own is dict else range(len(part)):
                own.__setitem__(part, key, self._converted(own.__getitem__(part, key)))
        return found

    def _converted(self, value: Any) -> Any:
        if isinstance(value, _Storage | PlainDType | _Callable):
            raise pickle.UnpicklingError("a type, or a storage of no tensor, is no plain data")
        if id(value) not in self._done:
            if isinstance(value, PlainArray):
                self._done[id(value)] = (value, value.view(np.ndarray))
            elif type(value) is tuple:
                # Ends: a tuple that holds itself does so by way of a list or a dict, which wait.
                self._done[id(value)] = (value, tuple(map(self._converted, value)))
            elif isinstance(value, dict | list) or self._has_parts(value):
                self._done[id(value)] = (value, value)
                self._unfilled.append(value if isinstance(value, dict | list) else vars(value))
            else:
                return value
        return self._done[id(value)][1]


class _Callable:
    """A function that a pickle may call and in no way change, as it could a function or a class."""

    __slots__ = ("_function",)
    __hash__ = None

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a pickle may not change what it calls")


def _from_buffer(buffer: Any, dtype: Any, shape: tuple, order: str) -> np.ndarray:
    """Stands for numpy's function of this kind, which newer pickles of arrays call."""
    if not isinstance(dtype, PlainDType) or not isinstance(buffer, bytes | bytearray):
        raise pickle.UnpicklingError("a numpy array is not plain numbers or text")
    return np.frombuffer(buffer, dtype=dtype.dtype).reshape(shape, order=order)


def _encode(text: str, encoding: str) -> bytes:
    """Stands for `_codecs.encode`, by which the oldest pickles give bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


_NAMES = {
    "numpy.dtype": PlainDType,
    "numpy.ndarray": PlainArray,
    "builtins.bytes": empty_bytes,
    "__builtin__.bytes": empty_bytes,
    "_codecs.encode": _encode,
    **{
        f"{package}.{name}": function
        for package in ("numpy.core", "numpy._core")
        for name, function in (
            ("multiarray._reconstruct", PlainArray),
            ("multiarray.scalar", plain_scalar),
            ("numeric._frombuffer", _from_buffer),
        )
    },
}


class _Storage:
    """The content of a tensor's storage, which nothing but a tensor may hold."""

    __hash__ = None

    def __init__(self, content: Any) -> None:
        if not isinstance(content, bytes):
            raise pickle.UnpicklingError("the numbers of a tensor are no bytes")
        self.content = content


def _tensor_names(decode: DecodeTensor) -> dict[str, Callable[..., Any]]:
    def tensor(storage: Any, offset: int, shape: tuple, stride: tuple, *_: Any) -> np.ndarray:
        if not isinstance(storage, _Storage):
            raise pickle.UnpicklingError("a tensor is not made of numbers")
        return decode(storage.content, offset, shape, stride)

    return {
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch.storage._load_from_bytes": _Storage,
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


def _check_memo(content: bytes) -> None:
    """Refuse what would make the reader's memo, a list, longer than the pickle's steps fill it."""
    for steps, (step, argument, _) in enumerate(pickletools.genops(content)):
        if step.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > steps:
            raise pickle.UnpicklingError(f"it notes its value {argument} in step {steps}")


def read_pickle(path: str | Path, decode_tensor: DecodeTensor | None = None) -> Any:
    """Content of a pickle of lists, dicts, tuples, numbers, strings and numpy arrays.

    Args:
        path: The file.
        decode_tensor: Makes an array of a PyTorch tensor's storage as `torch.save` wrote it (bytes;
            it must not run what they hold), offset, shape and stride in elements;
            `fgclip_det.compat.decode_tensor` does. None refuses tensors.

    Raises:
        ValueError: The file is missing or truncated, or holds anything else.
    """
    content = read_bytes(path, "pickle")
    names = _NAMES if decode_tensor is None else {**_NAMES, **_tensor_names(decode_tensor)}
    try:
        _check_memo(content)
        return to_plain_numpy(_PlainUnpickler(content, names).load())
    except Exception as error:  # whatever a broken or hostile file makes the machine raise
        reason = str(error) or type(error).__name__
        raise ValueError(f"pickle {str(path)!r} is refused: {reason}") from error
