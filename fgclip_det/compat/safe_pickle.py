"""Objects rebuilt from a pickle besides plain data: mmengine's log history, and tensors.

mmengine stores numpy arrays, numpy scalars, `HistoryBuffer` and `ConfigDict` beside the weights.
`builtins.getattr`, which a pickled `HistoryBuffer` calls, reaches anything, so it is stood in for
as `fgclip_det.io.pickles` stands in for numpy.
"""

import importlib
import importlib.util
import io
import math
import zipfile
from pickle import UnpicklingError
from typing import Any, BinaryIO

import numpy as np
import torch

from fgclip_det.io import pickles, quoted

# Values of an expanded tensor, which holds fewer, up to which it is taken.
_REPEATED = 10_000_000
HISTORY_METHODS = ("min", "max", "current", "mean")


def history_method(owner: Any, name: str) -> Any:
    """Stands for `builtins.getattr`, with which `HistoryBuffer` names its statistics."""
    if getattr(owner, "__name__", "") != "HistoryBuffer" or name not in HISTORY_METHODS:
        raise UnpicklingError(f"getattr({owner!r}, {name!r}) is not a statistic of HistoryBuffer")
    return getattr(owner, name)


def register() -> None:
    """Add the names of this module to torch's allow-list, with mmengine's where installed."""
    names: list[tuple[Any, str]] = [
        (pickles.PlainDType, "numpy.dtype"),
        (pickles.PlainArray, "numpy.ndarray"),
        (pickles.empty_bytes, "builtins.bytes"),
        (history_method, "builtins.getattr"),
    ]
    for package in ("numpy.core", "numpy._core"):
        names.append((pickles.PlainArray, f"{package}.multiarray._reconstruct"))
        names.append((pickles.plain_scalar, f"{package}.multiarray.scalar"))
    if importlib.util.find_spec("mmengine") is not None:
        buffer = importlib.import_module("mmengine.logging.history_buffer").HistoryBuffer
        config = importlib.import_module("mmengine.config").ConfigDict
        names.append((buffer, "mmengine.logging.history_buffer.HistoryBuffer"))
        names.append((config, "mmengine.config.config.ConfigDict"))
    torch.serialization.add_safe_globals(names)


def to_plain_numpy(value: Any) -> Any:
    """Replace stand-ins for arrays by arrays, those in history buffers too."""
    return pickles.to_plain_numpy(value, lambda one: type(one).__name__ == "HistoryBuffer")


def check_packing(stream: BinaryIO, size: int, where: str) -> None:
    """Refuse an archive that unpacks to more than it takes, which torch.save never writes.

    Args:
        stream: The bytes, whatever they are.
        size: How many.
        where: What they are called in messages.

    Raises:
        ValueError: It does.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except Exception:  # no archive, or a broken one: torch says what is wrong with it
        return
    if unpacked > size:
        raise ValueError(
            f"{where} is refused: its {size} bytes unpack to {unpacked}; save it with torch.save, "
            "which packs nothing"
        )


def decode_tensor(
    content: bytes, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
) -> np.ndarray:
    """The numbers of a pickled tensor, without gradients and hooks; for `io.read_pickle`.

    Args:
        content: Its storage, as `torch.save` wrote it.
        offset: Of the first number, in elements.
        shape: Of the array.
        stride: In elements.

    Returns:
        Of the tensor's dtype; float32 for bfloat16, which NumPy lacks.

    Raises:
        UnpicklingError: The content is no storage, or the tensor reaches beyond it.
    """
    check_packing(io.BytesIO(content), len(content), "the storage of a tensor")
    storage = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(storage, torch.TypedStorage):
        raise UnpicklingError("the numbers of a tensor are no storage")
    if math.prod(shape) > max(len(content), _REPEATED):
        raise UnpicklingError(f"a tensor of the shape {quoted(shape)} repeats what it holds")
    flat = torch.empty(0, dtype=storage.dtype).set_(storage)
    # This one refuses to reach beyond the numbers, where `set_` would add some.
    view = flat.as_strided(shape, stride, offset)
    return view.float().numpy() if view.dtype == torch.bfloat16 else view.numpy()
