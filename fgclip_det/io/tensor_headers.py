"""Headers of ``.safetensors`` files: what is stored, looked at before any of it is read or mapped.

The format: eight bytes with the length of a JSON object, which gives for each tensor its dtype, its
shape and where its bytes lie behind the object; then the bytes.
"""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

from fgclip_det.io.json_files import parse_json
from fgclip_det.io.messages import quoted
from fgclip_det.io.regular_files import open_regular

# That of a model of a thousand tensors is 0.1 MB.
MAX_HEADER_BYTES = 16_000_000
_LENGTH_BYTES = 8
_LABELS = "__metadata__"
_SIDE_LIMIT = 2**48


class TensorHeader(NamedTuple):
    """What a file holds.

    Attributes:
        shapes: Of each tensor, by its name.
        labels: The file's own texts, by their names.
    """

    shapes: dict[str, tuple[int, ...]]
    labels: dict[str, str]


def read_tensor_header(path: str | os.PathLike, what: str = "file") -> TensorHeader:
    """Names and shapes of the tensors of a ``.safetensors`` file, and its labels.

    Whoever reads the tensors with another package asks this first: it refuses pipes and devices,
    headers of any length, and tensors that reach beyond the file.

    Args:
        path: The file, or a link to it.
        what: What to call it in messages.

    Raises:
        ValueError: As `open_regular`, or it is truncated or no such file.
    """
    where = f"{what} {str(path)!r}"
    with open_regular(path, what) as stream:
        rest = os.fstat(stream.fileno()).st_size - _LENGTH_BYTES
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        if rest < 2 or length > rest or length < 2:
            raise ValueError(
                f"{where} cannot be read (its header would take {length} of {max(rest, 0)} "
                "bytes): truncated or not safetensors, copy it again"
            )
        if length > MAX_HEADER_BYTES:
            raise ValueError(
                f"{where} has a header of {length / 1e6:.0f} MB, more than the "
                f"{MAX_HEADER_BYTES / 1e6:.0f} MB that are read: is it another file?"
            )
        content = stream.read(length)
    values = parse_json(content, f"the header of {where}")
    if not isinstance(values, dict):
        raise ValueError(f"the header of {where} is no object: not safetensors, copy it again")
    labels = values.pop(_LABELS, None)
    labels = {} if labels is None else labels  # safetensors itself takes null for none
    if not isinstance(labels, dict) or not all(isinstance(v, str) for v in labels.values()):
        raise ValueError(f"the labels of {where} are no texts: not safetensors, copy it again")
    shapes = {key: _shape(key, value, rest - length, where) for key, value in values.items()}
    return TensorHeader(shapes, labels)


def _shape(key: str, value: Any, size: int, where: str) -> tuple[int, ...]:
    entry = value if isinstance(value, dict) else {}
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    fine = _are_sides(shape) and _are_sides(offsets) and len(offsets) == 2
    # Even a bit for each number is more than the file has: a shape with a side of zero holds none.
    fine = fine and offsets[0] <= offsets[1] and math.prod(shape) <= 8 * (offsets[1] - offsets[0])
    if not fine or not isinstance(entry.get("dtype"), str):
        raise ValueError(
            f"tensor {quoted(key)} of {where} is not described as safetensors does: copy it again"
        )
    if offsets[1] > size:
        raise ValueError(
            f"{where} cannot be read (tensor {quoted(key)} ends behind the file): truncated, copy "
            "it again"
        )
    return tuple(shape)


def _are_sides(values: Any) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value < _SIDE_LIMIT for value in values
    )
