"""Tensors that a file gives are numbers, each of them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Make sure that no tensor holds NaN or an infinity; each is read once.

    Args:
        tensors: By their names; of any dtype, those of whole numbers are passed over.
        source: What they are of, as a message begins.

    Raises:
        ValueError: One does; names it.
    """
    for name, tensor in tensors.items():
        if (tensor.is_floating_point() or tensor.is_complex()) and not _is_finite(tensor):
            count = int((~torch.isfinite(_stored(tensor))).sum())
            raise ValueError(
                f"{source} holds NaN or an infinity {count} times in {name[:200]!r}: the file is "
                "broken, or its training diverged; use another"
            )


def _is_finite(tensor: Tensor) -> bool:
    if tensor.is_meta:
        return True
    values = _stored(tensor)
    # One number that is none makes the sum none, and the sum takes a single pass without memory of
    # its own; that of numbers alone may overflow, hence the second look.
    total = values.sum()
    if math.isfinite(total.abs().item()):
        return True
    return bool(torch.isfinite(values).all())


def _stored(tensor: Tensor) -> Tensor:
    """What a tensor holds, without the repeats of one that was expanded to any size."""
    if tensor.layout != torch.strided:
        return tensor.coalesce().values() if tensor.is_sparse else tensor.to_dense()
    stored = tensor.untyped_storage()
    if tensor.numel() * tensor.element_size() > stored.nbytes():
        tensor = torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(stored)
    # There is no arithmetic for numbers of eight bits.
    return tensor.float() if tensor.element_size() == 1 else tensor
